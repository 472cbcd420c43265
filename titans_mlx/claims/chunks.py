"""Claim: a gradient taken anew more often, in smaller chunks, remembers better."""

from typing import Any

import numpy as np

from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.judging import LEARNED, learned, scale_of, summarise, verdict
from titans_mlx.claims.lab import HOW_TRAINED, lab_job, make_task, run_lab
from titans_mlx.claims.recall_jobs import model_configs
from titans_mlx.claims.statistics import gain, share, surely
from titans_mlx.config import TitansConfig
from titans_mlx.memory import recipes

SIZES = (1, 4, 16, 64, 256)
MATRIX, DEEP, ONLINE = "LMM matrix, anchored", "LMM deep", "LMM matrix, online"
SEGMENTS = (16, 64)
GAIN, NOISE = 0.05, 0.02
BIRTH: dict[str, Any] = {"conv_birth": "shift", "step_init": 0.1, "decay_init": 0.001}
PAIRS = ((2, 1), (4, 2), (8, 4), (16, 8))
"""Pairs stored, and how many of them are bound anew: the more, the farther apart are the two values of a key."""
KEYS = ("model", "trained", "x", "ask")


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

    def job(model: str, size: int, **options: Any) -> Job:
        anchored = model in (MATRIX, DEEP)
        tests = [
            {
                **{"trained": size, "x": x, "pairs": pairs, "ask": ask, "task": rebinding(pairs, rebound, ask)},
                **({"change": {"chunk_size": x}} if anchored else {}),
            }
            for ask in ("rebound", "kept")
            for x in (SIZES if anchored else (size,))
            for pairs, rebound in PAIRS
        ]
        option = f"chunk {size}" if anchored else "paper"
        train = [rebinding(*pairs) for pairs in PAIRS]
        return lab_job(model, architectures()[model, size], train, tests, option=option, **options)

    if profile == "full":
        return [job(model, size, steps=1000) for model, size in architectures()]
    small: dict[str, Any] = {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),)}
    small |= {"steps": 3, "sequences": 4} if profile == "smoke" else {"steps": 150, "sequences": 32}
    return [job(MATRIX, size, **small) for size in (16, 256)]


def summary(rows: list[Row]) -> list[Row]:
    """One row per model, chunk trained, chunk tested and keys asked; numbers of pairs weigh the same."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((*[row[key] for key in KEYS], row["seed"]), []).append(row)
    averaged = []
    for members in groups.values():
        shares = np.mean([np.array(m["correct"]) / m["queries"] for m in members], axis=0)
        averaged.append({**members[0], "accuracy": float(shares.mean()), "correct": shares.tolist(), "queries": 1})
    return summarise(averaged, KEYS)


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    table = {tuple(r[key] for key in KEYS): r for r in summary(rows)}
    parts: dict[str, bool | None] = {}
    figures = []
    for model in (MATRIX, DEEP):
        own = [_by_seed(rows, model, size) for size in SIZES]
        if not all(own):
            parts[model] = None
            continue
        rises = any(surely(gain(b, a), NOISE) for i, a in enumerate(own) for b in own[i + 1 :])
        parts[model] = all(map(learned, own)) and not rises and surely(gain(own[0], own[-1]), GAIN)
        shares = [np.mean([row["accuracy"] for row in members]) for members in own]
        listed = ", ".join(f"{size}: {value:.0%}" for size, value in zip(SIZES, shares, strict=True))
        worst = min(row["validation_accuracy"] for members in own for row in members)
        rebound = share(table[model, SIZES[-1], SIZES[-1], "rebound"])
        told = f"rebound keys at {SIZES[-1]}: {rebound}, validated from {worst:.0%} on"
        figures.append(f"{model} by chunk {listed} ({told})")
    online = [table.get((ONLINE, 0, 0, ask)) for ask in ("rebound", "kept")]
    if None not in online:
        figures.append(f"{ONLINE} {sum(row['accuracy'] for row in online) / 2:.0%}")
    return verdict(parts, "; ".join(figures), scale_of(rows, "2 to 16 pairs, half of them rebound"))


def _by_seed(rows: list[Row], model: str, size: int) -> list[Row]:
    """A training's rows at its own chunk as one: rebound and kept keys and every number of pairs weigh the same."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        if (row["model"], row["trained"], row["x"]) == (model, size, size):
            groups.setdefault(row["seed"], []).append(row)
    return [
        {**members[0], "accuracy": float(np.mean([row["accuracy"] for row in members]))} for members in groups.values()
    ]


PROTOCOL = f"""
2, 4, 8 or 16 pairs, half of the keys bound anew right after them, filler, all keys asked: the last value counts. The
two values of a key stand 2 to 46 tokens apart, and 0 to 64 filler words come before, so that chunk boundaries fall
anywhere. A stale gradient does not see what the same chunk has written: the new value is added to the old one, which
is not erased first. One block of width 64, one head; births: embedding at 0.02, keys one token late, gates at this
package's defaults. 1,000 steps. {HOW_TRAINED} Rebound and kept keys are asked apart, every number of pairs weighs the
same. Matrix and deep memory, both with writes bounded to 1, trained with chunks of 1, 4, 16, 64 and 256 (all of the
sequence), each tested with all of them; beside them the matrix's exact online form, which has no bound; and MAC with
segments and chunks of 16 and 64 in all four ways, to tell chunk from segment.
"""

CLAIM = Claim(
    id="chunks",
    title="Chunks",
    statement="The smaller the chunks after which gradients are taken anew, the better a memory remembers.",
    source='Titans (NeurIPS version), appendix E: smaller chunks are "better but slower"; Titans Revisited (arXiv '
    "2510.09551) blames chunking, of attention, for what MAC loses.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by="A larger chunk better by more than 2 points, or chunks of 1 less than 5 points better than 256.",
    rule=f"A memory (matrix anchored, deep) holds if, trained and tested at the same chunk, its accuracy (mean of "
    f"rebound and kept keys) does not rise by {NOISE:.0%} from a smaller chunk to a larger one, chunks of 1 are at "
    f"least {GAIN:.0%} better than 256, and every training was right in {LEARNED:.0%} of its validation answers. A "
    "difference counts if its 95 % interval (Student's t over seeds, each with its own counterpart) lies on its side "
    "of 0. Both: reproduced; one: reproduced in part; none: not reproduced.",
    jobs=jobs,
    run_job=run_lab,
    judge=judge,
)
