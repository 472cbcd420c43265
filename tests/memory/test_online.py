"""The exact online form: its triangular inverse, alike keys, chunk as a speed knob, and an outside witness."""

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


def alike_keys(momentum, tokens, chunk):
    """Keys one millionth apart, ``2 theta = 1``, ``eta = 0.9``, no decay: the hardest system the gates allow."""
    fields = {"momentum": "learned" if momentum else "none", "decay": "none", "step_size": "fixed"}
    case = make_case(
        depth=1,
        update="online",
        tokens=tokens,
        chunk_size=chunk,
        width=16,
        centre=(0, np.log(9).item(), 0),
        spread=0,
        dtype=mx.float32,
        **fields,
    )
    k = mx.random.normal((2, 2, 1, 16)) + 1e-3 * mx.random.normal(case.k.shape)
    k = k / mx.linalg.norm(k, axis=-1, keepdims=True)
    return case._replace(k=k, q=k)


@pytest.mark.parametrize(
    ("momentum", "chunk", "tolerance"),
    [(False, 64, 1e-5), (False, 256, 1e-5), (True, 64, 1e-4), (True, 128, 2e-4), (True, 256, 1e-3)],
)
def test_nearly_identical_keys_at_the_largest_step(momentum, chunk, tolerance):
    case = alike_keys(momentum, 256, chunk)
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
    tolerance = 1e-4 if momentum == "learned" else 1e-5
    results = [
        by_fast_form(
            make_case(
                depth=1,
                update="online",
                tokens=100,
                width=8,
                chunk_size=chunk,
                momentum=momentum,
                decay_first=decay_first,
                dtype=mx.float32,
            )
        )
        for chunk in (1, 7, 64, 256)
        if mx.random.seed(0) is None
    ]
    for result in results[1:]:
        assert_close(result, results[0], tolerance)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("decay_first", [False, True])
@pytest.mark.parametrize("momentum", ["learned", "none"])
def test_online_equals_the_definition_in_float32(momentum, decay_first, residual):
    fields = {"momentum": momentum, "decay_first": decay_first, "residual": residual}
    case = make_case(
        depth=1, update="online", tokens=200, width=16, chunk_size=64, dtype=mx.float32, **fields
    )
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

    Titans (error before decay): beta = 2 theta / g and values times g. Gated DeltaNet: beta = 2 theta as it is.
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
