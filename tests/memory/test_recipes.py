"""Each recipe is its published recurrence, written here in NumPy from the paper."""

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import NeuralMemory, recipes

from .cases import by_fast_form, make_case

HEADS, WIDTH, TOKENS = 3, 5, 21

pytestmark = pytest.mark.usefixtures("float64")


def recurrence(case, step):
    """``W_t = step(W_{t-1}, k_t, v_t, gates)``, read after the write, per row and head; ``g = 1 - alpha``."""
    reads = np.empty(case.q.shape)
    weights = np.array(case.state.weights[0])
    keep, carry, theta = (None if g is None else np.array(g)[:, :, 0] for g in case.gates[:3])
    gates = {
        "g": None if keep is None else np.exp(keep),
        "eta": None if carry is None else np.exp(carry),
        "theta": theta,
    }
    q, k, v = (np.array(x) for x in (case.q, case.k, case.v))
    for row, head in np.ndindex(*reads.shape[:2]):
        for t in range(reads.shape[2]):
            now = {name: g[row, head, t] for name, g in gates.items() if g is not None}
            weights[row, head] = step(weights[row, head], k[row, head, t], v[row, head, t], head=head, **now)
            reads[row, head, t] = weights[row, head] @ q[row, head, t]
    return reads, weights


def linear_attention(w, k, v, **_):
    return w + np.outer(v, k)


def retnet(w, k, v, head, **_):
    return (1 - 2.0 ** (-5 - head)) * w + np.outer(v, k)


def deltanet(w, k, v, theta, **_):
    beta = 2 * theta
    return w @ (np.eye(len(k)) - beta * np.outer(k, k)) + beta * np.outer(v, k)


def gated_deltanet(w, k, v, g, theta, **_):
    beta = 2 * theta
    return g * w @ (np.eye(len(k)) - beta * np.outer(k, k)) + beta * np.outer(v, k)


def mamba2(w, k, v, g, theta, **_):
    return g * w + theta * np.outer(v, k)


def surprise_without_momentum(w, k, v, g, theta, **_):
    return g * w - theta * 2 * np.outer(w @ k - v, k)


PUBLISHED = {
    "linear_attention": (recipes.linear_attention(), linear_attention),
    "retnet": (recipes.retnet(HEADS), retnet),
    "mamba2": (recipes.mamba2(), mamba2),
    "deltanet": (recipes.deltanet(), deltanet),
    "gated_deltanet": (recipes.gated_deltanet(), gated_deltanet),
    "titans_matrix, eq. 8 and 13": (recipes.titans_matrix(momentum="none"), surprise_without_momentum),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipe_equals_its_recurrence(name):
    config, step = PUBLISHED[name]
    case = make_case(config=config, heads=HEADS, width=WIDTH, tokens=TOKENS)
    if name == "retnet":
        # The config's logits pass through float32; the published decay is given exactly.
        exact = mx.log(1 - mx.array([2.0 ** (-5 - head) for head in range(HEADS)], dtype=mx.float64))
        decay = mx.log(mx.exp(-exact) - 1)[None, :, None, None]
        case.logits["decay"] = mx.broadcast_to(decay, case.logits["decay"].shape)
    reads, state = by_fast_form(case)
    expected, weights = recurrence(case, step)
    np.testing.assert_allclose(np.array(reads), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(np.array(state.weights[0]), weights, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["linear_attention", "retnet", "mamba2"])
def test_the_dot_product_family_is_attention_without_softmax(name):
    """The parallel, quadratic form: ``Y = (Q K^T * D) V``, ``D[t, s] = theta_s g_{s+1} ... g_t`` for s <= t."""
    config, _ = PUBLISHED[name]
    case = make_case(config=config, heads=HEADS, width=WIDTH, tokens=TOKENS)
    keep, theta = case.gates.log_keep, np.array(case.gates.step)[:, :, 0]
    logs = np.cumsum(np.zeros_like(theta) if keep is None else np.array(keep)[:, :, 0], axis=-1)
    fades = np.tril(np.exp(logs[..., :, None] - logs[..., None, :])) * theta[..., None, :]
    q, k, v = (np.array(x) for x in (case.q, case.k, case.v))
    expected = ((q @ k.swapaxes(-1, -2)) * fades) @ v
    expected += np.exp(logs)[..., None] * (q @ np.array(case.state.weights[0]).swapaxes(-1, -2))
    reads, _ = by_fast_form(case)
    np.testing.assert_allclose(np.array(reads), expected, rtol=0, atol=1e-9)


def test_gla_is_attention_with_a_decay_per_key_channel():
    """The parallel form: ``Y[t] = sum_s (sum_c q[t, c] k[s, c] prod_{s<j<=t} g_j[c]) v_s``, and what it began with."""
    case = make_case(config=recipes.gla(chunk_size=4), heads=HEADS, width=WIDTH, tokens=TOKENS)
    keep = np.exp(np.array(case.gates.log_keep)).swapaxes(-1, -2)
    q, k, v = (np.array(x) for x in (case.q, case.k, case.v))
    weights = np.array(case.state.weights[0])
    expected = np.empty(v.shape)
    for t in range(TOKENS):
        expected[:, :, t] = np.einsum("...oc,...c->...o", weights, keep[:, :, : t + 1].prod(2) * q[:, :, t])
        for s in range(t + 1):
            faded = q[:, :, t] * keep[:, :, s + 1 : t + 1].prod(2)
            expected[:, :, t] += (faded * k[:, :, s]).sum(-1)[..., None] * v[:, :, s]
    reads, _ = by_fast_form(case)
    np.testing.assert_allclose(np.array(reads), expected, rtol=0, atol=1e-10)


def test_a_decay_per_output_channel_is_equation_13_row_by_row():
    config = recipes.titans_channels(depth=1, norm=False, residual=False, chunk_size=1, write_bound=None)
    case = make_case(config=config, batch=1, heads=1, width=WIDTH)
    keep, eta, theta = (np.array(gate)[0, 0] for gate in case.gates[:3])
    q, k, v = (np.array(x)[0, 0] for x in (case.q, case.k, case.v))
    weights, momentum = (np.array(x[0])[0, 0] for x in (case.state.weights, case.state.momentum))
    expected = np.empty_like(q)
    for t in range(len(q)):
        momentum = np.exp(eta[0, t]) * momentum - theta[0, t] * 2 * np.outer(weights @ k[t] - v[t], k[t])
        weights = np.diag(np.exp(keep[:, t])) @ weights + momentum
        expected[t] = weights @ q[t]
    reads, _ = by_fast_form(case)
    np.testing.assert_allclose(np.array(reads)[0, 0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("max_step", [0.5, 50.0])
def test_longhorn_is_where_its_objective_is_least(max_step):
    """``||W - W_{t-1}||^2 + 2 theta ||W k - v||^2``: there ``W (I + 2 theta k k^T) = W_{t-1} + 2 theta v k^T``."""
    config = recipes.longhorn(max_step=max_step, step_init=0.1)
    case = make_case(config=config, batch=1, heads=1, width=WIDTH, tokens=TOKENS)
    theta = max_step / (1 + np.exp(-np.array(case.logits["step"])))[0, 0, 0]
    k, v, weights = np.array(case.k)[0, 0], np.array(case.v)[0, 0], np.array(case.state.weights[0])[0, 0]
    for t in range(TOKENS):
        left = np.eye(WIDTH) + 2 * theta[t] * np.outer(k[t], k[t])
        weights = np.linalg.solve(left.T, (weights + 2 * theta[t] * np.outer(v[t], k[t])).T).T
    _, state = by_fast_form(case)
    np.testing.assert_allclose(np.array(state.weights[0])[0, 0], weights, rtol=0, atol=1e-10)


def test_the_layer_takes_the_implicit_step():
    memory = NeuralMemory(8, 2, recipes.longhorn())
    x = mx.random.normal((1, 5, 8))
    inputs, _ = memory.project(x, memory.init_state(1).tails)
    theta = memory.gates(x).step
    expected = theta / (1 + 2 * theta * (inputs.k * inputs.k).sum(-1)[:, :, None])
    np.testing.assert_allclose(np.array(inputs.gates.step), np.array(expected), rtol=1e-6)
    assert (np.array(inputs.gates.step) < np.array(theta)).all()


def test_titans_matrix_is_equations_12_to_15():
    case = make_case(config=recipes.titans_matrix(), batch=1, heads=1, width=WIDTH, tokens=TOKENS)
    momentum = np.array(case.state.momentum[0])[0, 0]

    def step(w, k, v, g, eta, theta, **_):
        nonlocal momentum
        momentum = eta * momentum - theta * 2 * np.outer(w @ k - v, k)
        return g * w + momentum

    reads, state = by_fast_form(case)
    expected, weights = recurrence(case, step)
    np.testing.assert_allclose(np.array(reads), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(np.array(state.weights[0]), weights, rtol=0, atol=1e-10)
    np.testing.assert_allclose(np.array(state.momentum[0])[0, 0], momentum, rtol=0, atol=1e-10)


def test_ttt_is_mini_batch_descent_on_a_normalised_linear_model():
    """Sun et al. 2024: ``W_t = W_{t'} - theta sum_{t'<s<=t} grad l(W_{t'}; x_s)``, ``f = x + LN(W x)``."""
    case = make_case(config=recipes.ttt(chunk_size=4), batch=1, heads=1, width=WIDTH, tokens=11)
    gain, bias = (np.array(x)[0, 0] for x in case.norm)
    q, k, v = (np.array(x)[0, 0] for x in (case.q, case.k, case.v))
    theta = np.array(case.gates.step)[0, 0, 0]
    weights = np.array(case.state.weights[0])[0, 0]
    expected, anchor = np.empty_like(q), weights
    for t in range(len(q)):
        anchor = weights if t % 4 == 0 else anchor
        weights = weights - theta[t] * ttt_gradient(anchor, k[t], v[t], gain, bias)
        expected[t] = q[t] + layer_norm(weights @ q[t])[0] * gain + bias
    reads, state = by_fast_form(case)
    np.testing.assert_allclose(np.array(reads)[0, 0], expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(np.array(state.weights[0])[0, 0], weights, rtol=0, atol=1e-10)


def layer_norm(z):
    deviation = np.sqrt(z.var() + 1e-5)
    return (z - z.mean()) / deviation, deviation


def ttt_gradient(weights, k, v, gain, bias):
    """Their fused backward of LayerNorm and squared error, with the factor 2 that they leave to the step."""
    unit, deviation = layer_norm(weights @ k)
    g = 2 * (k + unit * gain + bias - v) * gain
    size = len(k)
    return np.outer((size * g - g.sum() - unit * (g * unit).sum()) / (size * deviation), k)


def test_retention_of_retnet_is_per_head_in_the_layer():
    memory = NeuralMemory(8, 4, recipes.retnet(4))
    keep = np.exp(np.array(memory.gates(mx.zeros((1, 2, 8))).log_keep))[0, :, 0, 0]
    np.testing.assert_allclose(keep, [31 / 32, 63 / 64, 127 / 128, 255 / 256], rtol=1e-6)


def test_titans_is_the_default():
    assert recipes.titans() == MemoryConfig()
    assert recipes.titans(depth=3).depth == 3


@pytest.mark.parametrize(
    "config",
    [
        recipes.titans(),
        recipes.titans_matrix(),
        recipes.ttt(),
        recipes.deltanet(),
        recipes.gated_deltanet(),
        recipes.linear_attention(),
        recipes.retnet(2),
        recipes.longhorn(),
        recipes.mamba2(),
        recipes.yaad(),
        recipes.ttt_mlp(),
        recipes.gla(),
        recipes.titans_channels(),
        recipes.moneta(),
        recipes.memora(),
        recipes.omega_net(),
        recipes.atlas(),
    ],
)
def test_every_recipe_is_a_layer(config):
    memory = NeuralMemory(8, 2, config)
    x = mx.random.normal((2, 9, 8))
    y, state = memory(x)
    again, _ = memory(x[:, 4:], memory(x[:, :4])[1])
    assert state.position == 9
    assert mx.abs(y).max().item() > 0
    assert mx.allclose(again, y[:, 4:], atol=1e-5)


def test_a_recipe_takes_changes_and_refuses_what_does_not_fit():
    assert recipes.deltanet(chunk_size=16).chunk_size == 16
    assert recipes.retnet(3).decay_init == (1 / 32, 1 / 64, 1 / 128)
    for heads in ("a", 2.0, 0):
        with pytest.raises(ValueError, match=f"num_heads must be an integer >= 1, got {heads!r}"):
            recipes.retnet(heads)
    with pytest.raises(ValueError, match="depth=2"):
        recipes.gated_deltanet(depth=2)
    with pytest.raises(ValueError, match=r"one per head \(4\), got 2 numbers"):
        NeuralMemory(8, 4, recipes.retnet(2))


def test_the_table_tells_every_recipe_from_the_others():
    rows = recipes.table()
    assert [row["model"] for row in rows] == list(recipes.RECIPES)
    assert len({tuple(list(row.values())[1:5]) for row in rows}) == len(rows), "two recipes of the same choices"
    titans = next(row for row in rows if row["model"] == "Titans (LMM)")
    assert titans["structure"] == "MLP, 2 layers, width x 4, x + LN(...)" and titans["objective"] == "squared error"
    assert titans["retention"] == "learned decay" and titans["learner"].startswith("gradient step, momentum")


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_takes_changes_and_makes_a_memory(name):
    make = recipes.RECIPES[name].make
    config = make(chunk_size=4, conv_size=0)
    assert (config.chunk_size, config.conv_size) == (4, 0)
    y, _ = NeuralMemory(8, 4, config)(mx.random.normal((1, 9, 8)).astype(mx.float32))
    assert y.shape == (1, 9, 8) and mx.isfinite(y).all()
