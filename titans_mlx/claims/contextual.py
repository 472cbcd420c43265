"""Claim: the contextual memory holds what was read, the persistent tokens what the task is, and both are needed."""

from titans_mlx.claims import gating
from titans_mlx.claims.base import Claim, Row, Verdict
from titans_mlx.claims.gating import BARE, FROZEN, NEVER_HAD, RESET, WHOLE
from titans_mlx.claims.judging import LEARNED, scale_of, summarise, verdict
from titans_mlx.claims.lab import run_lab
from titans_mlx.claims.recall_jobs import TITANS
from titans_mlx.claims.statistics import share

HALF, NEEDED = 0.5, 0.05


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    told = [row for row in rows if row["use"] and not row["gate"]]
    table = {(r["model"], r["use"]): r for r in summarise(told, ("model", "use"))}
    parts: dict[str, bool | None] = {}
    figures = []
    for model in TITANS:
        found = {use: table.get((model, use)) for use in (WHOLE, FROZEN, RESET, BARE)}
        whole = found[WHOLE]
        if whole is None:
            parts |= {f"{model}, contextual": None, f"{model}, persistent": None}
            continue
        middle = whole["chance"] + HALF * (whole["accuracy"] - whole["chance"])
        learned = whole["worst"] >= LEARNED
        parts[f"{model}, contextual"] = learned and all(found[use]["accuracy"] <= middle for use in (FROZEN, RESET))
        parts[f"{model}, persistent"] = learned and found[BARE]["accuracy"] <= whole["accuracy"] - NEEDED
        rest = ", ".join(f"{use} {found[use]['accuracy']:.0%}" for use in (FROZEN, RESET, BARE))
        never = table.get((model, NEVER_HAD))
        figures.append(f"{model} {share(whole)}, {rest}" + (f", {NEVER_HAD} {never['accuracy']:.0%}" if never else ""))
    return verdict(parts, "; ".join(figures), scale_of(rows, f"distance {gating.DISTANCE}"))


CLAIM = Claim(
    id="contextual",
    title="Contextual and persistent memory",
    statement="Titans need both: the contextual memory, written at test time, and the persistent tokens.",
    source="Titans (arXiv 2501.00663), sections 3.3 and 4, Table 5: without persistent memory results fall.",
    protocol=f"{gating.CLAIM.protocol} For this claim the same trained models are tested once more: without writes "
    f"while reading (alpha and theta 0), with every memory {RESET} (attention goes on, but MAC's segment ends there "
    "too), and without their four persistent tokens. Shown beside, of no weight in the rule and added after it was "
    "judged: models trained without them.",
    refuted_by="A variant that recalls as well without writes, with a memory reset, or without persistent tokens.",
    rule="Per variant two parts. Contextual: without writes and with resets, each, at least half of the accuracy above "
    f"chance is lost. Persistent: without persistent tokens at least {NEEDED:.0%} are lost. A variant of which a "
    f"seed is right in less than {LEARNED:.0%} of its answers shows neither. All ten: reproduced; some: "
    "reproduced in part; none: not reproduced.",
    jobs=gating.jobs,
    run_job=run_lab,
    judge=judge,
    evidence=gating.CLAIM.id,
)
