"""Choice 2, the objective (attentional bias): what a write tries to make true of a key and its value.

A loss per token and its gradient at the memory's output are all that an objective is; :func:`register` adds one.
``threshold`` is the one of ``huber``, (..., T, 1), None for all others.
"""

from collections.abc import Callable
from typing import NamedTuple

import mlx.core as mx

from titans_mlx._compiled import forget_compiled
from titans_mlx.config import OBJECTIVES, MemoryConfig

SMOOTH = 1e-6
"""``|x|`` is ``sqrt(x^2 + SMOOTH)`` where a power of it has to have a slope at 0 (Miras, section 5.3)."""

TINY = 1e-20
"""Square of an error or threshold below which float32 cannot tell it from 0."""

TOLERANCE = 1e-2
"""Of a registered gradient: differences of float32 are exact to about 1e-3."""

OWN = tuple(OBJECTIVES)
"""The objectives of this module, which no other may replace."""


class Objective(NamedTuple):
    """A loss (..., T) of outputs and values (..., T, d), and its gradient at the output, (..., T, d)."""

    loss: Callable[[mx.array, mx.array], mx.array]
    error: Callable[[mx.array, mx.array], mx.array]


_registered: dict[str, Objective] = {}


def register(
    name: str,
    loss: Callable[[mx.array, mx.array], mx.array],
    error: Callable[[mx.array, mx.array], mx.array] | None = None,
) -> float:
    """Add an objective, to be chosen as ``MemoryConfig(objective=name)`` where ``update="anchored"``.

    Args:
        name: of the objective; an earlier one of this name, if registered too, is replaced.
        loss: of outputs and values (..., T, d), per token: (..., T).
        error: the loss's gradient at the output, (..., T, d); None: by automatic differentiation.

    Returns:
        How far the gradient is from the loss's own slope (central differences), relative to the largest slope, on
        random outputs and values: at most so in nine of ten tokens.

    Raises:
        ValueError: if ``name`` is one of :data:`OWN`, ``loss`` does not give a number per token or mixes tokens, or
            the gradient is not finite where output and value are equal, or not the loss's, by :data:`TOLERANCE`.

    A function that the caller has compiled keeps the loss it was traced with.
    """
    if name in OWN:
        raise ValueError(f"name must be none of this package's own {list(OWN)}, got {name!r}")
    if not isinstance(name, str) or not name:
        raise ValueError(f"name must be a text, got {name!r}")
    made = Objective(loss, error or _derived(loss))
    off = _gradient_error(made)
    _registered[name] = made
    if name not in OBJECTIVES:
        OBJECTIVES.append(name)
    forget_compiled()
    return off


def loss(config: MemoryConfig, output: mx.array, value: mx.array, threshold: mx.array | None = None) -> mx.array:
    """Loss per token (..., T) of outputs and values (..., T, d), summed over channels (eq. 12)."""
    if config.objective in _registered:
        return _registered[config.objective].loss(output, value)
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
    if config.objective in _registered:
        return _registered[config.objective].error(output, value)
    if config.objective == "dot":
        return -value
    difference = output - value
    if config.objective == "l2":
        return 2 * difference
    if config.objective == "lp":
        return config.loss_power * difference * _size(difference) ** (config.loss_power - 2)
    square = (difference * difference).sum(-1, keepdims=True)
    # A threshold whose square underflows would divide zero by zero, here or in the outer gradient.
    return 2 * difference * threshold * mx.rsqrt(mx.maximum(square, mx.maximum(threshold * threshold, TINY)))


def _size(x: mx.array) -> mx.array:
    return mx.sqrt(x * x + SMOOTH)


def _derived(loss: Callable[[mx.array, mx.array], mx.array]) -> Callable[[mx.array, mx.array], mx.array]:
    return mx.grad(lambda output, value: loss(output, value).sum())


def _gradient_error(objective: Objective) -> float:
    """How far the gradient is from central differences of the loss, both checked on the way.

    The 90 % quantile over tokens: where a loss has a kink, a difference across it says nothing.
    """
    output, value, direction = (mx.random.normal((4, 4, 8, 4), key=mx.random.key(seed)) for seed in range(3))
    losses, found = objective.loss(output, value), objective.error(output, value)
    for name, given, shape in (("loss", losses, output.shape[:-1]), ("error", found, output.shape)):
        if getattr(given, "shape", None) != shape:
            got = getattr(given, "shape", type(given).__name__)
            raise ValueError(f"{name} must give an array of shape {shape} for outputs of {output.shape}, got {got}")
    for token in (0, -1):
        at = mx.arange(8)[:, None] == token % 8
        for moved in ((output + at, value), (output, value + at)):
            if mx.where(at[:, 0], 0, mx.abs(objective.loss(*moved) - losses)).max().item() > 0:
                raise ValueError("loss must be each token's own: moving one token moved the loss of another")
    if not mx.isfinite(objective.error(value, value)).all().item():
        raise ValueError(
            "error must be finite where output and value are equal, got a NaN or infinity: smooth the loss there, as "
            "sqrt(x^2 + 1e-6) smooths |x|"
        )
    step = 1e-3
    rise = objective.loss(output + step * direction, value) - objective.loss(output - step * direction, value)
    slope = rise / (2 * step)
    off = mx.sort(mx.abs((found * direction).sum(-1) - slope).flatten())[int(0.9 * slope.size)]
    off = (off / (mx.abs(slope).max() + 1e-12)).item()
    if not off <= TOLERANCE:
        raise ValueError(f"error must be the gradient of loss, got one that is off by {off:.2g} of its size")
    return off
