"""Choice 2, the objective (attentional bias): what a write tries to make true of a key and its value.

A further objective needs its loss and its gradient at the memory's output; nothing else changes. ``threshold`` is the
one of ``huber``, (..., T, 1), None for all others.
"""

import mlx.core as mx

from titans_mlx.config import MemoryConfig

SMOOTH = 1e-6
"""``|x|`` is ``sqrt(x^2 + SMOOTH)`` where a power of it has to have a slope at 0 (Miras, section 5.3)."""


def loss(config: MemoryConfig, output: mx.array, value: mx.array, threshold: mx.array | None = None) -> mx.array:
    """Loss per token (..., T) of outputs and values (..., T, d), summed over channels (eq. 12)."""
    if config.objective == "dot":
        return -(output * value).sum(-1)
    difference = output - value
    if config.objective == "l2":
        return (difference**2).sum(-1)
    if config.objective == "lp":
        return (_size(difference) ** config.loss_power).sum(-1)
    square = (difference**2).sum(-1)
    delta = threshold[..., 0]
    beyond = 2 * delta * mx.sqrt(mx.maximum(square, delta * delta)) - delta * delta
    return mx.where(square <= delta * delta, square, beyond)


def error(config: MemoryConfig, output: mx.array, value: mx.array, threshold: mx.array | None = None) -> mx.array:
    """Gradient of :func:`loss` at the output, (..., T, d); the factor 2 of the squared loss is kept."""
    if config.objective == "dot":
        return -value
    difference = output - value
    if config.objective == "l2":
        return 2 * difference
    if config.objective == "lp":
        return config.loss_power * difference * _size(difference) ** (config.loss_power - 2)
    square = (difference * difference).sum(-1, keepdims=True)
    return 2 * difference * threshold * mx.rsqrt(mx.maximum(square, threshold * threshold))


def _size(x: mx.array) -> mx.array:
    return mx.sqrt(x * x + SMOOTH)
