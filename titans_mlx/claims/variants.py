"""Claim: memory as context and memory as gate beat memory as a layer."""

import numpy as np

from titans_mlx.claims import distractors
from titans_mlx.claims.base import Claim, Row, Verdict
from titans_mlx.claims.lab import run_lab, scale_of, verdict

BETTER = 0.02
LAYER, OTHERS = "MAL", ("MAC", "MAG")
SHORT, LONG = "as trained", "beyond"


def reach(row: Row) -> str:
    """Whether a test is within what was trained: distractors, or items to copy."""
    most = 8 if row["what"] == distractors.STORED else distractors.TRAINED
    return SHORT if row["x"] <= most else LONG


def means(rows: list[Row]) -> dict[tuple[str, str], list[float]]:
    """Mean accuracy of every training of a model, within its training's reach and beyond it; tasks weigh the same."""
    groups: dict[tuple[str, str], dict[int, dict[str, list[float]]]] = {}
    for row in rows:
        seeds = groups.setdefault((row["model"], reach(row)), {})
        seeds.setdefault(row["seed"], {}).setdefault(row["what"], []).append(row["accuracy"])
    return {
        key: [float(np.mean([np.mean(shares) for shares in tasks.values()])) for tasks in seeds.values()]
        for key, seeds in groups.items()
        if all(set(tasks) >= set(distractors.PARTS) for tasks in seeds.values())
    }


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    found = means([row for row in rows if row["model"] in (LAYER, *OTHERS)])
    parts: dict[str, bool | None] = {}
    figures = []
    for span in (SHORT, LONG):
        layer = found.get((LAYER, span))
        for model in OTHERS:
            other = found.get((model, span))
            complete = layer is not None and other is not None
            parts[f"{model}, {span}"] = bool(np.mean(other) >= np.mean(layer) + BETTER) if complete else None
        named = [f"{model} {np.mean(found[model, span]):.0%}" for model in (*OTHERS, LAYER) if (model, span) in found]
        figures.append(f"{span}: {', '.join(named)}")
    return verdict(parts, "; ".join(figures), scale_of(rows, "four tasks"))


CLAIM = Claim(
    id="variants",
    title="Memory as context, as gate, as layer",
    statement="MAC and MAG beat MAL, on short tasks and beyond the lengths trained.",
    source="Titans (arXiv 2501.00663), sections 5.2 and 5.4, Table 1: MAC and MAG outperform MAL.",
    protocol=f"{distractors.CLAIM.protocol} For this claim the accuracies of MAC, MAG and MAL are averaged, each task "
    "weighing the same, over the tests within what was trained and over those beyond.",
    refuted_by="MAL as good as MAC or MAG.",
    rule="Four parts: MAC and MAG, within the trained lengths and beyond, each better than MAL by at least "
    f"{BETTER:.0%} in the mean over tasks and seeds. All: reproduced; some: reproduced in part; none: not reproduced.",
    jobs=distractors.jobs,
    run_job=run_lab,
    judge=judge,
    evidence=distractors.CLAIM.id,
)
