"""Choice 2, the objective (attentional bias): what a write tries to make true of a key and its value.

A further objective needs its loss and its gradient at the memory's output; nothing else changes.
"""

import mlx.core as mx

from titans_mlx.config import MemoryConfig


def loss(config: MemoryConfig, output: mx.array, value: mx.array) -> mx.array:
    """Loss per token (..., T) of outputs and values (..., T, d), summed over channels (eq. 12)."""
    if config.objective == "l2":
        return ((output - value) ** 2).sum(-1)
    return -(output * value).sum(-1)


def error(config: MemoryConfig, output: mx.array, value: mx.array) -> mx.array:
    """Gradient of :func:`loss` at the output, (..., T, d); the factor 2 of the squared loss is kept."""
    return 2 * (output - value) if config.objective == "l2" else -value
