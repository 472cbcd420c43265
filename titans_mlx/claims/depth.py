"""Claim: a deeper memory helps more as sequences grow, and its cost grows linearly with its depth."""

from typing import Any

import numpy as np

from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.lab import HOW_TRAINED, lab_job, run_lab, scale_of, summarise, verdict
from titans_mlx.claims.matching import match_parameters, parameters
from titans_mlx.claims.recall_jobs import model_configs
from titans_mlx.config import TitansConfig
from titans_mlx.memory import recipes

DEPTHS = (1, 2, 3, 4)
LENGTHS = (128, 512, 2048, 8192)
TRAINED, NATS, STRAIGHT = 512, 0.01, 0.1
BIRTH: dict[str, Any] = {"conv_birth": "shift", "step_init": 0.1, "decay_init": 0.001}
PARTS = ("helps", "helps more with length", "linear cost")


def name(depth: int) -> str:
    """A model's name."""
    return f"depth {depth}"


def prose(length: int, part: str) -> dict[str, Any]:
    """Windows of the prose that ships with Python."""
    return {"kind": "text", "length": length, "part": part}


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
    tests = [{"x": length, "task": prose(length, "test")} for length in lengths]
    options: dict[str, Any] = {"steps": 400, "sequences": 16}
    if profile != "full":
        options = {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),), "steps": 60, "sequences": 8}
    if profile == "smoke":
        options |= {"steps": 2, "sequences": 2}
    validate = prose(TRAINED, "validation")
    return [
        lab_job(
            name(depth), architectures()[name(depth)], [prose(TRAINED, "train")], tests, validate=validate, **options
        )
        for depth in depths
    ]


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    table = {(r["model"], r["x"]): r for r in summarise(rows, ("model", "x"))}
    parts: dict[str, bool | None] = dict.fromkeys(PARTS)
    found = [[table.get((name(depth), length)) for length in LENGTHS] for depth in DEPTHS]
    if any(None in row for row in found):
        return verdict(parts, "", scale_of(rows, "prose"))
    nats = np.array([[row["nats"] for row in rows] for rows in found])
    gain = nats[0] - nats[1:].min(axis=0)
    seconds = np.array([rows[0]["train_seconds"] for rows in found])
    straight = np.polyval(np.polyfit(DEPTHS, seconds, 1), DEPTHS)
    bend = float(np.abs(seconds / straight - 1).max())
    parts = {
        PARTS[0]: bool(gain[-1] >= NATS),
        PARTS[1]: bool(gain[-1] >= gain[0] + NATS),
        PARTS[2]: bend <= STRAIGHT,
    }
    listed = ", ".join(f"{length:,} {value:+.3f}" for length, value in zip(LENGTHS, gain, strict=True))
    figure = (
        f"best of depth 2 to 4 over depth 1, nats a byte by length: {listed}; training seconds by depth "
        f"{', '.join(f'{value:.0f}' for value in seconds)}, off a straight line by {bend:.0%}"
    )
    return verdict(parts, figure, scale_of(rows, "prose"))


PROTOCOL = f"""
LMM, one block of width 64, one head, with memories of depth 1 (a matrix) to 4, width x 2, chunks of 16, parameters
matched within 5 %, trained to say the next byte of prose (the documentation that ships with Python, windows of
{TRAINED} bytes, validated and tested on tenths of their own), 400 steps. {HOW_TRAINED} Tested on windows of
{LENGTHS[0]} to {LENGTHS[-1]:,} bytes. Cost is the time of a training, two running side by side.
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
    f"at {LENGTHS[0]}. Linear cost: training times are within {STRAIGHT:.0%} of a straight line in the depth. "
    "All: reproduced; some: reproduced in part; none: not reproduced.",
    jobs=jobs,
    run_job=run_lab,
    judge=judge,
)
