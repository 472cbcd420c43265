"""Claim: objectives that grow slower than the square keep recall when some values are outliers."""

import time
from typing import Any

import mlx.core as mx
import numpy as np

from titans_mlx.claims import alone
from titans_mlx.claims.alone import Still, random_pairs, store, unit
from titans_mlx.claims.base import Claim, Job, Profile, Progress, Row, Verdict, check_profile, job_id
from titans_mlx.claims.judging import verdict
from titans_mlx.claims.statistics import accuracy_interval, share
from titans_mlx.config import MemoryConfig

WIDTH, PAIRS, TIMES, SIZE = 32, 16, 8, 10.0
FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
SEARCHED, JUDGED = (0.0, 0.2), 0.2
GAIN, COST = 0.1, 0.02
STRUCTURES = {"matrix": 1, "MLP": 2}
SQUARE, BOUNDED, HUBER, SLOW = "squared error", "squared error, writes bounded", "Huber", "l_1.5"
OBJECTIVES: dict[str, dict[str, Any]] = {
    SQUARE: {},
    BOUNDED: {"write_bound": 1.0},
    HUBER: {"objective": "huber", "threshold": "fixed"},
    SLOW: {"objective": "lp", "loss_power": 1.5},
    "l_3": {"objective": "lp", "loss_power": 3.0},
    "dot product": {"objective": "dot"},
}
STEPS = (0.01, 0.03, 0.1, 0.3, 0.5)
THRESHOLDS = (0.1, 0.3, 1.0)
VALIDATION = 100
"""The seed that thresholds and steps are chosen with."""


def config(structure: str, objective: str) -> MemoryConfig:
    """The memory alone: no decay, no momentum, a gradient at every token."""
    plain = {"depth": STRUCTURES[structure], "norm": False, "conv_size": 0, "decay": "none", "momentum": "none"}
    return MemoryConfig(**{**plain, "chunk_size": 1, "write_bound": None, **OBJECTIVES[objective]})


def jobs(profile: Profile) -> list[Job]:
    """A job per structure and objective.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    options: dict[str, Any] = {"seeds": [0, 1, 2, 3, 4], "sequences": 64, "steps": list(STEPS)}
    label, memories = "", [(structure, objective) for structure in STRUCTURES for objective in OBJECTIVES]
    if profile != "full":
        options, label = {"seeds": [0], "sequences": 16, "steps": list(STEPS[1:4])}, profile
    if profile == "smoke":
        options |= {"sequences": 2, "steps": [0.1]}
        memories = [("matrix", SQUARE), ("matrix", HUBER)]
    return [
        Job(
            job_id(label, structure, objective),
            {"structure": structure, "objective": objective, "fractions": list(FRACTIONS), **options},
        )
        for structure, objective in memories
    ]


def run_outliers(job: Job, progress: Progress | None = None) -> list[Row]:
    """Choose a step, and for Huber a threshold, then store and recall with each seed and share of outliers.

    Returns:
        A row per seed and share ``x``: ``accuracy``, ``correct`` (answers right, per sequence), what was chosen.
    """
    settings, started = job.settings, time.perf_counter()
    structure, objective, count = settings["structure"], settings["objective"], settings["sequences"]
    chosen = config(structure, objective)
    thresholds = THRESHOLDS if objective == HUBER else (1.0,)
    grid = [(step, threshold) for step in settings["steps"] for threshold in thresholds]
    parts = len(grid) + len(settings["seeds"])

    def tried(index: int) -> float:
        if progress is not None:
            progress(f"{objective}, {structure}: choosing a step", index / parts)
        found = [recalled(chosen, *grid[index], (VALIDATION, 0), 16, fraction).mean() for fraction in SEARCHED]
        return float(np.mean(found))

    scores = [tried(index) for index in range(len(grid))]
    step, threshold = grid[int(np.argmax(scores))]
    rows = []
    for index, seed in enumerate(settings["seeds"]):
        if progress is not None:
            progress(f"{objective}, {structure}: storing", (len(grid) + index) / parts)
        for fraction in settings["fractions"]:
            correct = recalled(chosen, step, threshold, (seed, 1), count, fraction)
            row = {"model": f"{structure}, {objective}", "structure": structure, "objective": objective, "seed": seed}
            row |= {"x": fraction, "accuracy": float(correct.mean()), "correct": correct.sum(-1).tolist()}
            row |= {"queries": PAIRS, "sequences": count, "chance": 1 / PAIRS, "step": step, "threshold": threshold}
            rows.append(row)
    seconds = round((time.perf_counter() - started) / len(rows), 3)
    return [row | {"seconds": seconds, "peak_bytes": mx.get_peak_memory()} for row in rows]


def recalled(
    chosen: MemoryConfig, step: float, threshold: float, seed: tuple[int, int], count: int, fraction: float
) -> np.ndarray:
    """Which of the pairs (count, PAIRS) a memory answers rightly after it has read all of them, outliers among them.

    An answer is right if, of all values stored, its own has the largest inner product with what is read.
    """
    keys, values = random_pairs(seed, count, PAIRS, WIDTH)
    rng = np.random.default_rng((*seed, round(1000 * fraction)))
    order = np.concatenate([np.argsort(rng.random((count, PAIRS)), axis=1) for _ in range(TIMES)], axis=1)[:, :, None]
    noise = SIZE * unit(rng.normal(size=(count, order.shape[1], WIDTH)))
    written = np.where(rng.random(order.shape) < fraction, noise, np.take_along_axis(values, order, axis=1))
    gates = Still(theta=step, threshold=threshold)
    stored = store(chosen, np.take_along_axis(keys, order, axis=1), written, gates, seed[0])
    return alone.recalled(stored, keys, values)


def summary(rows: list[Row]) -> list[Row]:
    """One row per memory and share of outliers: mean accuracy over seeds with its 95 % interval."""
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["structure"], row["objective"], row["x"]), []).append(row)
    table = []
    for (structure, objective, x), members in groups.items():
        low, high = accuracy_interval([np.array(m["correct"])[:, None] / m["queries"] for m in members])
        head = {"model": f"{structure}, {objective}", "structure": structure, "objective": objective, "x": x}
        mean = float(np.mean([m["accuracy"] for m in members]))
        counts = {"seeds": len(members), "answers": sum(m["sequences"] * m["queries"] for m in members)}
        table.append({**head, "accuracy": mean, "low": low, "high": high, "chance": members[0]["chance"], **counts})
    return table


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    table = {(row["structure"], row["objective"], row["x"]): row for row in summary(rows)}
    parts: dict[str, bool | None] = {}
    figures = []
    for structure in STRUCTURES:
        found = {name: [table.get((structure, name, x)) for x in (0.0, JUDGED)] for name in OBJECTIVES}
        complete = all(None not in pair for pair in found.values())
        for name in (HUBER, SLOW):
            parts[f"{structure}, {name}"] = _better(found[name], found[SQUARE]) if complete else None
        beyond = complete and found[HUBER][1]["accuracy"] >= found[BOUNDED][1]["accuracy"] + COST
        parts[f"{structure}, {HUBER} beyond a bound"] = beyond if complete else None
        if complete:
            told = ", ".join(f"{name} {share(found[name][1])}" for name in OBJECTIVES)
            figures.append(f"{structure}: {told}")
    figure = f"recall with {JUDGED:.0%} of the values outliers: {'; '.join(figures)}" if figures else ""
    seeds = len({row["seed"] for row in rows})
    scale = f"{PAIRS} pairs of width {WIDTH}, the memory alone, untrained, {seeds} seeds" if rows else ""
    return verdict(parts, figure, scale)


def _better(own: list[Row], square: list[Row]) -> bool:
    """More recall with outliers, by intervals too, and hardly less without."""
    clear = own[1]["accuracy"] >= square[1]["accuracy"] + GAIN and own[1]["low"] > square[1]["high"]
    return clear and own[0]["accuracy"] >= square[0]["accuracy"] - COST


PROTOCOL = f"""
The memory alone, with nothing around it that is trained: {PAIRS} pairs of random unit keys and values, {WIDTH} wide,
each written {TIMES} times in random order; a share of the values written is replaced by outliers, random directions of
size {SIZE:g}. Then every key is read, and an answer is right if its own value has the largest inner product among the
{PAIRS} (chance {1 / PAIRS:.0%}). A matrix born at zero, and an MLP of two layers with a residual and random weights;
no decay, no momentum, a gradient at every token, writes unbounded but in one control. One theta of {STEPS}, and for
Huber one threshold of {THRESHOLDS}, is chosen for each memory by its recall without outliers and with
{SEARCHED[1]:.0%}, on sequences of their own. Five seeds of 64 sequences; intervals over seeds.
"""

CLAIM = Claim(
    id="outliers",
    title="Robust objectives",
    statement="With Huber's loss, or a power of the error below the square, a memory keeps recall that outliers take "
    "from one with the squared error.",
    source="Miras (arXiv 2504.13173), sections 5.1 and 5.3: the squared error is sensitive to outliers, Huber's loss "
    "(Yaad) and l_p are there to protect the memory from extreme values.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by="As much recall with the squared error, or a robust loss that costs recall where there are no outliers, "
    "or that does no more than a bound on each write.",
    rule=f"Six parts, three for the matrix and three for the MLP, at {JUDGED:.0%} of outliers. Huber, and l_1.5, each "
    f"recall at least {GAIN:.0%} more than the squared error, their intervals apart, and at most {COST:.0%} less "
    f"without outliers; and Huber recalls at least {COST:.0%} more than the squared error with each write's norm "
    "bounded to 1. All: reproduced; some: reproduced in part; none: not reproduced.",
    jobs=jobs,
    run_job=run_outliers,
    judge=judge,
)
