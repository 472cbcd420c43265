"""Claim: on text longer than any of training, what was read long ago goes on helping, through the memory."""

from titans_mlx.claims import language
from titans_mlx.claims.base import Claim, Row, Verdict
from titans_mlx.claims.judging import verdict
from titans_mlx.claims.lab import CONTROL
from titans_mlx.claims.language import BASELINES, CORPORA, FADING, FAR, LENGTH, TITANS
from titans_mlx.claims.language_runs import RECENT, RESET, WHOLE, WINDOW

MARGIN = 0.01
SPAN = (FAR // 2 + 1, FAR)
BESIDE = ("MAG", "MAL")
"""Whose window of attention goes on when the memory is reset: of LMM and MAC a reset leaves nothing."""


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    rows = language.measured(rows)
    if language.mixed(rows):
        return language.judge(rows)
    far = [row for row in language.far_summary(rows) if (row["first"], row["last"]) == SPAN]
    table = {(row["corpus"], row["model"], row["use"]): row["value"] for row in far}
    parts: dict[str, bool | None] = {}
    figures = []
    for corpus in CORPORA:
        found = []
        for model in TITANS:
            whole, recent, reset = (table.get((corpus, model, use)) for use in (WHOLE, RECENT, RESET))
            complete = None not in (whole, recent, reset)
            parts[f"{model}, more past on {corpus}"] = whole <= (1 - MARGIN) * recent if complete else None
            if model in BESIDE:
                parts[f"{model}, its memory on {corpus}"] = reset >= (1 + MARGIN) * whole if complete else None
            if complete:
                found.append(f"{model} {whole:.3f}, {recent:.3f}, {reset:.3f}")
        for model in (*BASELINES, *FADING, CONTROL):
            uses = (WHOLE, RECENT, RESET) if model in FADING else (WHOLE, RECENT)
            values = [table.get((corpus, model, use)) for use in uses]
            if None not in values:
                found.append(f"beside them {model} {', '.join(f'{value:.3f}' for value in values)}")
        if found:
            figures.append(f"{corpus}: {'; '.join(found)}")
    figure = f"bits per byte after all, after the recent bytes only, with resets: {'; '.join(figures)}"
    return verdict(parts, figure if figures else "", language.scale_of(rows))


CLAIM = Claim(
    id="far_text",
    title="Text beyond the training length",
    statement="On text of 32 times the training length a model with a memory predicts better with all of the past "
    f"than with the last {LENGTH} bytes of it, and it is the memory that tells.",
    source="Titans (arXiv 2501.00663), sections 1 and 5.3: scales to longer contexts than it was trained on; sections "
    "3.1 and 4: the memory holds what attention's window no longer reaches.",
    protocol=language.CLAIM.protocol,
    refuted_by="As few bits per byte from the recent bytes alone, or from a memory that is reset again and again.",
    rule=f"At bytes {SPAN[0]:,} to {SPAN[1]:,} of the long windows, means over seeds. Per Titans and corpus, more "
    f"past: at least {MARGIN:.0%} fewer bits per byte after all of it than after the last {LENGTH // 2} to {LENGTH} "
    f"bytes. For MAG and MAL, whose attention goes on, also their memory: at least {MARGIN:.0%} more with resets every "
    f"{WINDOW} bytes. Twelve parts; all: reproduced; some: reproduced in part; none: not reproduced. "
    "What fades to birth is shown beside, of no weight.",
    jobs=language.jobs,
    run_job=language.run_language,
    judge=judge,
    evidence=language.CLAIM.id,
)
