"""Claim: a memory must be trained to write; on a backbone that was trained without, it does next to nothing."""

from dataclasses import replace
from functools import cache
from typing import Any

from titans_mlx.claims.base import Claim, Job, Profile, Progress, Row, Verdict, check_profile, part
from titans_mlx.claims.interventions import CLOSED as NO_WRITES
from titans_mlx.claims.judging import losses, scale_of, verdict
from titans_mlx.claims.lab import HOW_TRAINED, lab_job, run_lab, test_model, train_model
from titans_mlx.claims.language import BORN
from titans_mlx.claims.matching import match_parameters, parameters
from titans_mlx.claims.recall_jobs import model_configs
from titans_mlx.claims.search import Trained, train_all
from titans_mlx.config import TitansConfig
from titans_mlx.memory import recipes

MODELS = ("LMM deep", "MAC", "MAG")
LEARNING, FROZEN = "trained with writes", "trained without writes"
WRITES, CLOSED, RESET = "writes", "no writes", "reset every 256 bytes"
CHANGES: dict[str, dict[str, Any]] = {WRITES: {}, CLOSED: NO_WRITES, RESET: {"reset_every": 256}}
FADING = "MAG, fading to birth"
"""The model of an attempt beside the rule: its weights fade to those at birth instead of to 0."""
ADDED, ADDED_STILL = "memory added, writing", "memory added, still"
"""Trained in two halves: all without writes, then the memory alone, the rest frozen; writing, or as its control."""
ADDITIONS = {ADDED: WRITES, ADDED_STILL: CLOSED}
LENGTHS = (256, 1024, 4096)
TRAINED, NATS = 512, 0.01
TESTED = 65_536
"""Bytes read at every length."""
BIRTH: dict[str, Any] = {"conv_birth": "shift", "step_init": 0.1, "decay_init": 0.001}


def prose(length: int, part: str) -> dict[str, Any]:
    """Windows of the prose that ships with Python."""
    return {"kind": "text", "length": length, "part": part}


@cache
def architectures() -> dict[str, TitansConfig]:
    """Models with a deep memory, matched in parameters; attention spans 32 bytes.

    Without persistent tokens, which are absorbed at birth with gates open: the backbone's memory is to stand still.
    """
    models, memory = model_configs(256), recipes.titans(expansion=2, **BIRTH)
    made = {name: models[name].replace(memory=memory, num_persistent=0) for name in MODELS}
    made[FADING] = made[MODELS[2]].replace(memory=memory.replace(decay_to="birth", decay_init=BORN["decay_init"]))
    target = parameters(made[MODELS[1]])
    return {name: match_parameters(config, target) for name, config in made.items()}


def jobs(profile: Profile) -> list[Job]:
    """A job per model and way of training; in the full profile, besides, those of the attempt.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    lengths = LENGTHS if profile == "full" else LENGTHS[:1]
    tested = {"full": TESTED, "quick": 2048, "smoke": 512}[profile]

    def job(model: str, trained: str, **options: Any) -> Job:
        closed = None if trained == LEARNING else CHANGES[CLOSED]
        tests = [
            {
                **{"trained": trained, "use": use, "x": length, "change": change},
                **{"task": prose(length, "test"), "sequences": tested // length},
            }
            for use, change in CHANGES.items()
            for length in lengths
            if length > 256 or use != RESET
        ]
        given: dict[str, Any] = {"option": trained, "validate": prose(TRAINED, "validation"), "train_change": closed}
        made = lab_job(model, architectures()[model], [prose(TRAINED, "train")], tests, **given, **options)
        added = {"added": ADDITIONS[trained]} if trained in ADDITIONS else {}
        return replace(made, settings=made.settings | added)

    if profile == "full":
        return [job(m, t, steps=400) for m in MODELS for t in (LEARNING, FROZEN)] + [
            job(FADING, t, steps=400) for t in (LEARNING, *ADDITIONS)
        ]
    small: dict[str, Any] = {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),)}
    small |= {"steps": 2} if profile == "smoke" else {"steps": 60}
    return [job(MODELS[0], trained, **small) for trained in (LEARNING, FROZEN)]


def run_frozen(job: Job, progress: Progress | None = None) -> list[Row]:
    """As ``run_lab``; where a memory is added, its training follows that of all the rest."""
    settings = job.settings
    if "added" not in settings:
        return run_lab(job, progress)
    second = settings | {"train_change": {} if settings["added"] == WRITES else settings["train_change"]}

    def train_one(entry: tuple[float, float], seed: int, progress: Progress | None) -> Trained:
        first = train_model(settings, entry, seed, part(progress, 0, 2))
        other = train_model(second, entry, seed, part(progress, 1, 2), first.model)
        return other._replace(seconds=first.seconds + other.seconds)

    trained, scores = train_all(settings["grid"], settings["seeds"], train_one, progress)
    return [{**row, "grid_scores": scores} for each in trained for row in test_model(settings, each)]


def summary(rows: list[Row]) -> list[Row]:
    """One row per model, training, use and length."""
    return losses(rows, ("model", "trained", "use", "x"))


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    nats = {(r["model"], r["trained"], r["use"], r["x"]): r["nats"] for r in summary(rows)}
    parts: dict[str, bool | None] = {}
    figures = []
    for model in MODELS:
        wanted = [(trained, use, LENGTHS[-1]) for trained in (LEARNING, FROZEN) for use in CHANGES]
        wanted += [(trained, use, length) for trained, use, _ in wanted if use != RESET for length in LENGTHS]
        if any((model, *key) not in nats for key in wanted):
            parts[model] = None
            continue

        def gained(trained: str, use: str, length: int, model: str = model) -> float:
            return nats[model, trained, CLOSED, length] - nats[model, trained, use, length]

        learning, frozen = (gained(trained, WRITES, LENGTHS[-1]) for trained in (LEARNING, FROZEN))
        parts[model] = learning >= NATS > abs(frozen)
        listed = ", ".join(f"{gained(LEARNING, WRITES, length):+.3f} at {length:,}" for length in LENGTHS)
        figures.append(
            f"{model}: {LEARNING} {listed} bytes ({gained(LEARNING, RESET, LENGTHS[-1]):+.3f} there, {RESET}), without "
            f"{frozen:+.3f}, its loss at {LENGTHS[0]} bytes {nats[model, LEARNING, WRITES, LENGTHS[0]]:.3f}, that of a "
            f"backbone that never writes {nats[model, FROZEN, CLOSED, LENGTHS[0]]:.3f}"
        )
    beside = _attempt(nats)
    figures += [f"beside them {beside}"] if beside else []
    told = "nats a byte gained by writing at test time, " if figures else ""
    return verdict(parts, told + "; ".join(figures), scale_of(rows, f"prose of {LENGTHS[-1]:,} bytes"))


def _attempt(nats: dict[tuple[str, str, str, int], float]) -> str:
    """What the attempt found; empty until it has run."""
    uses = {LEARNING: WRITES, **ADDITIONS}
    found = {trained: [nats.get((FADING, trained, use, x)) for x in LENGTHS] for trained, use in uses.items()}
    if any(None in values for values in found.values()):
        return ""
    listed = [f"{trained} {', '.join(f'{value:.3f}' for value in values)}" for trained, values in found.items()]
    return f"{FADING}, nats a byte at {', '.join(f'{x:,}' for x in LENGTHS)} bytes: {'; '.join(listed)}"


PROTOCOL = f"""
Models with a deep memory (two layers, width x 2), one block of width 64, attention over 32 bytes, trained to say the
next byte of prose (the documentation that ships with Python; windows of {TRAINED}, validated and tested on tenths of
their own), 400 steps: once as ever, once with theta and alpha closed, so that the memory never moves from its initial
weights (the backbone). {HOW_TRAINED} Then nothing is trained any more, and windows of {LENGTHS[0]} to {LENGTHS[-1]:,}
bytes are read, {TESTED:,} bytes at every length, drawn from that tenth, so that windows overlap: with writes, without,
and with the memory reset every 256 bytes. None has persistent tokens. The backbone's gates were never trained: but for
weight decay they write as they were born. As an attempt after these runs, of no weight in the rule, MAG with weights
that fade to those at birth instead of to 0 (alpha born at {BORN["decay_init"]} instead of {BIRTH["decay_init"]}):
trained with writes; and trained for 400 steps without and then, all but the memory frozen, for 400 more, over the same
batches, in which the memory alone is trained, with writes or, as the control, without.
"""

CLAIM = Claim(
    id="frozen",
    title="Frozen backbone, learning memory",
    statement="Writing at test time helps a model that was trained to write, and does next to nothing for a "
    "backbone that was trained without.",
    source="Titans Revisited (arXiv 2510.09551): with a frozen backbone, updates of the memory at test time "
    "change the fourth decimal; Titans (arXiv 2501.00663), section 3.1: the memory goes on learning at test "
    "time.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by="No gain from writing in a model trained with it, or a change by it in one trained without.",
    rule=f"A part for each of LMM, MAC and MAG, at {LENGTHS[-1]:,} bytes, means over seeds: trained with writes, "
    f"writing gains at least {NATS} nats a byte over not writing, and trained without, writing changes less "
    "than that. All: reproduced; some: reproduced in part; none: not reproduced.",
    jobs=jobs,
    run_job=run_frozen,
    judge=judge,
)
