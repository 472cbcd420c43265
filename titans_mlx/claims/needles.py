"""Claim: Titans find a needle as well at eight times the length they were trained at; other recurrences fall."""

from collections.abc import Sequence
from typing import Any, get_args

from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.judging import LEARNED, scale_of, texts, verdict
from titans_mlx.claims.lab import CONTROL, HOW_TRAINED, control_job, lab_job, make_task, run_lab
from titans_mlx.claims.reach import FLAT, GOOD, RULE, STEP, TAPS, judge_reach, reach_models
from titans_mlx.claims.recall_jobs import TITANS
from titans_mlx.config import TitansConfig
from titans_mlx.tasks.needle import Needle

KINDS: tuple[Needle, ...] = get_args(Needle)
RECURRENT = ("DeltaNet", "Gated DeltaNet", "TTT MLP")
MODELS = (*TITANS, *RECURRENT)
UNBOUNDED = ("TTT MLP",)
UNBOUNDED_GRID = ((2e-3, 0.1), (4e-3, 0.1), (1e-3, 0.1))
"""A lower rate besides: at 0.002 one seed's gradients are no longer finite, at 0.004 nothing is learned."""
LENGTHS = (2048, 4096, 8192, 16_384)
TRAINED, FAR = LENGTHS[0], LENGTHS[-1]
SHORT = (192, 192, 192, 192, 256, 256, 512, 1024)
"""Trained besides, the shortest more often: a needle is first learned where little else is read."""


def _needle(kind: str, length: int, part: str = "train") -> dict[str, Any]:
    return {"kind": "needle", "needle": kind, "length": length, "part": part}


def architectures() -> dict[str, TitansConfig]:
    """One block of each model, over bytes."""
    return reach_models(make_task(_needle("uuid", TRAINED)).vocab_size, MODELS, 1)


def _job(model: str, lengths: Sequence[int], train: Sequence[int], least: int, read: int, **options: Any) -> Job:
    tests = [
        {"what": kind, "x": length, "task": _needle(kind, length, "test"), "sequences": max(least, read // length)}
        for kind in KINDS
        for length in lengths
    ]
    tasks = [_needle(kind, length) for length in train for kind in KINDS]
    validate = _needle("uuid", train[-1], "validation")
    if model == CONTROL:
        return control_job(architectures()[TITANS[0]], tasks, tests, validate=validate, **options)
    return lab_job(model, architectures()[model], tasks, tests, validate=validate, **options)


def full_job(model: str, **options: Any) -> Job:
    """A model's job of the full profile; ``options`` are those of ``lab_job``, such as other seeds."""
    return _job(model, LENGTHS, (*SHORT, TRAINED), 32, 65_536, steps=1200, tokens_per_step=4096, **options)


def jobs(profile: Profile) -> list[Job]:
    """A job per model, trained on the three kinds of needles together.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)

    rates = {model: {"grid": UNBOUNDED_GRID} for model in UNBOUNDED}
    if profile == "full":
        return [full_job(model, **rates.get(model, {})) for model in (*MODELS, CONTROL)]
    small: dict[str, Any] = {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),)}
    if profile == "smoke":
        return [_job(m, (256, 512), (256,), 4, 1024, steps=2, **small) for m in (TITANS[0], RECURRENT[0])]
    few = {"steps": 300, "tokens_per_step": 4096, **small}
    return [_job(m, (256, 512, 1024), SHORT[:1], 4, 16_384, **few) for m in (TITANS[0], RECURRENT[0])]


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    if len(texts(rows)) > 1:
        return Verdict("unfinished", "rows of several versions of the prose", scale_of(rows, "single needles"))
    parts, figure = judge_reach(rows, {kind: kind for kind in KINDS}, RECURRENT, TRAINED, FAR, falling=True)
    return verdict(parts, figure, scale_of(rows, "single needles"))


PROTOCOL = f"""
One needle, "The magic number for rijay is: 8174880.", anywhere in a haystack of bytes, the question at the end, every
digit of the answer counted on its own, given those before it. Three kinds, as in RULER: a number of seven digits in
noise (five sentences over and over), the same in prose, 32 hexadecimal digits in prose. The prose is the reference
documentation that ships with Python, each paragraph once; trained, validated and tested on parts of their own. Trained
on all kinds together at {SHORT[0]} to {TRAINED:,} bytes, the shortest more often, 1,200 steps. {HOW_TRAINED} Here the
batches are of 4,096 bytes, and validation is on the third kind at {TRAINED:,} bytes. Tested at {LENGTHS[0]:,} to
{FAR:,} bytes, 32 sequences of each kind at each length. The Titans of the claim on recall over distance, DeltaNet,
Gated DeltaNet and TTT (MLP), one block of width 64, parameters matched within 5 %, with that claim's births (where a
model has such gates; TTT's writes are unbounded, as published, so it has a rate of 0.001 besides, and a rate at which
any seed diverges serves none) but theta at {STEP} and short convolutions of {TAPS} taps; and LMM matrix with a memory
that stands still, the control. Lengths, births and steps were chosen by single runs of another seed on the validation
part of the prose.
"""

CLAIM = Claim(
    id="needles",
    title="Needles in haystacks",
    statement=f"Trained at {TRAINED:,} bytes, a Titan finds a needle as well at {FAR:,}; other recurrences fall.",
    source="Titans (arXiv 2501.00663), section 5.3, Table 2: S-NIAH of RULER (arXiv 2404.06654), 2K to 16K tokens.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by=f"No Titans variant at {GOOD:.0%} of the digits at {FAR:,} bytes; another recurrence as good.",
    rule="Two parts per kind of needle. "
    + RULE.format(far=FAR, near=TRAINED, unit="bytes", others="every other recurrence is")
    + f" They fall, besides: those right in {LEARNED:.0%} of the digits at {TRAINED:,} bytes, of which there must be "
    f"one, are right in more than {FLAT:.0%} fewer at {FAR:,}.",
    jobs=jobs,
    run_job=run_lab,
    judge=judge,
)
