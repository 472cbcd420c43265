"""The writes of a chunk at one memory layer: how queries see them, token by token, and how they enter the weights.

Scalars per token go to whichever side of a product is narrower. With one alpha per channel the sum over earlier writes
has weights of its own in every channel: ``b^2`` of them a channel, where one alpha needs ``b^2`` in all.
"""

from collections.abc import Callable
from typing import NamedTuple

import mlx.core as mx

from titans_mlx.memory.learner import Coefficients

Arrays = tuple[mx.array, ...]


class Fast(NamedTuple):
    """The fast weights: what a chunk reads and replaces."""

    weights: Arrays
    momentum: Arrays | None
    anchor: Arrays


class Write(NamedTuple):
    """The rank-one writes ``theta delta x^T`` of a chunk at one memory layer.

    Shapes: step (B, H, b, 1), delta (B, H, b, d_out), inputs (B, H, b, d_in).
    """

    step: mx.array
    delta: mx.array
    inputs: mx.array


Read = Callable[[mx.array, Fast, int, Coefficients, Write], mx.array]
"""``read(z, fast, layer, co, write)``: rows of ``z`` (B, H, b, d_in) through ``W_t`` of their own token."""
Update = Callable[[Fast, int, Coefficients, Write], tuple[mx.array, mx.array | None]]
"""``update(fast, layer, co, write)``: ``W_b`` and ``S_b`` of one memory layer."""


def _read(z: mx.array, fast: Fast, layer: int, co: Coefficients, write: Write) -> mx.array:
    y = _scaled_product(co.weights, z, fast.weights[layer].swapaxes(-1, -2))
    if fast.momentum is not None:
        y = y + _scaled_product(co.momentum, z, fast.momentum[layer].swapaxes(-1, -2))
    scores = (z @ write.inputs.swapaxes(-1, -2)) * (co.writes * write.step.swapaxes(-1, -2))
    return mx.addmm(y, scores, write.delta, alpha=-1.0)


def _read_rows(z: mx.array, fast: Fast, layer: int, co: Coefficients, write: Write) -> mx.array:
    y = _by_token(co.weights) * (z @ fast.weights[layer].swapaxes(-1, -2))
    if fast.momentum is not None:
        y = y + _by_token(co.momentum) * (z @ fast.momentum[layer].swapaxes(-1, -2))
    scores = (z @ write.inputs.swapaxes(-1, -2)) * write.step.swapaxes(-1, -2)
    written = (co.writes * scores[:, :, None]) @ write.delta.swapaxes(-1, -2)[..., None]
    return y - _by_token(written)


def _read_columns(z: mx.array, fast: Fast, layer: int, co: Coefficients, write: Write) -> mx.array:
    y = (_by_token(co.weights) * z) @ fast.weights[layer].swapaxes(-1, -2)
    if fast.momentum is not None:
        y = y + (_by_token(co.momentum) * z) @ fast.momentum[layer].swapaxes(-1, -2)
    queries, keys = z.swapaxes(-1, -2)[..., None], write.inputs.swapaxes(-1, -2)[..., None, :]
    scores = (co.writes * queries * keys).sum(2) * write.step.swapaxes(-1, -2)
    return mx.addmm(y, scores, write.delta, alpha=-1.0)


def _update(fast: Fast, layer: int, co: Coefficients, write: Write) -> tuple[mx.array, mx.array | None]:
    weights = co.last_weights * fast.weights[layer]
    if fast.momentum is None:
        return _written(weights, co.last_writes, write), None
    old = fast.momentum[layer]
    weights = _written(weights + co.last_momentum * old, co.last_writes, write)
    return weights, _written(co.momentum_keep * old, co.momentum_writes, write)


def _update_rows(fast: Fast, layer: int, co: Coefficients, write: Write) -> tuple[mx.array, mx.array | None]:
    own = write._replace(delta=write.delta * _by_token(co.last_writes))
    return _channel_update(fast, layer, co, write, own, lambda x: x.squeeze(-1))


def _update_columns(fast: Fast, layer: int, co: Coefficients, write: Write) -> tuple[mx.array, mx.array | None]:
    own = write._replace(inputs=write.inputs * _by_token(co.last_writes))
    return _channel_update(fast, layer, co, write, own, lambda x: x.squeeze(-1).swapaxes(-1, -2))


def _channel_update(
    fast: Fast, layer: int, co: Coefficients, write: Write, own: Write, along: Callable[[mx.array], mx.array]
) -> tuple[mx.array, mx.array | None]:
    """The update, given the writes with each channel's share of them and how (channels, 1, 1) lies along weights."""
    weights = along(co.last_weights) * fast.weights[layer]
    if fast.momentum is None:
        return _written(weights, None, own), None
    old = fast.momentum[layer]
    weights = _written(weights + along(co.last_momentum) * old, None, own)
    return weights, _written(co.momentum_keep * old, co.momentum_writes, write)


FORMS: dict[str, tuple[Read, Update]] = {
    "head": (_read, _update),
    "row": (_read_rows, _update_rows),
    "column": (_read_columns, _update_columns),
}
"""By ``decay_per``."""


def _by_token(x: mx.array) -> mx.array:
    """(B, H, channels, b, 1) as (B, H, b, channels)."""
    return x.squeeze(-1).swapaxes(-1, -2)


def _scaled_product(rows: mx.array, z: mx.array, matrix: mx.array) -> mx.array:
    """``diag(rows) z matrix``."""
    return (rows * z) @ matrix if z.shape[-1] <= matrix.shape[-1] else rows * (z @ matrix)


def _written(base: mx.array, rows: mx.array | None, write: Write) -> mx.array:
    """``base`` less the sum of the writes, each times its entry of ``rows`` (..., b, 1)."""
    rows, delta, inputs = write.step if rows is None else rows * write.step, write.delta, write.inputs
    if inputs.shape[-1] <= delta.shape[-1]:
        inputs = inputs * rows
    else:
        delta = delta * rows
    return mx.addmm(base, delta.swapaxes(-1, -2), inputs, alpha=-1.0)
