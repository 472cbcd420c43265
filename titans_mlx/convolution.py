"""The short causal depthwise convolution after the q, k and v projections (NeurIPS version, section 3.3: size 4)."""

from collections.abc import Sequence
from typing import get_args

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._check import check_count
from titans_mlx._config import choose
from titans_mlx.config import ConvBirth

CENTRES: dict[str, dict[int, float]] = {"identity": {0: 1.0}, "lag": {0: 0.1, 1: 1.0}}
"""By name of a birth, the taps that are not 0, by lag."""


class ShortConv(nn.Module):
    """``y_t = sum_j w_j x_{t-j}`` per channel, j = 0 ... size - 1, its past carried from call to call.

    Args:
        dim: channels.
        size: taps.
        birth: ``uniform``: U(-size^-1/2, size^-1/2), PyTorch's default; ``identity``: 1 at lag 0 plus small noise;
            ``lag``: 1 at lag 1 and 0.1 at lag 0.

    Raises:
        ValueError: ``dim`` or ``size`` is below 1, or ``birth`` is none of these.
    """

    def __init__(self, dim: int, size: int, birth: ConvBirth | str) -> None:
        super().__init__()
        check_count("dim", dim)
        check_count("size", size)
        choose("birth", birth, ("uniform", *CENTRES))
        self.size = size
        if birth == "uniform":
            self.weight = mx.random.uniform(-(size**-0.5), size**-0.5, (size, dim))
        else:
            centre = mx.array([CENTRES[birth].get(lag, 0.0) for lag in range(size)])
            self.weight = centre[:, None] + 0.02 * mx.random.normal((size, dim))

    def birth_tail(self, batch_size: int) -> mx.array:
        """The tail before any token, zeros (B, size - 1, dim)."""
        return mx.zeros((batch_size, self.size - 1, self.weight.shape[1]), dtype=self.weight.dtype)

    def __call__(self, x: mx.array, tail: mx.array, lengths: mx.array | None = None) -> tuple[mx.array, mx.array]:
        """Convolve x (B, T, dim) after ``tail`` (B, size - 1, dim); the new tail ends at each row's last real token."""
        y, (tail,) = convolve([self], x, (tail,), lengths)
        return y, tail


def convolve(
    convs: Sequence[ShortConv], x: mx.array, tails: Sequence[mx.array], lengths: mx.array | None = None
) -> tuple[mx.array, tuple[mx.array, ...]]:
    """Convolutions of one size, each over its channels of x (B, T, sum of dim), as one; their new tails."""
    tail, weight = tails[0], convs[0].weight
    if len(convs) > 1:
        tail, weight = mx.concatenate(tails, axis=-1), mx.concatenate([conv.weight for conv in convs], axis=1)
    past = mx.concatenate([tail.astype(x.dtype), x], axis=1)
    y = _convolve(weight, past)
    if lengths is None:
        last = past[:, x.shape[1] :]
    else:
        places = lengths[:, None] + mx.arange(weight.shape[0] - 1)[None, :]
        last = mx.take_along_axis(past, places[:, :, None], axis=1)
    # Copied: a view would keep all that was convolved alive for as long as the tail lives.
    return y, tuple(mx.contiguous(tail) for tail in mx.split(last, len(convs), axis=-1))


def _lags(x: mx.array, size: int) -> list[mx.array]:
    """x (B, T + size - 1, C) delayed by 0 ... size - 1, each (B, T, C)."""
    length = x.shape[1] - size + 1
    return [x[:, size - 1 - lag : size - 1 - lag + length] for lag in range(size)]


def qkv_convolutions(dim: int, size: int, birth: ConvBirth) -> list[ShortConv]:
    """The convolutions of queries, keys and values; ``shift`` bears the keys' at lag 1, the others as the identity."""
    choose("conv_birth", birth, get_args(ConvBirth))
    if birth == "shift" and size < 2:
        raise ValueError(f"conv_size must be 0 or >= 2 with conv_birth='shift', got {size}")
    births = ("identity", "lag", "identity") if birth == "shift" else (birth,) * 3
    return [ShortConv(dim, size, each) for each in births]


@mx.custom_function
def _convolve(weight: mx.array, past: mx.array) -> mx.array:
    return sum(w * x for w, x in zip(weight, _lags(past, weight.shape[0]), strict=True))


@_convolve.vjp
def _convolve_vjp(primals: tuple[mx.array, mx.array], cotangent: mx.array, _: mx.array) -> tuple[mx.array, mx.array]:
    """The gradient as a convolution the other way: 2.4 times faster than padding the gradient of every slice."""
    weight, past = primals
    size = weight.shape[0]
    padded = mx.pad(cotangent, [(0, 0), (size - 1, size - 1), (0, 0)])
    past_gradient = sum(w * x for w, x in zip(weight[::-1], _lags(padded, size), strict=True))
    products = [(cotangent * x).reshape(-1, x.shape[-1]).sum(0) for x in _lags(past, size)]
    return mx.stack(products).astype(weight.dtype), past_gradient.astype(past.dtype)
