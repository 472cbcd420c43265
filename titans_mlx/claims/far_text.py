"""Claim: on text longer than any of training, what the memory has read goes on helping."""

from titans_mlx.claims import language
from titans_mlx.claims.base import Claim, Row, Verdict
from titans_mlx.claims.lab import verdict
from titans_mlx.claims.language import CORPORA, FAR, LENGTH, RESET, TITANS, WHOLE, WINDOW

HELD, NEEDED = 0.01, 0.01
NEAR_SPAN, FAR_SPAN = (LENGTH // 2 + 1, LENGTH), (FAR // 2 + 1, FAR)


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    table = {
        (r["corpus"], r["model"], r["use"], (r["first"], r["last"])): r["value"] for r in language.far_summary(rows)
    }
    parts: dict[str, bool | None] = {}
    figures = []
    for corpus in CORPORA:
        found = []
        for model in TITANS:
            near, far = (table.get((corpus, model, WHOLE, span)) for span in (NEAR_SPAN, FAR_SPAN))
            reset = table.get((corpus, model, RESET, FAR_SPAN))
            complete = None not in (near, far, reset)
            parts[f"{model} holds on {corpus}"] = far <= (1 + HELD) * near if complete else None
            parts[f"{model} needs its memory on {corpus}"] = reset >= (1 + NEEDED) * far if complete else None
            if complete:
                found.append(f"{model} {near:.3f}, {far:.3f}, {reset:.3f}")
        if found:
            figures.append(f"{corpus}: {'; '.join(found)}")
    figure = f"bits per byte within the training length, at 32 times it, there with resets: {'. '.join(figures)}"
    return verdict(parts, figure if figures else "", language.scale_of(rows))


CLAIM = Claim(
    id="far_text",
    title="Text beyond the training length",
    statement=f"On text of 32 times the training length the memory goes on helping: bits per byte do not rise, and "
    f"without what it has read beyond the last {WINDOW} bytes they do.",
    source="Titans (arXiv 2501.00663), sections 1 and 5.3: scales to longer contexts than it was trained on; sections "
    "3.1 and 4: the memory holds what attention's window no longer reaches.",
    protocol=language.CLAIM.protocol,
    refuted_by=f"Bits per byte that rise towards {FAR:,} bytes, or a memory whose reset costs nothing there.",
    rule=f"Per Titans and corpus two parts, sixteen. Holds: at positions {FAR_SPAN[0]:,} to {FAR_SPAN[1]:,} at most "
    f"{HELD:.0%} more bits per byte than at {NEAR_SPAN[0]} to {NEAR_SPAN[1]}. Needs its memory: with every memory "
    f"{RESET} every {WINDOW} bytes at least {NEEDED:.0%} more at {FAR_SPAN[0]:,} to {FAR_SPAN[1]:,}. All: reproduced; "
    "some: reproduced in part; none: not reproduced.",
    jobs=language.jobs,
    run_job=language.run_language,
    judge=judge,
    evidence=language.CLAIM.id,
)
