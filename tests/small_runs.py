"""A linear model, its data, and comparisons: what the tests of training share."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from titans_mlx.training import TrainConfig


def config(**changes) -> TrainConfig:
    return TrainConfig(**{"steps": 6, "learning_rate": 0.05, "compile": False, **changes})


def linear(*shape: int) -> nn.Linear:
    mx.random.seed(3)
    model = nn.Linear(*(shape or (3, 2)))
    mx.eval(model.parameters())
    return model


def squares(model, x):
    return model(x).square().mean()


def inputs(step: int):
    return (np.random.default_rng(step).normal(size=(4, 3)).astype(np.float32),)


def values(model) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in tree_flatten(model.parameters())}


def untimed(records):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
