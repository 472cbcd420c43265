"""Row 10, the inner gradient: closed form = automatic = finite differences; the forward pass as on paper."""

import math

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import objective, structure
from titans_mlx.memory.recurrent import surprise
from titans_mlx.memory.structure import Norm

from .cases import assert_close, make_case

pytestmark = pytest.mark.usefixtures("float64")

ACTIVATIONS = {
    "gelu": np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2)))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
}
STRUCTURES = [
    pytest.param(depth, activation, residual, norm, id=f"{depth}-{activation}-{residual}-{norm}")
    for depth, activation in ((1, "gelu"), (2, "gelu"), (2, "silu"), (3, "silu"), (4, "relu"))
    for residual, norm in ((True, True), (True, False), (False, True), (False, False))
]


def one_token(objective="l2", **fields):
    """A case of one token, its key not normalised."""
    return make_case(tokens=1, qk_norm=False, objective=objective, write_bound=None, **fields)


def numpy_forward(case, weights, x):
    """``f(W; x) = x + LN(W^L s(... s(W^1 x)))`` of one row and head, written for one vector."""
    z = x
    for layer, weight in enumerate(weights):
        z = weight @ (ACTIVATIONS[case.config.activation](z) if layer else z)
    if case.config.norm:
        z = (z - z.mean()) / np.sqrt(z.var() + 1e-5)
        z = z * np.array(case.norm.gain)[0, 0] + np.array(case.norm.bias)[0, 0]
    return x + z if case.config.residual else z


def rank_one(case):
    """The closed form's factors, multiplied out."""
    read, trace = structure.forward(
        case.config, structure.with_weights(case.state.weights), case.k, case.norm, slopes=True
    )
    error = objective.error(case.config, read, case.v)
    deltas = structure.backward(case.config, case.state.weights, trace, error, case.norm)
    return [delta.swapaxes(-1, -2) @ inputs for delta, inputs in zip(deltas, trace.inputs, strict=True)]


@pytest.mark.parametrize(("depth", "activation", "residual", "norm"), STRUCTURES)
def test_forward_is_the_formula(depth, activation, residual, norm):
    case = one_token(depth=depth, activation=activation, residual=residual, norm=norm, batch=1, heads=1, width=6)
    read, _ = structure.forward(case.config, structure.with_weights(case.state.weights), case.q, case.norm)
    weights = [np.array(w)[0, 0] for w in case.state.weights]
    expected = numpy_forward(case, weights, np.array(case.q)[0, 0, 0])
    np.testing.assert_allclose(np.array(read)[0, 0, 0], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("loss", ["l2", "dot"])
@pytest.mark.parametrize(("depth", "activation", "residual", "norm"), STRUCTURES)
def test_rank_one_factors_are_the_gradient(depth, activation, residual, norm, loss):
    case = one_token(loss, depth=depth, activation=activation, residual=residual, norm=norm, width=6)
    automatic = surprise(case.config, case.state.weights, case.norm, case.k, case.v)
    assert_close(rank_one(case), automatic, 1e-10)


@pytest.mark.parametrize("loss", ["l2", "dot"])
@pytest.mark.parametrize(("depth", "activation", "residual", "norm"), STRUCTURES)
def test_rank_one_factors_are_finite_differences(depth, activation, residual, norm, loss):
    """The loss of eq. 12 (summed, factor 2 kept) written in NumPy, one weight moved at a time."""
    case = one_token(loss, depth=depth, activation=activation, residual=residual, norm=norm, batch=1, heads=1, width=3)
    weights = [np.array(w)[0, 0] for w in case.state.weights]
    key, value = np.array(case.k)[0, 0, 0], np.array(case.v)[0, 0, 0]

    def inner_loss():
        output = numpy_forward(case, weights, key)
        return ((output - value) ** 2).sum() if loss == "l2" else -(output * value).sum()

    h = 1e-6
    for weight, gradient in zip(weights, rank_one(case), strict=True):
        slopes = np.empty_like(weight)
        for index in np.ndindex(*weight.shape):
            old = weight[index]
            weight[index] = old + h
            above = inner_loss()
            weight[index] = old - h
            slopes[index] = (above - inner_loss()) / (2 * h)
            weight[index] = old
        assert np.abs(np.array(gradient)[0, 0] - slopes).max() <= 1e-7 * max(1, np.abs(slopes).max())


def test_widths_are_head_width_at_both_ends_and_expanded_between():
    assert structure.widths(MemoryConfig(depth=1, expansion=4), 8) == [(8, 8)]
    assert structure.widths(MemoryConfig(depth=3, expansion=4), 8) == [(8, 32), (32, 32), (32, 8)]


def test_the_norm_stays_finite_where_there_is_nothing_to_normalise():
    case = one_token(depth=2, batch=1, heads=1)
    zero = case._replace(k=mx.zeros_like(case.k), norm=Norm(case.norm.gain, case.norm.bias))
    read, _ = structure.forward(zero.config, structure.with_weights(zero.state.weights), zero.k, zero.norm)
    assert_close(read[0], zero.norm.bias, 1e-12)
    assert all(mx.isfinite(u).all().item() for u in rank_one(zero))
