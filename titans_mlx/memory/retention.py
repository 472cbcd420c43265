"""Choice 3, retention: how old weights fade.

Products of ``1 - alpha`` are carried as logarithms, and the logarithm comes from the gate's logit:
``1 - sigmoid`` would round a small alpha away.

Decay and writes act on what a state holds. Where that is not the weights themselves (``lq``, ``kl``), :func:`weights`
says what they are: mirror descent, each retention with its own map (Miras, sections 3.2 and 5).
"""

import math
from itertools import accumulate

import mlx.core as mx

from titans_mlx._cpu import exp
from titans_mlx._split import split
from titans_mlx.config import MemoryConfig

SMOOTH = 1e-6
"""Under the root of ``lq``'s norm: held values that are all zero are weights that are all zero."""


def weights(config: MemoryConfig, held: tuple[mx.array, ...]) -> tuple[mx.array, ...]:
    """The weights of each memory layer (..., d_out, d_in), from what a state holds of them.

    ``l2``: the same. ``lq``: ``A / ||A||_q^(q-2)``, the norm over the whole layer (Miras eq. 24). ``kl``: ``d_in``
    times the softmax of the logarithms along the inputs, so that weights are positive and 1 on average (eq. 21, 27).
    """
    if config.retention == "l2":
        return held
    if config.retention == "kl":
        return tuple(layer.shape[-1] * mx.softmax(layer, axis=-1) for layer in held)
    return tuple(layer * _factor(config, layer)[..., None] for layer in held)


def product(config: MemoryConfig, held: mx.array, z: mx.array) -> mx.array:
    """``W z`` (..., d_out) with the weights of one memory layer's held values (..., d_out, d_in) and z (..., d_in).

    The product comes before what scales a row or a layer: weights of every token are never divided one by one.
    """
    if config.retention == "kl":
        shares = exp(held - mx.stop_gradient(held.max(-1, keepdims=True)))
        sums = shares @ mx.stack([z, mx.ones_like(z)], axis=-1)
        return z.shape[-1] * sums[..., 0] / sums[..., 1]
    y = (held @ z[..., None]).squeeze(-1)
    return y * _factor(config, held) if config.retention == "lq" else y


def _factor(config: MemoryConfig, held: mx.array) -> mx.array:
    """``||A||_q^(2-q)`` of ``lq``, (..., 1)."""
    power = config.retention_power
    return (_power(held, power).sum((-1, -2))[..., None] + SMOOTH) ** (2 / power - 1)


def _power(x: mx.array, power: float) -> mx.array:
    """``|x|^power``, by squares as far as they go: on the CPU a power costs five times as much."""
    if power == 1:
        return x
    return mx.abs(x) ** power if power % 2 else _power(mx.square(x), power / 2)


def faded(keep: mx.array | float, weights: mx.array, birth: mx.array | None) -> mx.array:
    """``(1 - alpha) W``; or where weights fade to those at birth, ``W_0 + (1 - alpha) (W - W_0)``.

    ``keep`` = 1 - alpha goes with ``weights`` (B, H, d_out, d_in); ``birth`` (1, H, d_out, d_in) or None.
    """
    return keep * weights if birth is None else birth + keep * (weights - birth)


def channels(config: MemoryConfig, shapes: list[tuple[int, int]]) -> list[int]:
    """How many alphas of their own each memory layer has, of layers ``(d_in, d_out)``: one, or one per channel."""
    axis = {"row": 1, "column": 0}.get(config.decay_per)
    return [1 if axis is None else shape[axis] for shape in shapes]


def log_keep(logit: mx.array) -> mx.array:
    """``log(1 - sigmoid(logit)) = -softplus(logit)``, any shape."""
    return -mx.logaddexp(logit, 0)


def birth_logits(config: MemoryConfig, num_heads: int) -> list[float]:
    """The decay logit of each head at birth (learned) or for good (fixed)."""
    init = config.decay_init if isinstance(config.decay_init, tuple) else (config.decay_init,) * num_heads
    if len(init) != num_heads:
        raise ValueError(f"decay_init must be one number or one per head ({num_heads}), got {len(init)} numbers")
    return [math.log(alpha / (1 - alpha)) for alpha in init]


def by_layer(config: MemoryConfig, log_keep: mx.array, shapes: list[tuple[int, int]]) -> list[mx.array]:
    """``log_keep`` (B, H, channels, T), one per channel, of each memory layer ``(d_in, d_out)``."""
    return split(log_keep, list(accumulate(channels(config, shapes)[:-1])), axis=2)


def running_products(log_factors: mx.array) -> mx.array:
    """``prod_{s<j<=t} exp(log_j)`` for t = 1 ... b (rows) and s = 0 ... b (columns), (..., b) -> (..., b, b + 1).

    Zero above the diagonal ``s = t``; the first column holds the products from the start. Each entry's logarithm is
    summed on its own: a difference of two running sums loses every digit after one hard gate.
    """
    size = log_factors.shape[-1]
    after = mx.tri(size, size + 1, dtype=log_factors.dtype)
    until = mx.tri(size, size + 1, 1, dtype=log_factors.dtype)
    return exp(mx.cumsum(log_factors[..., :, None] * after, axis=-2)) * until
