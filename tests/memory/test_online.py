"""The exact online form: its triangular inverse, alike keys, chunk size as a speed knob; row 11 for MLX."""

import math

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx.memory.online import unit_triangular_inverse

from .cases import assert_close, by_definition, by_fast_form, error, make_case


@pytest.mark.parametrize("size", [*range(1, 18), 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 130])
def test_triangular_inverse_equals_numpy(float64, size):
    strict = np.tril(np.random.default_rng(size).normal(size=(2, 3, size, size)), -1) / size
    found = unit_triangular_inverse(mx.array(strict, dtype=mx.float64))
    np.testing.assert_allclose(np.array(found), np.linalg.inv(np.eye(size) + strict), rtol=0, atol=1e-10)


def test_triangular_inverse_has_a_gradient(float64):
    """``d tr(G^T X) = -tr(G^T X dN X)`` for ``X = (I + N)^-1``."""
    strict = mx.tril(mx.random.normal((9, 9)), -1).astype(mx.float64) / 3
    weight = mx.random.normal((9, 9)).astype(mx.float64)
    inverse = np.linalg.inv(np.eye(9) + np.array(strict))
    expected = np.tril(-inverse.T @ np.array(weight) @ inverse.T, -1)
    found = mx.grad(lambda n: (unit_triangular_inverse(n) * weight).sum())(strict)
    np.testing.assert_allclose(np.tril(np.array(found), -1), expected, rtol=0, atol=1e-10)


def alike_keys(tokens, chunk, eta):
    """Unit keys a thousandth apart, ``2 theta = 1``, no decay: the hardest system a constant gate gives."""
    fields = {"momentum": "learned" if eta else "none", "decay": "none", "step_size": "fixed"}
    logit = math.log(eta / (1 - eta)) if eta else 0
    case = make_case(
        depth=1,
        update="online",
        tokens=tokens,
        chunk_size=chunk,
        width=16,
        centre=(0, logit, 0),
        spread=0,
        dtype=mx.float32,
        **fields,
    )
    k = mx.random.normal((2, 2, 1, 16)) + 1e-3 * mx.random.normal(case.k.shape)
    k = k / mx.linalg.norm(k, axis=-1, keepdims=True)
    return case._replace(k=k, q=k)


@pytest.mark.parametrize(
    ("eta", "size", "tolerance"),
    [(0, 64, 1e-5), (0, 256, 1e-5), (0.5, 256, 1e-5), (0.9, 64, 1e-4), (0.9, 128, 3e-4), (0.9, 256, 1e-3)],
)
def test_inverse_of_nearly_identical_keys_at_the_largest_step(eta, size, tolerance):
    """The errors left to momentum are why the chunk is 32 by default: N grows like 1 / (1 - eta)."""
    power = np.arange(size)[:, None] - np.arange(size)[None]
    seen = np.where(power > 0, (1 - eta ** np.maximum(power, 0)) / (1 - eta), 0)
    keys = np.array(alike_keys(size, size, eta).k, dtype=np.float64)
    strict = (seen * (keys @ keys.swapaxes(-1, -2))).astype(np.float32)
    right = np.random.default_rng(0).normal(size=(2, 2, size, 8))
    expected = np.linalg.solve(np.eye(size) + strict.astype(np.float64), right)
    found = unit_triangular_inverse(mx.array(strict)) @ mx.array(right.astype(np.float32))
    assert np.abs(np.array(found) - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize(
    ("eta", "chunk", "tolerance"),
    [
        (0, 64, 1e-5),
        (0, 256, 1e-5),
        (0.5, 64, 1e-4),
        (0.9, 16, 1e-4),
        (0.9, 32, 1e-4),
        (0.9, 64, 1e-3),
        (0.99, 32, 3e-4),
    ],
)
def test_nearly_identical_keys_at_the_largest_step(eta, chunk, tolerance):
    case = alike_keys(256, chunk, eta)
    assert_close(by_fast_form(case), by_definition(case), tolerance)


def test_doubling_a_whole_chunk_would_overflow():
    """Why blocks are merged: ``(I - N)(I + N^2)(I + N^4)...`` on alike keys at ``2 theta = 1``."""
    size = 128
    strict = mx.tril(mx.ones((size, size)) * (1 - 1e-3), -1)
    exact = np.linalg.inv(np.eye(size) + np.array(strict, dtype=np.float64))
    assert np.abs(np.array(unit_triangular_inverse(strict)) - exact).max() <= 1e-5
    power, doubled = -strict, mx.eye(size) - strict
    for _ in range(6):
        power = power @ power
        doubled = doubled @ (mx.eye(size) + power)
    assert np.abs(np.array(doubled) - exact).max() >= 1e3


@pytest.mark.parametrize("decay_first", [False, True])
@pytest.mark.parametrize("momentum", ["learned", "none"])
def test_chunk_changes_the_speed_never_the_result(momentum, decay_first):
    fields = {"momentum": momentum, "decay_first": decay_first}
    case = make_case(depth=1, update="online", tokens=100, width=8, dtype=mx.float32, **fields)
    results = [by_fast_form(case._replace(config=case.config.replace(chunk_size=b))) for b in (1, 7, 64, 256)]
    for result in results[1:]:
        assert_close(result, results[0], 1e-4 if momentum == "learned" else 1e-5)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("decay_first", [False, True])
@pytest.mark.parametrize("momentum", ["learned", "none"])
def test_online_equals_the_definition_in_float32(momentum, decay_first, residual):
    fields = {"momentum": momentum, "decay_first": decay_first, "residual": residual}
    case = make_case(depth=1, update="online", tokens=200, width=16, chunk_size=64, dtype=mx.float32, **fields)
    assert_close(by_fast_form(case), by_definition(case), 1e-4 if momentum == "learned" else 1e-5)


def test_anchored_at_one_token_is_online(float64):
    """Two forms that share little: every token its own anchor, and one system for the whole sequence."""
    online = make_case(depth=1, update="online", chunk_size=64, tokens=21)
    anchored = online._replace(
        config=online.config.replace(update="anchored", chunk_size=1),
        state=online.state._replace(anchor=online.state.weights),
    )
    expected, after = by_fast_form(online)
    reads, state = by_fast_form(anchored)
    assert_close(reads, expected, 1e-10)
    assert_close(state._replace(anchor=None), after, 1e-10)


def test_online_and_anchored_differ_where_the_loss_curves(float64):
    """They coincide for the dot product alone, whose gradient does not see the weights."""
    for objective, same in (("dot", True), ("l2", False)):
        case = make_case(depth=1, update="online", chunk_size=16, objective=objective)
        anchored = case._replace(
            config=case.config.replace(update="anchored"),
            state=case.state._replace(anchor=case.state.weights),
        )
        assert (error(by_fast_form(anchored)[0], by_fast_form(case)[0]) <= 1e-10) == same


@pytest.mark.parametrize("decay_first", [False, True])
def test_gated_delta_update_agrees(decay_first):
    """Row 11: MLX's own kernel, ``S <- g S (I - b k k^T) + b v k^T``, from another hand.

    Titans (error before decay): beta = 2 theta / g, values times g. Gated DeltaNet: beta = 2 theta as it is.
    """
    case = make_case(
        depth=1,
        update="online",
        momentum="none",
        decay_first=decay_first,
        tokens=70,
        chunk_size=16,
        width=32,
        dtype=mx.float32,
        centre=(-3, 0, 0),
    )
    reads, state = by_fast_form(case)
    g = mx.exp(case.gates.log_keep[:, :, 0]).swapaxes(1, 2)
    beta = 2 * case.gates.step[:, :, 0].swapaxes(1, 2)
    q, k, v = (x.swapaxes(1, 2) for x in (case.q, case.k, case.v))
    if not decay_first:
        v, beta = g[..., None] * v, beta / g
    witness, after = mx.fast.gated_delta_update(q, k, v, g, beta, case.state.weights[0])
    assert error(reads.swapaxes(1, 2), witness) <= 1e-5
    assert error(state.weights[0], after) <= 1e-5
