"""Models of equal size: the width of the MLP is the free parameter."""

import mlx.core as mx

from titans_mlx import presets
from titans_mlx.config import TitansConfig

TOLERANCE = 0.05


def parameters(config: TitansConfig) -> int:
    """Number of parameters of a model of this configuration, see :func:`titans_mlx.presets.parameters`."""
    with mx.stream(mx.cpu):
        return presets.parameters(config)


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
