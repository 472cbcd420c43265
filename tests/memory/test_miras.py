"""Rules of Miras and of what followed it, written here in NumPy from their papers, one token at a time (chunk 1)."""

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import recipes, retention, structure
from titans_mlx.memory.learner import orthogonalised

from .cases import by_fast_form, make_case

WIDTH = 5
PLAIN = {"depth": 1, "norm": False, "residual": False, "chunk_size": 1, "write_bound": None}

pytestmark = pytest.mark.usefixtures("float64")


def test_moneta_is_equations_11_and_24_of_miras():
    case = make_case(config=recipes.moneta(**PLAIN), batch=1, heads=1, width=WIDTH)
    q, k, v = (np.array(x)[0, 0] for x in (case.q, case.k, case.v))
    keep, theta = np.exp(np.array(case.gates.log_keep))[0, 0, 0], np.array(case.gates.step)[0, 0, 0]
    held = np.array(case.state.weights[0])[0, 0]
    expected = np.empty_like(q)
    for t in range(len(q)):
        weights = held / (np.abs(held) ** 4).sum() ** (2 / 4)
        e = weights @ k[t] - v[t]
        held = keep[t] * held - theta[t] * np.outer(3 * np.sign(e) * e**2, k[t])
        expected[t] = held / (np.abs(held) ** 4).sum() ** (2 / 4) @ q[t]
    reads, _ = by_fast_form(case)
    # Both the loss's absolute value and the norm are smoothed by 1e-6 under a root.
    np.testing.assert_allclose(np.array(reads)[0, 0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("power", [2.5, 3.0, 4.0, 6.0, 8.0])
def test_weights_of_lq_and_products_with_them(power):
    config = MemoryConfig(retention="lq", retention_power=power)
    held, z = (mx.random.normal(shape).astype(mx.float64) for shape in ((3, 4, WIDTH), (3, WIDTH)))
    a = np.array(held)
    expected = a / (np.abs(a) ** power).sum((-1, -2), keepdims=True) ** ((power - 2) / power)
    np.testing.assert_allclose(np.array(retention.weights(config, (held,))[0]), expected, rtol=1e-6)
    found = np.array(retention.product(config, held, z))
    np.testing.assert_allclose(found, np.einsum("nij,nj->ni", expected, np.array(z)), rtol=0, atol=1e-6)


def test_memora_is_equation_27_of_miras():
    case = make_case(config=recipes.memora(**PLAIN), batch=1, heads=1, width=WIDTH)
    q, k, v = (np.array(x)[0, 0] for x in (case.q, case.k, case.v))
    keep, theta = np.exp(np.array(case.gates.log_keep))[0, 0, 0], np.array(case.gates.step)[0, 0, 0]

    def softmax(z):
        e = np.exp(z - z.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    weights, expected = softmax(np.array(case.state.weights[0])[0, 0]), np.empty_like(q)
    for t in range(len(q)):
        # Weights that sum to their number a row, where the paper's sum to 1.
        gradient = 2 * np.outer(WIDTH * weights @ k[t] - v[t], k[t])
        weights = softmax(keep[t] * np.log(weights) - theta[t] * gradient)
        expected[t] = WIDTH * weights @ q[t]
    reads, _ = by_fast_form(case)
    np.testing.assert_allclose(np.array(reads)[0, 0], expected, rtol=0, atol=1e-10)


def test_orthogonal_writes_are_those_of_muon():
    """``S = eta S - theta u``, ``W = (1 - alpha) W + theta NS_5(S)``; NS_5 as its author wrote it."""
    case = make_case(config=MemoryConfig(orthogonal_writes=True, **PLAIN), batch=1, heads=1, width=WIDTH)
    k, v = (np.array(x)[0, 0] for x in (case.k, case.v))
    keep, eta, theta = (np.array(gate)[0, 0, 0] for gate in case.gates[:3])
    weights, momentum = (np.array(x[0])[0, 0] for x in (case.state.weights, case.state.momentum))

    def newton_schulz(g):
        x = g / np.linalg.norm(g)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x

    for t in range(len(k)):
        momentum = np.exp(eta[t]) * momentum - theta[t] * 2 * np.outer(weights @ k[t] - v[t], k[t])
        weights = np.exp(keep[t]) * weights + theta[t] * newton_schulz(momentum)
    _, state = by_fast_form(case)
    np.testing.assert_allclose(np.array(state.weights[0])[0, 0], weights, rtol=0, atol=1e-10)


def test_the_omega_rule_descends_the_last_tokens_together():
    """``W_t = (1 - alpha) W - theta grad (l_t + sum gamma_i l_i)`` over the tokens before, all at ``W_{t-1}``."""
    case = make_case(config=MemoryConfig(omega=3, momentum="none", **PLAIN), batch=1, heads=1, width=WIDTH)
    past = [np.array(x)[0, 0] for x in case.state.recent]
    share = np.concatenate([past[2][:, 0], np.array(case.gates.share)[0, 0, 0]])
    k, v = (np.concatenate([old, np.array(x)[0, 0]]) for old, x in zip(past[:2], (case.k, case.v), strict=True))
    keep, theta = np.exp(np.array(case.gates.log_keep))[0, 0, 0], np.array(case.gates.step)[0, 0, 0]
    weights = np.array(case.state.weights[0])[0, 0]
    for t in range(len(theta)):
        gradient = 2 * np.outer(weights @ k[t + 2] - v[t + 2], k[t + 2])
        for i in (t, t + 1):
            gradient += share[i] * 2 * np.outer(weights @ k[i] - v[i], k[i])
        weights = keep[t] * weights - theta[t] * gradient
    _, state = by_fast_form(case)
    np.testing.assert_allclose(np.array(state.weights[0])[0, 0], weights, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (6, 6)])
def test_an_orthogonalised_matrix_has_singular_values_near_one(shape):
    matrix = mx.array(np.random.default_rng(0).normal(size=(4, *shape)), dtype=mx.float64)
    values = np.linalg.svd(np.array(orthogonalised(matrix)), compute_uv=False)
    assert values.min() > 0.6 and values.max() < 1.3
    assert mx.abs(orthogonalised(mx.zeros(shape))).max().item() == 0


def test_keys_of_degree_two_have_the_inner_products_of_their_kernel():
    config = MemoryConfig(depth=1, key_degree=2)
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(7, WIDTH)) for _ in range(2))
    seen = [np.array(structure.features(config, mx.array(z, dtype=mx.float64))) for z in (x, y)]
    np.testing.assert_allclose(seen[0] @ seen[1].T, (x @ y.T + (x @ y.T) ** 2) / 2, rtol=1e-6)
    assert structure.widths(config, WIDTH) == [(WIDTH * (WIDTH + 3) // 2, WIDTH)]


def test_keys_of_degree_two_hold_more_pairs_than_a_key_is_wide():
    """Twelve pairs with keys of five numbers, read over and over: a matrix learns all with 20 features, not with 5."""
    rng = np.random.default_rng(1)
    pairs = 12

    def left_over(degree):
        config = recipes.deltanet(key_degree=degree, chunk_size=pairs)
        case = make_case(config=config, batch=1, heads=1, width=WIDTH, tokens=pairs)
        logits = {"step": mx.full(case.logits["step"].shape, 4.0, dtype=mx.float64)}
        case = case._replace(logits=logits)
        for _ in range(400):
            order = mx.array(rng.permutation(pairs))
            again = case._replace(k=case.k[:, :, order], v=case.v[:, :, order])
            _, state = by_fast_form(again)
            case = case._replace(state=state)
        return mx.abs(case.k @ case.state.weights[0].swapaxes(-1, -2) - case.v).mean().item()

    assert left_over(2) < 0.05 < 0.2 < left_over(1)


def test_yaad_is_equation_15_of_miras():
    """Token by token (chunk 1): within the threshold a step on the squared error, beyond it one of the error's sign."""
    plain = {"depth": 1, "norm": False, "residual": False, "chunk_size": 1, "write_bound": None}
    case = make_case(config=recipes.yaad(**plain), batch=1, heads=1, width=WIDTH)
    q, k, v = (np.array(x)[0, 0] for x in (case.q, case.k, case.v))
    theta, delta = (np.array(gate)[0, 0, 0] for gate in (case.gates.step, case.gates.threshold))
    keep = np.exp(np.array(case.gates.log_keep)[0, 0, 0])
    weights, sides = np.array(case.state.weights[0])[0, 0], set()
    expected = np.empty_like(q)
    for t in range(len(q)):
        e = weights @ k[t] - v[t]
        size = np.linalg.norm(e)
        sides.add(bool(size <= delta[t]))
        slope = 2 * e if size <= delta[t] else 2 * delta[t] * e / size
        weights = keep[t] * weights - theta[t] * np.outer(slope, k[t])
        expected[t] = weights @ q[t]
    reads, _ = by_fast_form(case)
    assert sides == {True, False}
    np.testing.assert_allclose(np.array(reads)[0, 0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("power", [1.5, 2.0, 3.0])
def test_the_lp_objective_is_equation_11_of_miras(power):
    config = MemoryConfig(objective="lp", loss_power=power, depth=1, chunk_size=1, write_bound=None, momentum="none")
    case = make_case(config=config, batch=1, heads=1, width=WIDTH)
    k, v = (np.array(x)[0, 0] for x in (case.k, case.v))
    theta, keep = np.array(case.gates.step)[0, 0, 0], np.exp(np.array(case.gates.log_keep)[0, 0, 0])
    weights = np.array(case.state.weights[0])[0, 0]
    for t in range(len(k)):
        e = weights @ k[t] - v[t]
        weights = keep[t] * weights - theta[t] * np.outer(power * np.sign(e) * np.abs(e) ** (power - 1), k[t])
    _, state = by_fast_form(case)
    # The absolute value is smoothed by 1e-6 under a root.
    np.testing.assert_allclose(np.array(state.weights[0])[0, 0], weights, rtol=0, atol=5e-3 if power < 2 else 1e-5)
