"""Claim: in MQAR the rule of a memory decides how much it recalls, and a short convolution whether it does at all."""

from typing import Any

import numpy as np

from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.family import DEEP, DELTA, MATRIX, MIRAS, NAMES, OMEGA, SUM, TOO_DEAR, architectures
from titans_mlx.claims.lab import HOW_TRAINED, lab_job, run_lab, scale_of, summarise, verdict

WITH, WITHOUT = "with convolution", "without convolution"
VOCAB = 160
TRAINED, JUDGED = (4, 8, 16), 32
MORE, MUCH = 0.05, 0.1
OVER = {
    "the error over the sum": (DELTA, SUM),
    "deep over a matrix": (DEEP, MATRIX),
    **{f"{name} over Titans": (name, DEEP) for name in (*MIRAS, OMEGA)},
}
"""What is claimed of two recipes: that the first recalls more."""


def task(pairs: int) -> dict[str, Any]:
    """The published generator: up to 16 pairs in 64 tokens, 32 in 128."""
    return {"kind": "mqar", "length": max(64, 4 * pairs), "num_pairs": pairs, "vocab_size": VOCAB}


def jobs(profile: Profile) -> list[Job]:
    """Per recipe, one job with convolution and one without.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    train = [task(pairs) for pairs in TRAINED]
    tests = [{"x": pairs, "task": task(pairs)} for pairs in (*TRAINED, JUDGED)]
    options: dict[str, Any] = {"steps": 800, "tokens_per_step": 1024}
    names = list(NAMES)
    if profile != "full":
        options |= {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),), "steps": 300, "sequences": 32}
        names = [SUM, DELTA]
    if profile == "smoke":
        options |= {"steps": 2, "sequences": 2}
    made = []
    for option in (WITH, WITHOUT):
        models = architectures(VOCAB, 2, option == WITH)
        made += [lab_job(name, models[name], train, tests, option=option, **options) for name in names]
    return made


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    table = {(r["model"], r["option"], r["x"]): r["accuracy"] for r in summarise(rows, ("model", "option", "x"))}
    at = {option: {name: table.get((name, option, JUDGED)) for name in NAMES} for option in (WITH, WITHOUT)}
    parts: dict[str, bool | None] = {}
    for part, (first, second) in OVER.items():
        own, other = at[WITH][first], at[WITH][second]
        parts[part] = None if own is None or other is None else own >= other + MORE
    complete = all(None not in found.values() for found in at.values())
    means = {option: float(np.mean(list(found.values()))) if complete else None for option, found in at.items()}
    parts["convolution"] = means[WITH] >= means[WITHOUT] + MUCH if complete else None
    told = ", ".join(f"{name} {value:.0%}" for name, value in at[WITH].items() if value is not None)
    figure = f"{JUDGED} pairs, {WITH}: {told}" if told else ""
    if complete:
        figure += f"; mean {means[WITH]:.0%}, {WITHOUT} {means[WITHOUT]:.0%}"
    return verdict(parts, figure, scale_of(rows, "two blocks of width 64"))


PROTOCOL = f"""
Multi-query associative recall with the published generator: pairs first, then every key once more among random filler,
most of them soon. 4, 8 and 16 pairs in 64 tokens, in equal parts; a vocabulary of {VOCAB} where the paper has 8,192,
which needs more steps than two cores have. Every recipe's memory but that of {TOO_DEAR}, whose training is too dear,
in two blocks of width 64 with four heads (deep memories twice as wide inside), matched in parameters within 5 %, once
with short convolutions, whose keys are born one token late, and once without any. 800 steps. {HOW_TRAINED} Here batches
are of 1,024 tokens. Tested with 4 to 16 pairs in 64 tokens, and {JUDGED} in 128.
"""

CLAIM = Claim(
    id="mqar",
    title="MQAR over the Miras family",
    statement="In multi-query associative recall a memory that corrects its error recalls more than one that adds, a "
    "deep one more than a matrix, the models of Miras and OmegaNet more than Titans; and all need a short convolution.",
    source="Zoology (arXiv 2312.04927); Yang et al. (arXiv 2406.06484), section 4.1: DeltaNet on MQAR; Miras (arXiv "
    "2504.13173), section 6; ATLAS (arXiv 2505.23735), sections 3 and 6.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by="No more recall for the first of two recipes than for the second; as much without convolutions.",
    rule=f"{len(OVER) + 1} parts, at {JUDGED} pairs, mean over seeds. DeltaNet over linear attention, Titans (LMM) "
    "over Titans as a matrix, and each of Moneta, Yaad, Memora and OmegaNet over Titans (LMM): at least "
    f"{MORE:.0%} more answers right, with convolutions. And the mean over all recipes is at least {MUCH:.0%} higher "
    "with them than without. All: reproduced; some: reproduced in part; none: not reproduced.",
    jobs=jobs,
    run_job=run_lab,
    judge=judge,
)
