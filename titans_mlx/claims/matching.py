"""Models of equal size: the width of the MLP is the free parameter."""

from functools import cache

import mlx.core as mx

from titans_mlx.config import TitansConfig
from titans_mlx.model import Titans
from titans_mlx.training import count_parameters

TOLERANCE = 0.05


@cache
def parameters(config: TitansConfig) -> int:
    """Number of trainable parameters of a model of this configuration."""
    with mx.stream(mx.cpu):
        return count_parameters(Titans(config))


def match_parameters(config: TitansConfig, target: int) -> TitansConfig:
    """``config`` with the ``mlp_hidden`` that brings its parameter count closest to ``target``.

    Raises:
        ValueError: if even that is more than 5 % away.
    """
    smallest, larger = (parameters(config.replace(mlp_hidden=width)) for width in (1, 2))
    # Every unit of the width has as many parameters as the next.
    width = max(1, 1 + round((target - smallest) / (larger - smallest)))
    matched, count = config.replace(mlp_hidden=width), smallest + (width - 1) * (larger - smallest)
    if abs(count - target) > TOLERANCE * target:
        raise ValueError(f"target must be within 5 % of a reachable size (nearest {count}), got {target}")
    return matched
