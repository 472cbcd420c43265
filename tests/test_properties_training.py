"""Properties of every model in training: rows 2 (no usable leak) and 12 (finite), as in the tests' names."""

import math
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from models import BASELINES, VOCAB, WITH_MEMORY, build, uniform

from titans_mlx import Titans
from titans_mlx.convolution import convolve
from titans_mlx.memory import projections
from titans_mlx.training import TrainConfig, TrainResult, train

FLOOR = math.log(VOCAB)
SLACK = 0.01
MODELS = (*WITH_MEMORY, *BASELINES)


def next_token_loss(model: Titans, tokens: mx.array) -> mx.array:
    return nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:], reduction="mean")


def train_on_noise(name: str, steps: int) -> float:
    """Mean loss of the last 50 steps on fresh uniform tokens, which nothing but a leak can predict."""
    model = build(name, num_layers=1)
    # Ten times the default rate: enough for a read after the whole chunk to show within 500 steps.
    config = TrainConfig(steps=steps, learning_rate=1e-2)
    result = train(model, next_token_loss, lambda step: (uniform(8, 33),), config)
    return sum(record["loss"] for record in result.train_records[-50:]) / 50


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_02_no_usable_leak(name: str) -> None:
    loss = train_on_noise(name, steps=500)
    assert loss >= FLOOR - SLACK
    assert loss <= FLOOR + 3 * SLACK, "it has not come near the floor, so a small leak would not show"


def test_02_a_planted_leak_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution that looks one token ahead, as some padded ones do, is exploited within 100 steps."""

    def look_ahead(*args: Any) -> tuple[mx.array, tuple[mx.array, ...]]:
        y, tails = convolve(*args)
        return mx.concatenate([y[:, 1:], y[:, -1:]], axis=1), tails

    monkeypatch.setattr(projections, "convolve", look_ahead)
    assert train_on_noise("lmm-online", steps=100) < FLOOR - 100 * SLACK


def train_hard(name: str, seed: int) -> tuple[Titans, TrainResult]:
    """1,000 steps at the default options on one row of noise and one row of a single repeated token."""
    mx.random.seed(seed)
    model = build(name, num_layers=1, segment_size=8)
    # The blocks share one memory: what it does over several chunks is left to LMM, the fastest.
    length = 33 if name == "lmm-deep" else 17

    def batch(step: int) -> tuple[mx.array]:
        return (mx.concatenate([uniform(1, length), mx.broadcast_to(uniform(1, 1), (1, length))]),)

    return model, train(model, next_token_loss, batch, TrainConfig(steps=1000, seed=seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MODELS)
def test_12_training_stays_finite(name: str, seed: int) -> None:
    """The trainer stops on a loss or gradient that is not finite; what is left to see is that it has learned."""
    model, result = train_hard(name, seed)
    losses = [record["loss"] for record in result.train_records]
    assert len(losses) == 1000
    assert all(mx.isfinite(parameter).all().item() for _, parameter in tree_flatten(model.parameters()))
    # Half of the answers are repetitions of the token before, which would allow half of this.
    assert sum(losses[-50:]) / 50 < 0.9 * FLOOR
