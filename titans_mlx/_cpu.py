"""Exponentials for MLX's CPU backend, where they dominate: 12 to 18 ns an element there, 4 ns here.

As accurate as MLX's own in float32 (relative error below 5e-7 for small arguments, 4e-6 towards +-87); every other
device and dtype takes MLX's.
"""

import mlx.core as mx
import mlx.nn as nn

# Least-squares polynomial of 2^f on [-1/2, 1/2] at Chebyshev nodes, lowest degree first; relative error 3e-9.
_POWERS = (
    1.0,
    0.6931471824645996,
    0.24022650718688965,
    0.05550327152013779,
    0.00961802527308464,
    0.0013400432653725147,
    0.00015469732170458883,
)
_LOG2_E = 1.4426950408889634


def _exp(x: mx.array) -> mx.array:
    """``2^k 2^f``: the power of two goes straight into the exponent bits."""
    y = mx.clip(x * _LOG2_E, -126.0, 126.0)
    k = mx.floor(y + 0.5)
    f = y - k
    p = _POWERS[-1] * f + _POWERS[-2]
    for c in _POWERS[-3::-1]:
        p = p * f + c
    return p * mx.view((k.astype(mx.int32) + 127) << 23, mx.float32)


_compiled_exp = mx.compile(_exp)


@mx.custom_function
def _fast_exp(x: mx.array) -> mx.array:
    return _compiled_exp(x)


@_fast_exp.vjp
def _fast_exp_vjp(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * output


def _on_cpu(x: mx.array) -> bool:
    return x.dtype == mx.float32 and mx.default_device().type == mx.DeviceType.cpu


def exp(x: mx.array) -> mx.array:
    """``e^x``; on the CPU in float32 clipped to ``2^-126 ... 2^126``."""
    return _fast_exp(x) if _on_cpu(x) else mx.exp(x)


def silu(x: mx.array) -> mx.array:
    """``x sigmoid(x)``."""
    return x / (1 + _fast_exp(-x)) if _on_cpu(x) else nn.silu(x)
