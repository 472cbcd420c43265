"""Claim: a deeper memory helps more as sequences grow, and its cost grows linearly with its depth."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from titans_mlx.bench import ours
from titans_mlx.bench.measure import by_turns
from titans_mlx.claims.base import Claim, Job, Profile, Progress, Row, Verdict, check_profile, job_id
from titans_mlx.claims.judging import losses, scale_of, verdict
from titans_mlx.claims.lab import CONTROL, HOW_TRAINED, control_job, lab_job, run_lab
from titans_mlx.claims.matching import match_parameters, parameters
from titans_mlx.claims.recall_jobs import model_configs
from titans_mlx.claims.statistics import gain
from titans_mlx.config import TitansConfig
from titans_mlx.memory import recipes

DEPTHS = (1, 2, 3, 4)
LENGTHS = (128, 512, 2048, 8192)
TRAINED, NATS, STRAIGHT = 512, 0.01, 0.1
BIRTH: dict[str, Any] = {"conv_birth": "shift", "step_init": 0.1, "decay_init": 0.001}
PARTS = ("helps", "helps more with length", "linear cost")
COST = "cost"
TESTED = 65_536
"""Bytes read at every length."""


def name(depth: int) -> str:
    """A model's name."""
    return f"depth {depth}"


def prose(length: int, part: str) -> dict[str, Any]:
    """Windows of the prose that ships with Python."""
    return {"kind": "text", "length": length, "part": part}


@cache
def architectures() -> dict[str, TitansConfig]:
    """Memories of each depth, width x 2, in models of equal parameters; all anchored, with chunks of 16."""
    base = model_configs(256)["LMM deep"]
    made = {name(depth): base.replace(memory=recipes.titans(depth=depth, expansion=2, **BIRTH)) for depth in DEPTHS}
    target = parameters(made[name(DEPTHS[-1])])
    return {key: match_parameters(config, target) for key, config in made.items()}


def jobs(profile: Profile) -> list[Job]:
    """A job per depth.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    lengths, depths = (LENGTHS, DEPTHS) if profile == "full" else (LENGTHS[:2], DEPTHS[:2])
    tested = {"full": TESTED, "quick": 4096, "smoke": 512}[profile]
    tests = [{"x": x, "task": prose(x, "test"), "sequences": max(1, tested // x)} for x in lengths]
    options: dict[str, Any] = {"steps": 400}
    if profile != "full":
        options = {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),), "steps": 2 if profile == "smoke" else 60}
    validate = prose(TRAINED, "validation")
    trained = [
        lab_job(name(d), architectures()[name(d)], [prose(TRAINED, "train")], tests, validate=validate, **options)
        for d in depths
    ]
    if profile == "full":
        text = [prose(TRAINED, "train")]
        trained.append(control_job(architectures()[name(1)], text, tests, validate=validate, **options))
    cost = {"model": COST, "depths": list(depths), "length": 64 if profile == "smoke" else 1024, "repeats": 5}
    return [*trained, Job(job_id(options.get("label", ""), COST), cost)]


def run_depth(job: Job, progress: Progress | None = None) -> list[Row]:
    """As ``run_lab``; the job of costs gives a row per depth, the milliseconds of a memory's gradient."""
    settings = job.settings
    if settings["model"] != COST:
        return run_lab(job, progress)
    x = ours.features(1, settings["length"])
    memories = {name(d): ours.memory(recipes.titans(depth=d, chunk_size=64)) for d in settings["depths"]}
    timings = by_turns({key: ours.forward_backward(memory, x) for key, memory in memories.items()}, settings["repeats"])
    return [
        {"model": COST, "of": key, "milliseconds": 1e3 * timing.median, "spread": timing.spread}
        for key, timing in timings.items()
    ]


def summary(rows: list[Row]) -> list[Row]:
    """One row per depth, or control, and length."""
    return losses([row for row in rows if row["model"] != COST], ("model", "x"))


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    table = {(r["model"], r["x"]): r for r in summary(rows)}
    taken = {row["of"]: row["milliseconds"] for row in rows if row["model"] == COST}
    parts: dict[str, bool | None] = dict.fromkeys(PARTS)
    found = [[table.get((name(depth), length)) for length in LENGTHS] for depth in DEPTHS]
    scale = scale_of([row for row in rows if row["model"] != COST], f"prose, {TESTED:,} bytes read at every length")
    if any(None in row for row in found) or len(taken) < len(DEPTHS):
        return verdict(parts, "", scale)
    nats = np.array([[row["nats"] for row in row_of_depth] for row_of_depth in found])
    gained = nats[0] - nats[1:].min(axis=0)
    cost = np.array([taken[name(depth)] for depth in DEPTHS])
    helps = bool(gained[-1] >= NATS)
    # What depth costs is of no interest where it does not help.
    parts = dict(
        zip(PARTS, (helps, bool(gained[-1] >= gained[0] + NATS), helps and bend(DEPTHS, cost) <= STRAIGHT), strict=True)
    )
    tested = [row for row in rows if row["model"] != COST]
    figures = [
        "best of depth 2 to 4 over depth 1, nats a byte by length: "
        + _gains(
            tested, {length: 2 + int(column.argmin()) for length, column in zip(LENGTHS, nats[1:].T, strict=True)}
        ),
        f"a memory's gradient by depth {', '.join(f'{value:.0f}' for value in cost)} ms, off a straight line by "
        f"{bend(DEPTHS, cost):.0%}, of depths 2 to 4 by {bend(DEPTHS[1:], cost[1:]):.0%}",
    ]
    if CONTROL in {row["model"] for row in tested}:
        beside = _gains(tested, dict.fromkeys(LENGTHS, 2), CONTROL)
        figures.append(f"beside them a memory that never writes, over which depth 2 gains {beside}")
    return verdict(parts, "; ".join(figures), scale)


def bend(depths: Sequence[int], cost: np.ndarray) -> float:
    """By which share the costs are off a straight line in the depth, at most."""
    return float(np.abs(cost / np.polyval(np.polyfit(depths, cost, 1), depths) - 1).max())


def _gains(rows: list[Row], depths: dict[int, int], other: str = name(1)) -> str:
    """What a depth gains over another model at each length, nats with intervals over seeds."""
    listed = []
    for length, depth in depths.items():
        first, second = ([r for r in rows if (r["model"], r["x"]) == (model, length)] for model in (other, name(depth)))
        found = gain(first, second, "nats")
        listed.append(f"{length:,} {found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}] (depth {depth})")
    return ", ".join(listed)


PROTOCOL = f"""
LMM, one block of width 64, one head, with memories of depth 1 (a matrix) to 4, width x 2, chunks of 16, parameters
matched within 5 %, trained to say the next byte of prose (the documentation that ships with Python, windows of
{TRAINED} bytes, validated and tested on tenths of their own), 400 steps. {HOW_TRAINED} Tested on windows of
{LENGTHS[0]} to {LENGTHS[-1]:,} bytes, {TESTED:,} bytes at every length, drawn from that tenth, so that windows
overlap. Beside them depth 1 that never writes, the control. Cost is the time of a memory's gradient at the benchmark's
width (256, four heads, width x 4, chunks of 64) over 1,024 tokens, median of five by turns.
"""

CLAIM = Claim(
    id="depth",
    title="Depth of the memory",
    statement="A deeper memory says the next byte better, the more so the longer the text, at a cost linear in "
    "its depth.",
    source="Titans (arXiv 2501.00663), section 5.5, Figures 7 and 8: perplexity falls with depth, most at the "
    "longest sequences; throughput falls linearly.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by="A matrix as good as deeper memories, a gain that does not grow with the length, or a cost that bends.",
    rule="Three parts, means over seeds. Helps: the best of depths 2 to 4 is better than depth 1 by at least "
    f"{NATS} nats a byte at {LENGTHS[-1]:,}. Helps more with length: that gain is at least {NATS} larger than "
    f"at {LENGTHS[0]}. Linear cost: the times are within {STRAIGHT:.0%} of a straight line in the depth, and "
    "depth helps. All: reproduced; some: reproduced in part; none: not reproduced.",
    jobs=jobs,
    run_job=run_depth,
    judge=judge,
)
