"""Claim: in MQAR the rule of a memory decides how much it recalls, and a short convolution whether it does at all."""

from typing import Any

from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.family import (
    DEEP,
    DELTA,
    MIRAS,
    NAMES,
    OMEGA,
    STALE,
    SUM,
    TOO_DEAR,
    architectures,
)
from titans_mlx.claims.judging import MORE_RULE, learned, more_part, scale_of, summarise, verdict
from titans_mlx.claims.lab import HOW_TRAINED, control_job, lab_job, run_lab
from titans_mlx.claims.statistics import gain, surely

WITH, WITHOUT = "with convolution", "without convolution"
VOCAB = 160
TRAINED, JUDGED = (4, 8, 16), 32
MORE, MUCH = 0.05, 0.1
OVER = {
    "the error over the sum": (DELTA, SUM),
    "deep over a matrix": (DEEP, STALE),
    **{f"{name} over Titans": (name, DEEP) for name in (*MIRAS, OMEGA)},
}
"""What is claimed of two recipes: that the first recalls more."""


def task(pairs: int) -> dict[str, Any]:
    """The published generator, but for keys among the filler: up to 16 pairs in 64 tokens, 32 in 128."""
    fields = {"length": max(64, 4 * pairs), "num_pairs": pairs, "vocab_size": VOCAB, "spare_keys": True}
    return {"kind": "mqar", **fields}


def jobs(profile: Profile) -> list[Job]:
    """Per recipe, a job with convolution and one without; the matrix that a deep one is compared with; the control.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    train = [task(pairs) for pairs in TRAINED]
    tests = [{"x": pairs, "task": task(pairs)} for pairs in (*TRAINED, JUDGED)]
    options: dict[str, Any] = {"steps": 2000, "tokens_per_step": 1024, "grid": ((3e-3, 0.1), (6e-3, 0.1))}
    names, beside = list(NAMES), [STALE]
    if profile != "full":
        options |= {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),), "steps": 300, "sequences": 32}
        names, beside = [SUM, DELTA], []
    if profile == "smoke":
        options |= {"steps": 2, "sequences": 2}
    made = []
    for option in (WITH, WITHOUT):
        models = architectures(VOCAB, 2, option == WITH)
        chosen = [*names, *beside] if option == WITH else names
        made += [lab_job(name, models[name], train, tests, option=option, **options) for name in chosen]
    if profile == "full":
        models = architectures(VOCAB, 2, True)
        made.append(control_job(models[DEEP], train, tests, option=WITH, **options))
    return made


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    groups = {
        (name, option): [r for r in rows if (r["model"], r["option"], r["x"]) == (name, option, JUDGED)]
        for name in (*NAMES, STALE)
        for option in (WITH, WITHOUT)
    }
    parts = dict(
        more_part(part, groups[first, WITH], groups[second, WITH], MORE) for part, (first, second) in OVER.items()
    )
    gains = {name: (groups[name, WITH], groups[name, WITHOUT]) for name in NAMES}
    complete = all(first and second for first, second in gains.values())
    able = {name: pair for name, pair in gains.items() if learned(pair[0])}
    helped = [surely(gain(first, second), MUCH) for first, second in able.values()] if complete else []
    parts["convolution"] = bool(helped) and all(helped) if complete else None
    figures = [f"{JUDGED} pairs, {option}: {_listed(groups, option)}" for option in (WITH, WITHOUT)]
    figures.append("in brackets where a training has not learned its task")
    return verdict(parts, "; ".join(figures) if rows else "", scale_of(rows, "two blocks of width 64"))


def _listed(groups: dict[tuple[str, str], list[Row]], option: str) -> str:
    """Accuracies in per cent; in brackets where a training has not learned its task."""
    told = []
    for (name, of), rows in groups.items():
        for row in summarise(rows, ("model",)) if of == option else []:
            told.append(f"{name} {row['accuracy']:.0%}" if learned(rows) else f"{name} ({row['accuracy']:.0%})")
    return ", ".join(told) or "not run"


PROTOCOL = f"""
Multi-query associative recall with the published generator: pairs first, then every key once more among random filler.
4, 8 and 16 pairs in 64 tokens, in equal parts; a vocabulary of {VOCAB} where the paper has 8,192, which needs more
steps than two cores have, and no key of a sequence among its filler, where so few words would put many. Every recipe's
memory but that of {TOO_DEAR}, whose training is too dear, in two blocks of width 64 with four heads (deep memories
twice as wide inside), matched in parameters within 5 %, once with short convolutions, whose keys are born one token
late, and once without any. A matrix takes its gradients at every token, a deep memory every 16; so the deep one is
compared with a matrix that does as it does. 2,000 steps for all: what is learned slowly counts as not learned.
{HOW_TRAINED} Here batches are of 1,024 tokens, and the rates 0.003 and 0.006. Tested with 4 to 16 pairs in 64 tokens,
and {JUDGED} in 128. Beside them Titans (LMM) that never writes, the control.
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
    rule=f"{len(OVER) + 1} parts, at {JUDGED} pairs. DeltaNet over linear attention, Titans (LMM) over a matrix with "
    "the same chunks, and each of Moneta, Yaad, Memora and OmegaNet over Titans (LMM): at least "
    f"{MORE:.0%} more answers right, with convolutions. {MORE_RULE} And every recipe that has learned with "
    f"convolutions is right by so much, {MUCH:.0%}, more than without. All: reproduced; some: reproduced in part; "
    "none: not reproduced.",
    jobs=jobs,
    run_job=run_lab,
    judge=judge,
)
