"""Choice 1, the structure: a matrix or an MLP, forward, and backward to rank-one gradients.

The gradient of any loss with respect to layer l's weights is ``delta^l (x^l)^T`` per token: ``x^l`` the layer's
input, ``delta^l`` the gradient at its output. Every fast form works on these two factors and never forms the product.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from titans_mlx._cpu import gelu, gelu_and_slope, sigmoid
from titans_mlx.config import Activation, MemoryConfig

LAYER_NORM_EPS = 1e-5

Linear = Callable[[int, mx.array], mx.array]
"""``linear(l, z)`` applies memory layer l to rows z (..., T, d_in) and gives (..., T, d_out)."""


class Norm(NamedTuple):
    """Slow LayerNorm parameters of the memory's output, each (H, 1, d)."""

    gain: mx.array
    bias: mx.array


class Trace(NamedTuple):
    """What a forward pass leaves for the backward pass; rows are tokens.

    Attributes:
        inputs: of each memory layer.
        slopes: the activation's derivative after each layer but the last, None unless asked for.
        output: of the last layer.
    """

    inputs: list[mx.array]
    slopes: list[mx.array | None]
    output: mx.array


def widths(config: MemoryConfig, head_dim: int) -> list[tuple[int, int]]:
    """``(d_in, d_out)`` of each memory layer: d, xd, ..., xd, d; the first is wider with ``key_degree`` 2."""
    hidden = config.expansion * head_dim
    first = head_dim if config.key_degree == 1 else head_dim * (head_dim + 3) // 2
    sizes = [first, *[hidden] * (config.depth - 1), head_dim]
    return list(pairwise(sizes))


def features(config: MemoryConfig, x: mx.array) -> mx.array:
    """Keys or queries (..., d) as the memory sees them: themselves, or with all products of two (``key_degree`` 2)."""
    if config.key_degree == 1:
        return x
    left, right = np.triu_indices(x.shape[-1])
    # A product of two different entries stands for both of its orders.
    orders = mx.array(np.where(left == right, 1.0, 2**0.5), dtype=x.dtype)
    products = mx.take(x, mx.array(left), axis=-1) * mx.take(x, mx.array(right), axis=-1) * orders
    return mx.concatenate([x, products], axis=-1) * 2**-0.5


def with_weights(weights: tuple[mx.array, ...]) -> Linear:
    """The plain linear layers of given weights, each (..., d_out, d_in)."""
    return lambda layer, z: z @ weights[layer].swapaxes(-1, -2)


def forward(
    config: MemoryConfig, linear: Linear, x: mx.array, norm: Norm | None, slopes: bool = False
) -> tuple[mx.array, Trace]:
    """``f(W; x) = x + LN(W^L s(... s(W^1 x)))``; residual and LN as configured.

    Args:
        config: the memory's configuration.
        linear: applies one memory layer, so that the chunked read shares this code.
        x: (B, H, T, d) float.
        norm: LayerNorm parameters when ``config.norm``.
        slopes: True leaves in the trace what :func:`backward` needs.

    Returns:
        ``f`` (B, H, T, d) and the trace for :func:`backward`.
    """
    inputs, derivatives = [x], []
    for layer in range(config.depth - 1):
        active, slope = _activate(config.activation, linear(layer, inputs[-1]), slopes)
        inputs.append(active)
        derivatives.append(slope)
    out = linear(config.depth - 1, inputs[-1])
    z = _standardise(out)[0] * norm.gain + norm.bias if config.norm else out
    return (x + z if config.residual else z), Trace(inputs, derivatives, out)


def backward(
    config: MemoryConfig, weights: tuple[mx.array, ...], trace: Trace, error: mx.array, norm: Norm | None
) -> list[mx.array]:
    """``delta^l`` of every memory layer, given the loss's gradient at ``f`` (B, H, T, d) and a trace with slopes."""
    delta = error
    if config.norm:
        unit, scale = _standardise(trace.output)
        g = error * norm.gain
        delta = scale * (g - g.mean(-1, keepdims=True) - unit * (g * unit).mean(-1, keepdims=True))
    deltas = [delta]
    for layer in range(config.depth - 1, 0, -1):
        delta = (delta @ weights[layer]) * trace.slopes[layer - 1]
        deltas.append(delta)
    return deltas[::-1]


def _standardise(z: mx.array) -> tuple[mx.array, mx.array]:
    centred = z - z.mean(-1, keepdims=True)
    scale = mx.rsqrt((centred * centred).mean(-1, keepdims=True) + LAYER_NORM_EPS)
    return centred * scale, scale


def _activate(name: Activation, x: mx.array, slope: bool) -> tuple[mx.array, mx.array | None]:
    """The activation of x and, where asked for, its derivative there: what is dear is shared by the two."""
    if name == "gelu":
        return gelu_and_slope(x) if slope else (gelu(x), None)
    if name == "silu":
        s = sigmoid(x)
        return x * s, (s * (1 + x * (1 - s)) if slope else None)
    return mx.maximum(x, 0), ((x > 0).astype(x.dtype) if slope else None)
