"""The rule of the claim on two million tokens."""

from typing import Any

import pytest

from titans_mlx.claims.two_million import CLAIM, FAR, MIDDLE, MODELS, NEAR, SEEDS, SEQUENCES, judge
from titans_mlx.tasks.recall import SETTINGS


def row(
    model: str, setting: str, seed: int, distance: int, right: int = SEQUENCES, megabytes: float = 10.0
) -> dict[str, Any]:
    return {
        "setting": setting,
        "model": model,
        "option": "paper",
        "distance": distance,
        "seed": seed,
        "accuracy": right / SEQUENCES,
        "correct": [1] * right + [0] * (SEQUENCES - right),
        "sequences": SEQUENCES,
        "queries": 1,
        "chance": 0.02,
        "trained_length": 1024,
        "parameters": 200_000,
        "seconds_per_sequence": 1.0,
        "peak_bytes": megabytes * 1e6 * SEQUENCES,
        "filler_step": 0.001,
    }


def table(**far: Any) -> list[dict[str, Any]]:
    """Every model, setting and seed; ``far`` changes what the first model shows at the farthest with few words."""
    cells = [(model, setting, seed) for setting in SETTINGS for model in MODELS for seed in SEEDS[setting]]
    rows = [row(*cell, distance) for cell in cells for distance in (NEAR, MIDDLE)]
    return rows + [row(*cell, FAR, **(far if cell[:2] == (MODELS[0], "few") else {})) for cell in cells]


@pytest.mark.parametrize(
    ("far", "status"),
    [
        ({}, "reproduced"),
        ({"right": 31, "megabytes": 10.4}, "reproduced"),
        ({"right": 30}, "reproduced in part"),
        ({"megabytes": 10.6}, "reproduced in part"),
    ],
)
def test_the_verdict_follows_from_the_table(far: dict[str, Any], status: str) -> None:
    assert judge(table(**far)).status == status


def test_nothing_held_is_not_reproduced() -> None:
    rows = table()
    assert judge([{**r, "accuracy": 0.0, "correct": [0] * SEQUENCES} for r in rows]).status == "not reproduced"
    assert judge(rows[:-1]).status == "unfinished"
    assert judge([r for r in rows if r["seed"] != SEEDS["few"][-1]]).status == "unfinished"
    assert judge([]).status == "not run"


def test_a_smoke_run_gives_a_table() -> None:
    rows = CLAIM.run("smoke")
    assert {(r["model"], r["distance"]) for r in rows} == {(m, d) for m in MODELS for d in (16, 64)}
    assert all(r["queries"] == 1 and r["sequences"] == SEQUENCES for r in rows)
