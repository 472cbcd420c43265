"""Float64 that deserves the name, for the tests that compare to 1e-10."""

import math
from collections.abc import Iterator

import mlx.core as mx
import pytest


def exact_exp(x: mx.array) -> mx.array:
    return mx.power(mx.array(math.e, dtype=mx.float64), x)


def exact_sigmoid(x: mx.array) -> mx.array:
    return 0.5 * (1 + mx.tanh(0.5 * x))


def exact_softplus(x: mx.array, zero: float) -> mx.array:
    """``log(e^x + e^zero)``, which the package needs for zero = 0 only."""
    assert zero == 0
    return mx.maximum(x, 0) + mx.log1p(exact_exp(-mx.abs(x)))


def exact_erf(x: mx.array) -> mx.array:
    """``2 / sqrt(pi) e^(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!``; beyond 5 it is 1 to 2e-12."""
    x = mx.clip(x, -5, 5)
    term = total = x
    for n in range(1, 90):
        term = term * (2 * x * x) / (2 * n + 1)
        total = total + term
    return total * exact_exp(-x * x) * (2 / math.sqrt(math.pi))


def exact_softmax(x: mx.array, axis: int) -> mx.array:
    shares = exact_exp(x - x.max(axis, keepdims=True))
    return shares / shares.sum(axis, keepdims=True)


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Exact float64 on the CPU: MLX's own exp, sigmoid, logaddexp, erf and softmax have only float32 digits there."""
    exact = {
        "exp": exact_exp,
        "sigmoid": exact_sigmoid,
        "logaddexp": exact_softplus,
        "erf": exact_erf,
        "softmax": exact_softmax,
    }
    for name, function in exact.items():
        plain = getattr(mx, name)

        def either(x, *rest, plain=plain, function=function, **named):
            return (function if x.dtype == mx.float64 else plain)(x, *rest, **named)

        monkeypatch.setattr(mx, name, either)
    with mx.stream(mx.cpu):
        yield
