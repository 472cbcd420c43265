"""The coefficients of a chunk against loops over tokens, and their precision under hard gates."""

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx.config import MemoryConfig
from titans_mlx.memory.learner import Gates, coefficients, make_gates, mask_gates
from titans_mlx.memory.retention import birth_logits, log_keep, running_products

from .cases import by_fast_form, error, gradients, make_case


def loops(alpha, eta, m):
    """``D, E, C, a, c, e`` of one chunk, from their definitions."""
    size = len(alpha)
    decay, carry = np.zeros((size, size)), np.zeros((size, size))
    for t in range(size):
        for s in range(t + 1):
            decay[t, s] = np.prod(1 - alpha[s + 1 : t + 1])
            carry[t, s] = np.prod(eta[s + 1 : t + 1])
    start = np.cumprod(eta)
    writes = decay @ np.diag(m) @ carry
    return writes, np.cumprod(1 - alpha), decay @ (m * start), carry[-1], start[-1]


@pytest.mark.parametrize("size", [1, 2, 7, 16])
@pytest.mark.parametrize("with_mask", [False, True])
def test_coefficients_are_the_products_of_the_definition(float64, size, with_mask):
    rng = np.random.default_rng(size)
    real = rng.random(size) < 0.6 if with_mask else np.ones(size, dtype=bool)
    alpha, eta = np.where(real, rng.random(size), 0), np.where(real, rng.random(size), 1)
    logs = (np.log1p(-alpha), np.log(eta), rng.random(size))
    gates = Gates(*[mx.array(values, dtype=mx.float64)[None] for values in logs])
    co = coefficients(gates, mx.array(real)[None] if with_mask else None)
    found = (co.writes, co.weights, co.momentum, co.momentum_writes, co.momentum_keep)
    for value, expected in zip(found, loops(alpha, eta, real.astype(float)), strict=True):
        np.testing.assert_allclose(np.array(value).reshape(np.shape(expected)), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("hard", [-20.0, -1e4])
def test_one_hard_gate_costs_no_digits(hard):
    """A difference of two running sums would leave 1e-5 at -20 and 3e-3 at -1e4."""
    logs = np.log1p(-np.random.default_rng(0).uniform(0, 0.1, 64)).astype(np.float32)
    logs[20] = hard
    exact = logs.astype(np.float64)
    expected = np.zeros((64, 64))
    for t in range(64):
        for s in range(t + 1):
            expected[t, s] = np.exp(exact[s + 1 : t + 1].sum())
    found = np.array(running_products(mx.array(logs)))
    assert np.abs(found[:, 1:] - expected).max() <= 1e-6
    np.testing.assert_allclose(found[:, 0], np.exp(np.cumsum(exact)), atol=1e-6)


def test_a_small_alpha_is_not_rounded_away():
    logit = np.array([-10.0, -20.0, -30.0, -80.0], dtype=np.float32)
    expected = -np.log1p(np.exp(logit.astype(np.float64)))
    np.testing.assert_allclose(np.array(log_keep(mx.array(logit))), expected, rtol=1e-5)
    assert log_keep(mx.array([1e4])).item() == -1e4


def test_gates_are_the_sigmoids_they_are_called():
    config = MemoryConfig(max_step=0.4, normalized_step=True)
    a, e, s = mx.random.normal((3, 2, 2, 2, 5)) * 3
    gates = make_gates(config, {"decay": a, "momentum": e, "step": s}, a.shape)
    alpha, eta = mx.sigmoid(a), mx.sigmoid(e)
    assert error(mx.exp(gates.log_keep), 1 - alpha) <= 1e-6
    assert error(mx.exp(gates.log_momentum), eta) <= 1e-6
    assert error(gates.step, 0.4 * mx.sigmoid(s) * (1 - eta)) <= 1e-6
    plain = make_gates(config.replace(normalized_step=False, step_size="fixed"), {"decay": a, "momentum": e}, a.shape)
    assert mx.array_equal(plain.step, mx.full(a.shape, 0.4))


def test_a_masked_slot_has_closed_gates():
    config = MemoryConfig()
    a = mx.random.normal((2, 1, 2, 3))
    real = mx.array([[True, False, True], [False, True, True]])
    gates = mask_gates(make_gates(config, {"decay": a, "momentum": a, "step": a}, a.shape), real[:, None, None])
    for values in gates[:3]:
        assert mx.array_equal(values != 0, mx.broadcast_to(real[:, None, None], values.shape))


def test_the_bound_is_on_the_norm_of_the_whole_write():
    """One token, no momentum, no decay: the weights move by ``theta min(1, c / |u|) u``."""
    fields = {"depth": 2, "momentum": "none", "decay": "none", "step_size": "fixed", "max_step": 0.2}
    free = make_case(tokens=1, batch=20, width=6, dtype=mx.float32, write_bound=None, **fields)
    bounded = free._replace(config=free.config.replace(write_bound=8.0))
    sizes = []
    for layer in range(2):
        wanted, written = (
            np.array(by_fast_form(case)[1].weights[layer] - case.state.weights[layer]) / 0.2 for case in (free, bounded)
        )
        norm = np.linalg.norm(wanted, axis=(2, 3), keepdims=True)
        np.testing.assert_allclose(written, wanted * np.minimum(1, 8 / norm), rtol=0, atol=1e-4)
        sizes.append(norm)
    assert min(map(np.min, sizes)) < 8 < max(map(np.max, sizes))


def test_the_gradient_of_the_bound_is_finite_for_a_write_of_nothing():
    case = make_case(tokens=3, depth=2, dtype=mx.float32)
    nothing = case._replace(q=0 * case.q, k=0 * case.k, v=0 * case.v)
    for name, gradient in gradients(by_fast_form, nothing).items():
        assert mx.isfinite(gradient).all().item(), name


def test_decay_at_birth_is_given_per_head():
    logits = birth_logits(MemoryConfig(decay_init=(0.5, 0.1)), 2)
    np.testing.assert_allclose(1 / (1 + np.exp(-np.array(logits))), [0.5, 0.1])
    with pytest.raises(ValueError, match=r"decay_init must be one number or one per head \(3\), got 2 numbers"):
        birth_logits(MemoryConfig(decay_init=(0.5, 0.1)), 3)
