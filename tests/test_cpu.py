"""The exponentials of the CPU backend are as exact as MLX's own, and so are their gradients."""

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from titans_mlx import _cpu

GRID = np.concatenate([np.linspace(-87, 87, 100_001), np.linspace(-2, 2, 10_001)])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def silu_slope(x: np.ndarray) -> np.ndarray:
    return sigmoid(x) * (1 + x * (1 - sigmoid(x)))


@pytest.mark.parametrize("compiled", [False, True])
def test_exp(compiled: bool) -> None:
    function = mx.compile(_cpu.exp) if compiled else _cpu.exp
    x = mx.array(GRID, dtype=mx.float32)
    exact = np.exp(np.array(x, dtype=np.float64))
    # A relative error of x's own rounding is inherited: 87 * 2^-24 = 5e-6.
    assert np.max(np.abs(np.array(function(x)) / exact - 1)) < 1e-5
    small = np.abs(GRID) <= 2
    assert np.max(np.abs(np.array(function(x)) / exact - 1)[small]) < 5e-7
    gradient = mx.grad(lambda x: function(x).sum())(x)
    assert np.max(np.abs(np.array(gradient) / exact - 1)) < 1e-5


@pytest.mark.parametrize("compiled", [False, True])
def test_silu(compiled: bool) -> None:
    function = mx.compile(_cpu.silu) if compiled else _cpu.silu
    x = mx.array(GRID, dtype=mx.float32)
    known = np.array(x, dtype=np.float64)
    ours, theirs = (np.abs(np.array(f(x)) - known * sigmoid(known)) for f in (function, nn.silu))
    assert ours.max() <= 1.5 * theirs.max()
    gradient = mx.grad(lambda x: function(x).sum())(x)
    assert np.max(np.abs(np.array(gradient) - silu_slope(known))) < 2e-6


def phi(x: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def below(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])


@pytest.mark.parametrize("compiled", [False, True])
def test_gelu_and_its_slope(compiled: bool) -> None:
    """Against the error function of the standard library, in float64, derivatives included."""
    pair = mx.compile(_cpu.gelu_and_slope) if compiled else _cpu.gelu_and_slope
    alone = mx.compile(_cpu.gelu) if compiled else _cpu.gelu
    x = mx.array(np.concatenate([np.linspace(-12, 12, 20_001), [-1e4, 0, 1e4]]), dtype=mx.float32)
    known = np.array(x, dtype=np.float64)
    value, slope = known * below(known), below(known) + known * phi(known)
    curvature = phi(known) * (2 - known**2)
    tolerance = 5e-7 * np.maximum(1, np.abs(known))
    for given, exact in ((pair(x)[0], value), (alone(x), value), (pair(x)[1], slope)):
        assert np.all(np.abs(np.array(given) - exact) <= tolerance)
    for function, exact in (
        (alone, slope),
        (lambda x: pair(x)[0], slope),
        (lambda x: pair(x)[1], curvature),
        (lambda x: mx.grad(lambda x: alone(x).sum())(x), curvature),
    ):
        gradient = mx.grad(lambda x, function=function: function(x).sum())(x)
        assert np.all(np.abs(np.array(gradient) - exact) <= 2 * tolerance)


def test_sigmoid() -> None:
    x = mx.array(GRID, dtype=mx.float32)
    assert np.max(np.abs(np.array(_cpu.sigmoid(x)) - sigmoid(np.array(x, dtype=np.float64)))) < 3e-7


def test_extremes_stay_finite() -> None:
    x = mx.array([-1e4, -200.0, 0.0])
    assert np.allclose(np.array(_cpu.exp(x)), [0, 0, 1], atol=1e-37)
    assert np.allclose(np.array(_cpu.silu(mx.array([-1e4, 1e4]))), [0, 1e4], atol=1e-30)


@pytest.mark.parametrize("name", ["exp", "silu"])
def test_gradient_of_the_gradient(name: str) -> None:
    function: Callable[[mx.array], mx.array] = getattr(_cpu, name)
    reference = {"exp": mx.exp, "silu": lambda x: x * mx.sigmoid(x)}[name]
    x = mx.array(np.linspace(-3, 3, 31), dtype=mx.float32)

    def curvature(f: Callable[[mx.array], mx.array]) -> mx.array:
        slope = mx.grad(lambda x: f(x).sum())
        return mx.grad(lambda x: slope(x).sum())(x)

    assert mx.allclose(curvature(function), curvature(reference), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_other_dtypes_take_mlx(dtype: mx.Dtype) -> None:
    x = mx.array([-1.0, 0.5, 2.0], dtype=dtype)
    results = (_cpu.exp(x), _cpu.silu(x), _cpu.sigmoid(x), _cpu.gelu(x), *_cpu.gelu_and_slope(x))
    assert {result.dtype for result in results} == {dtype}
    assert mx.array_equal(_cpu.exp(x), mx.exp(x))
