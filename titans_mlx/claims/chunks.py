"""Claim: a gradient taken anew more often, in smaller chunks, remembers better."""

from typing import Any

import numpy as np

from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.judging import LEARNED, scale_of, summarise, verdict
from titans_mlx.claims.lab import HOW_TRAINED, control_job, lab_job, make_task, run_lab
from titans_mlx.claims.recall_jobs import model_configs
from titans_mlx.claims.statistics import gain, surely
from titans_mlx.config import TitansConfig
from titans_mlx.memory import recipes

SIZES = (1, 4, 16, 64, 256)
MATRIX, DEEP, ONLINE = "LMM matrix, anchored", "LMM deep", "LMM matrix, online"
SEGMENTS = (16, 64)
GAIN, NOISE = 0.05, 0.02
BIRTH: dict[str, Any] = {"conv_birth": "shift", "step_init": 0.1, "decay_init": 0.001}
PAIRS = ((2, 1), (4, 2), (8, 4), (16, 8))
"""Pairs stored in training, and how many of them are bound anew: the more, the farther apart are a key's two values."""
JUDGED = (32, 16)
"""Twice as many as in training: within it a memory with one chunk for all may be right nearly always."""
ENOUGH = 3
"""Trainings of five that must have learned."""
KEYS = ("model", "trained", "x", "ask", "pairs")


def rebinding(pairs: int, rebound: int, ask: str = "all") -> dict[str, Any]:
    """Pairs, some bound anew at once, anywhere within the first tokens; then filler and queries."""
    fields = {"num_pairs": pairs, "num_rebound": rebound, "gap": 0, "distance": 32, "lead": 64, "ask": ask}
    return {"kind": "rebinding", **fields}


def mac_name(segment: int, chunk: int) -> str:
    """A MAC's name by its two lengths."""
    return f"MAC, segment {segment}, chunk {chunk}"


def architectures() -> dict[tuple[str, int], TitansConfig]:
    """By name and chunk size; the online form has none that matters."""
    base = model_configs(make_task(rebinding(*PAIRS[0])).vocab_size)["LMM matrix"]

    def with_memory(memory: Any, **changes: Any) -> TitansConfig:
        return base.replace(memory=memory, **changes)

    made = {(ONLINE, 0): with_memory(recipes.titans_matrix(**BIRTH))}
    for size in SIZES:
        made[MATRIX, size] = with_memory(recipes.titans(depth=1, chunk_size=size, **BIRTH))
        made[DEEP, size] = with_memory(recipes.titans(expansion=2, chunk_size=size, **BIRTH))
    for segment in SEGMENTS:
        for size in SEGMENTS:
            memory = recipes.titans(depth=1, chunk_size=size, **BIRTH)
            made[mac_name(segment, size), size] = with_memory(memory, variant="mac", segment_size=segment)
    return made


def jobs(profile: Profile) -> list[Job]:
    """A job per architecture, each tested at every chunk size.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    train = [rebinding(*pairs) for pairs in PAIRS]

    def job(model: str, size: int, **options: Any) -> Job:
        anchored = model in (MATRIX, DEEP)
        tests = [
            {
                **{"trained": size, "x": x, "pairs": pairs, "ask": ask, "task": rebinding(pairs, rebound, ask)},
                **({"change": {"chunk_size": x}} if anchored else {}),
            }
            for ask in ("rebound", "kept")
            for x in (SIZES if anchored else (size,))
            for pairs, rebound in (*PAIRS, JUDGED)
        ]
        option = f"chunk {size}" if anchored else "paper"
        if anchored and profile == "full":
            options["seeds"] = tuple(range(5))
        return lab_job(model, architectures()[model, size], train, tests, option=option, **options)

    if profile == "full":
        tests = [
            {"trained": 0, "x": 0, "pairs": pairs, "ask": ask, "task": rebinding(pairs, rebound, ask)}
            for ask in ("rebound", "kept")
            for pairs, rebound in (*PAIRS, JUDGED)
        ]
        control = control_job(architectures()[ONLINE, 0], train, tests, steps=1000)
        return [*[job(model, size, steps=1000) for model, size in architectures()], control]
    small: dict[str, Any] = {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),)}
    small |= {"steps": 3, "sequences": 4} if profile == "smoke" else {"steps": 150, "sequences": 32}
    return [job(MATRIX, size, **small) for size in (16, 256)]


def summary(rows: list[Row]) -> list[Row]:
    """One row per model, chunk trained, chunk tested, keys asked and pairs stored."""
    return summarise(rows, KEYS)


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    parts: dict[str, bool | None] = {}
    figures, able = [], counted(rows)
    for model in (MATRIX, DEEP):
        if all(_by_seed(rows, model, size) for size in SIZES):
            name, holds, figure = _judged(model, able)
            parts[name] = holds
            figures.append(figure)
        else:
            parts[model] = None
    many = [row for row in rows if row["pairs"] == JUDGED[0]]
    table = {tuple(r[key] for key in KEYS): r for r in summary(many)}
    online = [table.get((ONLINE, 0, 0, ask, JUDGED[0])) for ask in ("rebound", "kept")]
    if None not in online:
        figures.append(f"{ONLINE} {sum(row['accuracy'] for row in online) / 2:.0%}")
    attending = {
        (segment, size): table.get((mac_name(segment, size), size, size, "rebound", JUDGED[0]))
        for segment in SEGMENTS
        for size in SEGMENTS
    }
    if None not in attending.values():
        listed = ", ".join(f"{s} and {c} {row['accuracy']:.0%}" for (s, c), row in attending.items())
        figures.append(f"beside them MAC by segment and chunk, rebound keys: {listed}")
    return verdict(parts, "; ".join(figures), scale_of(rows, f"{JUDGED[0]} pairs, {JUDGED[1]} of them rebound"))


def counted(rows: list[Row]) -> list[Row]:
    """The rows that count: a training of the matrix or the deep memory that has not learned tells nothing of chunks."""
    able = {(model, size): _learned(rows, model, size) for model in (MATRIX, DEEP) for size in SIZES}
    return [row for row in rows if row["seed"] in able.get((row["model"], row["trained"]), {row["seed"]})]


def _judged(model: str, rows: list[Row]) -> tuple[str, bool, str]:
    """A memory's part by name, whether it holds, and its figures: of rows that count."""
    kept = [_by_seed(rows, model, size) for size in SIZES]
    few = [size for size, found in zip(SIZES, kept, strict=True) if len(found) < ENOUGH]
    shares = [float(np.mean([row["accuracy"] for row in found])) if found else np.nan for found in kept]
    rises = any(_more(b, a, NOISE) for i, a in enumerate(kept) for b in kept[i + 1 :])
    holds = _more(kept[0], kept[-1], GAIN) and not rises and not few
    listed = ", ".join(f"{size}: {value:.0%}" for size, value in zip(SIZES, shares, strict=True))
    learned = ", ".join(str(len(found)) for found in kept)
    below = ", ".join(str(size) for size, found in zip(SIZES, kept, strict=True) if _more(kept[0], found, 0))
    figure = f"{model} by chunk {listed} (learned: {learned} trainings, surely below chunk 1: {below or 'none'})"
    return (model if holds else model + _reason(few, shares[-1])), holds, figure


def _reason(few: list[int], last: float) -> str:
    """Why a memory may not hold though its chunks matter."""
    if few:
        return f" (chunk {few[0]}: fewer than {ENOUGH} trainings learned)"
    return " (no room)" if last > 1 - GAIN else ""


def _learned(rows: list[Row], model: str, size: int) -> set[int]:
    """Seeds that recall the easiest keys at their own chunk: no stale gradient hides what was bound once."""
    own = [row for row in rows if (row["model"], row["trained"], row["x"]) == (model, size, size)]
    easiest = [row for row in own if (row["ask"], row["pairs"]) == ("kept", PAIRS[0][0])]
    return {row["seed"] for row in easiest if row["accuracy"] >= LEARNED}


def _by_seed(rows: list[Row], model: str, size: int) -> list[Row]:
    """A training's rows at its own chunk, with as many pairs as are judged, as one: rebound and kept weigh alike."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        if (row["model"], row["trained"], row["x"], row["pairs"]) == (model, size, size, JUDGED[0]):
            groups.setdefault(row["seed"], []).append(row)
    return [
        {**members[0], "accuracy": float(np.mean([row["accuracy"] for row in members]))} for members in groups.values()
    ]


def _more(first: list[Row], second: list[Row], least: float) -> bool:
    """Whether the first is surely better by so much, over the seeds that both have."""
    shared = {row["seed"] for row in first} & {row["seed"] for row in second}
    a, b = ([row for row in rows if row["seed"] in shared] for rows in (first, second))
    return len(shared) > 1 and surely(gain(a, b), least)


PROTOCOL = f"""
2, 4, 8 or 16 pairs, half of the keys bound anew right after them, filler, all keys asked: the last value counts. Tested
with these and with {JUDGED[0]}. In training the two values of a key stand 2 to 46 tokens apart, and 0 to 64 filler
words come before, so that chunk boundaries fall anywhere. A stale gradient does not see what the same chunk has
written: the new value is added to the old one, which is not erased first. One block of width 64, one head; births:
embedding at 0.02, keys one token late, gates at this package's defaults. 1,000 steps. {HOW_TRAINED} Rebound and kept
keys are asked apart. Matrix and deep memory, both with writes bounded to 1, trained with chunks of 1, 4, 16, 64 and 256
(all of the sequence), with five seeds, each tested with all of them; beside them, with three, the matrix's exact online
form, which has no bound; and MAC with segments and chunks of 16 and 64 in all four ways, to tell chunk from segment,
and the online form closed in training and tests, the control.
"""

CLAIM = Claim(
    id="chunks",
    title="Chunks",
    statement="A memory whose gradients are taken anew at every token remembers better than one with a single chunk "
    "for all, and nowhere between is a larger chunk better.",
    source='Titans (NeurIPS version), appendix E: smaller chunks are "better but slower"; Titans Revisited (arXiv '
    "2510.09551) blames chunking, of attention, for what MAC loses.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by="A larger chunk surely better by 2 points, or chunks of 1 not surely better than 256 by 5.",
    rule=f"A memory (matrix anchored, deep) holds if, trained and tested at the same chunk, its accuracy with "
    f"{JUDGED[0]} pairs (mean of rebound and kept keys) does not rise by {NOISE:.0%} from a smaller chunk to a larger "
    f"one, and chunks of 1 are at least {GAIN:.0%} better than 256. Trainings right in less than {LEARNED:.0%} of the "
    f"keys kept of {PAIRS[0][0]} pairs have not learned and do not count; {ENOUGH} of five must have at every chunk. A "
    "difference counts if its 95 % interval (Student's t over seeds, each with its own counterpart) lies on its side "
    "of 0. Both: reproduced; one: reproduced in part; none: not reproduced.",
    jobs=jobs,
    run_job=run_lab,
    judge=judge,
)
