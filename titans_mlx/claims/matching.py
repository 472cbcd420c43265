"""Models of equal size: the width of the MLP is the free parameter."""

from functools import cache

import mlx.core as mx
from mlx.utils import tree_flatten

from titans_mlx._random import random_state_kept
from titans_mlx.config import TitansConfig
from titans_mlx.model import Titans
from titans_mlx.training import count_parameters

TOLERANCE = 0.05


@cache
def parameters(config: TitansConfig) -> int:
    """Number of trainable parameters of a model of this configuration."""
    return count_parameters(_made(config))


def match_parameters(config: TitansConfig, target: int) -> TitansConfig:
    """``config`` with the ``mlp_hidden`` that brings its parameter count closest to ``target``.

    Raises:
        ValueError: if even that is more than 5 % away.
    """
    smallest, unit = _by_width(config.replace(mlp_hidden=1))
    width = max(1, 1 + round((target - smallest) / unit))
    matched, count = config.replace(mlp_hidden=width), smallest + (width - 1) * unit
    if abs(count - target) > TOLERANCE * target:
        raise ValueError(f"target must be within 5 % of a reachable size (nearest {count}), got {target}")
    return matched


@cache
def _by_width(narrow: TitansConfig) -> tuple[int, int]:
    """Parameters of a model with MLPs one unit wide, and of one unit in all of them."""
    model = _made(narrow)
    unit = sum(leaf.size for name, leaf in tree_flatten(model.parameters()) if ".mlp." in name and "_proj." in name)
    return count_parameters(model), unit


def _made(config: TitansConfig) -> Titans:
    with mx.stream(mx.cpu), random_state_kept():
        return Titans(config)
