"""NeuralMemory: the same however cut, masked or batched; causal; reading without writing; mixed precision."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import NeuralMemory, recipes

from .cases import assert_close

DIM, HEADS = 12, 2
CONFIGS = {
    "default": {},
    "online": {"depth": 1, "update": "online"},
    "online, chunk 5": {"depth": 1, "update": "online", "chunk_size": 5},
    "chunk 3": {"chunk_size": 3},
    "matrix, anchored": {"depth": 1, "chunk_size": 4},
    "three layers, silu": {"depth": 3, "activation": "silu", "expansion": 2, "chunk_size": 7},
    "no momentum, no decay": {"momentum": "none", "decay": "none", "chunk_size": 5},
    "fixed decay and step": {
        "decay": "fixed",
        "decay_init": (0.1, 0.01),
        "step_size": "fixed",
        "chunk_size": 5,
    },
    "no convolution": {"conv_size": 0, "chunk_size": 5},
    "shifted keys": {"conv_birth": "shift", "chunk_size": 5},
    "identity, no norm": {"conv_birth": "identity", "norm": False, "residual": False, "chunk_size": 5},
    "sharp step gate": {"step_gate_scale": 4.0, "step_init": 0.2, "chunk_size": 5},
    "decay first": {"depth": 1, "update": "online", "decay_first": True, "normalized_step": True},
    "shared gates": {"shared_gates": True, "chunk_size": 5},
    "decay to birth": {"decay_to": "birth", "decay_init": 0.1, "chunk_size": 5},
}
TWO = ("default", "online")


def make(name, dim=DIM, **options):
    memory = NeuralMemory(dim, HEADS, **CONFIGS[name], **options)
    mx.eval(memory.parameters())
    return memory


def sequence(tokens=23, batch=2, dim=DIM):
    return mx.random.normal((batch, tokens, dim))


def run(memory, x, cuts, state=None):
    outputs = []
    for piece in mx.split(x, cuts, axis=1):
        y, state = memory(piece, state)
        outputs.append(y)
    return mx.concatenate(outputs, axis=1), state


def cuts_of(trial, tokens):
    if trial == 0:
        return list(range(1, tokens))
    rng = np.random.default_rng(trial)
    return sorted(rng.choice(np.arange(1, tokens), rng.integers(1, 8), replace=False).tolist())


@pytest.mark.parametrize("trial", range(3))
@pytest.mark.parametrize("name", CONFIGS)
def test_split_anywhere(name, trial):
    memory, x = make(name), sequence()
    assert_close(run(memory, x, cuts_of(trial, 23)), run(memory, x, []), 1e-5)


@pytest.mark.parametrize("trial", [0, 1])
@pytest.mark.parametrize("name", [*TWO, "shifted keys", "three layers, silu"])
def test_split_anywhere_gradients(name, trial):
    memory, x = make(name), sequence(tokens=17)
    weight = mx.random.normal(x.shape)

    def gradients(cuts):
        def loss(parameters, x):
            memory.update(parameters)
            return (run(memory, x, cuts)[0] * weight).sum()

        parameters = memory.trainable_parameters()
        found = mx.grad(loss, argnums=(0, 1))(parameters, x)
        memory.update(parameters)
        return found

    assert_close(gradients(cuts_of(trial, 17)), gradients([]), 1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_masked_rows_equal_the_rows_alone(name):
    memory, x = make(name), sequence(batch=4)
    rng = np.random.default_rng(0)
    mask = rng.random((4, 23)) < 0.6
    mask[1], mask[2] = True, False
    y, state = memory(x, mask=mx.array(mask))
    assert state.position.tolist() == mask.sum(1).tolist()
    assert not mx.abs(mx.where(mx.array(mask)[..., None], 0, y)).max().item()
    later = sequence(batch=4, tokens=6)
    after, _ = memory(later, state)
    for row in (0, 1, 3):
        kept = mx.array(np.nonzero(mask[row])[0])
        alone, carried = memory(x[row : row + 1, kept])
        assert_close(y[row : row + 1, kept], alone, 1e-5)
        assert_close(state.rows([row])._replace(position=carried.position), carried, 1e-5)
        assert_close(after[row : row + 1], memory(later[row : row + 1], carried)[0], 1e-5)
    assert_close(state.rows([2])._replace(position=0), memory.init_state(1), 0)
    assert_close(after[2:3], memory(later[2:3])[0], 1e-5)


@pytest.mark.parametrize("name", TWO)
def test_a_mask_of_ones_is_no_mask(name):
    memory, x = make(name), sequence()
    y, state = memory(x, mask=mx.ones((2, 23), dtype=mx.bool_))
    assert_close((y, state._replace(position=23)), memory(x), 1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_of_a_batch_do_not_meet(name):
    memory, x = make(name), sequence(batch=3)
    y, state = run(memory, x, [10])
    for row in range(3):
        alone, after = run(memory, x[row : row + 1], [10])
        assert_close(alone, y[row : row + 1], 1e-5)
        assert_close(after, state.rows([row]), 1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_no_output_before_a_perturbed_token_moves(name):
    memory, x = make(name), sequence(batch=1, tokens=9)
    before, _ = memory(x)
    for position in range(9):
        after, _ = memory(x + 3.0 * (mx.arange(9) == position)[:, None])
        moved = mx.abs(after - before).max((0, 2))
        assert (moved[:position] <= 1e-6).all().item(), position
        assert (moved[position:] > 0).all().item(), position


@pytest.mark.parametrize("name", CONFIGS)
def test_everything_learns(name):
    memory, x = make(name), sequence()
    grad = nn.value_and_grad(memory, lambda x: (memory(x)[0] ** 2).sum())(x)[1]
    for path, value in tree_flatten(grad):
        assert mx.abs(value).max().item() > 0, path


@pytest.mark.parametrize("name", CONFIGS)
def test_a_call_changes_no_parameter(name):
    memory, x = make(name), sequence()
    before = {path: np.array(value) for path, value in tree_flatten(memory.parameters())}
    first = run(memory, x, [5])
    assert_close(run(memory, x, [5]), first, 0)
    after = dict(tree_flatten(memory.parameters()))
    assert all(np.array_equal(after[path], value) for path, value in before.items())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_read_equals_what_the_call_read_and_writes_nothing(name):
    """Read with the convolution's past of the token itself, at the weights after its write."""
    memory, x = make(name), sequence(tokens=11)
    _, before = memory(x[:, :10])
    y, after = memory(x[:, 10:], before)
    assert_close(memory.read(x[:, 10:], after._replace(tails=before.tails)), y, 1e-5)
    tokens = sequence(tokens=5)
    together = memory.read(tokens, after)
    assert together.shape == tokens.shape
    assert_close(memory.read(tokens[:, :1], after), together[:, :1], 1e-5)
    assert_close(memory.read(tokens, after), together, 0)


def test_short_sequences_work():
    for name in CONFIGS:
        y, state = make(name)(sequence(tokens=1))
        assert (y.shape, state.position) == ((2, 1, DIM), 1)


def test_any_float_sequence():
    """Not tokens: sampled waves of four sensors, each value a feature."""
    time = mx.linspace(0, 6, 200)[None, :, None] * mx.arange(1, 5)
    memory = NeuralMemory(4, 1, depth=1, update="online")
    y, state = memory(mx.sin(time))
    assert (y.shape, y.dtype, state.position) == ((1, 200, 4), mx.float32, 200)
    assert mx.isfinite(y).all().item()


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_have_the_dtype_of_the_model_and_the_state_is_float32(name, dtype):
    memory = make(name)
    memory.set_dtype(dtype)
    x = sequence().astype(dtype)
    y, state = run(memory, x, [7, 8])
    masked, unlike = memory(x, state, mask=mx.random.uniform(shape=(2, 23)) < 0.5)
    assert {y.dtype, masked.dtype, memory.read(x, state).dtype} == {dtype}
    for after in (memory.init_state(2), state, unlike):
        fast = (*after.weights, *(after.momentum or ()), *(after.anchor or ()))
        assert {array.dtype for array in fast} == {mx.float32}


@pytest.mark.parametrize("name", TWO)
def test_the_memory_works_in_float32_under_a_bfloat16_model(name):
    memory = make(name)
    memory.set_dtype(mx.bfloat16)
    inputs, _ = memory.project(sequence().astype(mx.bfloat16), memory.init_state(2).tails)
    assert {array.dtype for array in (*inputs[:3], *inputs.gates[:3])} == {mx.float32}
    norms = mx.linalg.norm(inputs.k, axis=-1)
    assert mx.abs(norms - 1).max().item() <= 1e-4


@pytest.mark.parametrize("name", TWO)
def test_half_precision_inputs_to_a_float32_memory(name):
    """Gradients included: they come back in the dtype of what they belong to."""
    memory, x = make(name), sequence().astype(mx.bfloat16)
    y, _ = run(memory, x, [9])
    assert y.dtype == mx.bfloat16
    assert_close(y.astype(mx.float32), memory(x.astype(mx.float32))[0], 2e-2)
    gradient = mx.grad(lambda x: memory(x)[0].astype(mx.float32).square().sum())(x)
    expected = mx.grad(lambda x: memory(x)[0].square().sum())(x.astype(mx.float32))
    assert gradient.dtype == mx.bfloat16
    assert_close(gradient.astype(mx.float32), expected, 3e-2)


def test_compiled_equals_plain():
    memory, x = make("chunk 3"), sequence(tokens=4)
    _, state = memory(sequence(tokens=2))
    compiled = mx.compile(lambda x, state: memory(x, state))
    assert_close(compiled(x, state), memory(x, state), 1e-5)


def test_without_read_out_the_reads_come_back():
    memory, x = make("default", readout=False), sequence()
    y, _ = memory(x)
    assert_close(y, memory.absorb(x)[0], 0)
    assert not any(path.startswith("readout") for path, _ in tree_flatten(memory.parameters()))


@pytest.mark.parametrize(
    ("fields", "alpha", "eta", "theta"),
    [
        ({}, 0.001, 0.5, 0.1),
        ({"decay_init": 0.01, "momentum_init": 0.9, "step_init": 0.3, "max_step": 0.4}, 0.01, 0.9, 0.3),
        ({"normalized_step": True}, 0.001, 0.5, 0.05),
        ({"step_size": "fixed", "max_step": 0.25}, 0.001, 0.5, 0.25),
        ({"step_gate_scale": 4.0, "step_init": 0.2}, 0.001, 0.5, 0.2),
        ({"decay_init": (0.2, 0.1), "decay": "fixed"}, [[0.2], [0.1]], 0.5, 0.1),
        ({"decay_init": (0.2, 0.1)}, [[0.2], [0.1]], 0.5, 0.1),
    ],
)
def test_gates_at_birth_are_as_configured(fields, alpha, eta, theta):
    memory = NeuralMemory(DIM, HEADS, **fields)
    gates = memory.gates(mx.zeros((1, 1, DIM)))
    found = [
        1 - np.exp(gates.log_keep)[0, :, :, 0],
        np.exp(gates.log_momentum)[0, :, :, 0],
        gates.step[0, :, :, 0],
    ]
    for gate, expected in zip(found, (alpha, eta, theta), strict=True):
        np.testing.assert_allclose(np.array(gate), np.broadcast_to(expected, (HEADS, 2)), rtol=1e-3)


def test_gates_are_per_token_head_and_memory_layer():
    gates = NeuralMemory(DIM, HEADS, depth=3).gates(sequence(tokens=4))
    for gate in gates[:3]:
        assert gate.shape == (2, HEADS, 3, 4)
        assert len(set(np.array(gate).ravel().tolist())) == gate.size


def test_a_learned_threshold_begins_where_it_is_asked_to_and_follows_the_token():
    for config in ({}, {"depth": 3, "shared_gates": True}):
        memory = NeuralMemory(DIM, HEADS, objective="huber", threshold_init=0.7, **config)
        np.testing.assert_allclose(np.array(memory.gates(mx.zeros((1, 2, DIM))).threshold), 0.7, rtol=1e-5)
        found = memory.gates(sequence(tokens=4)).threshold
        assert len(set(np.array(found).ravel().tolist())) == found.size and (found > 0).all()
    fixed = NeuralMemory(DIM, HEADS, objective="huber", threshold="fixed", threshold_init=0.7)
    assert "threshold_gate" not in fixed and mx.allclose(fixed.gates(sequence(tokens=4)).threshold, mx.array(0.7))
    assert NeuralMemory(DIM, HEADS).gates(sequence(tokens=4)).threshold is None


def test_the_step_gate_may_be_sharper_than_the_others():
    plain, sharp = (NeuralMemory(DIM, HEADS, step_gate_scale=scale) for scale in (1.0, 4.0))
    sharp.update(plain.parameters())
    x = sequence(tokens=4)
    gates = plain.gates(x)
    plain.step_gate.weight = 4 * plain.step_gate.weight
    assert_close(sharp.gates(x), gates._replace(step=plain.gates(x).step), 1e-6)


def test_gates_see_a_large_token_at_unit_size():
    memory, x = NeuralMemory(DIM, HEADS), sequence(tokens=4)
    unit = x * mx.rsqrt((x * x).mean(-1, keepdims=True))
    assert_close(memory.gates(1000 * unit), memory.gates(unit), 1e-5)
    half = memory.gates(0.5 * unit)
    assert mx.abs(half.step - memory.gates(unit).step).max().item() > 1e-3, "small tokens keep their size"


@pytest.mark.parametrize("taps", [1, 2, 4])
def test_convolution_is_causal_with_its_past(taps):
    memory, x = NeuralMemory(DIM, HEADS, MemoryConfig(conv_size=taps)), sequence(tokens=9)
    weight = np.array(memory.k_conv.weight)
    padded = np.concatenate([np.zeros((2, taps - 1, DIM)), np.array(x)], axis=1)
    expected = sum(weight[j] * padded[:, taps - 1 - j : taps - 1 - j + 9] for j in range(taps))
    y, tail = memory.k_conv(x, memory.k_conv.birth_tail(2))
    np.testing.assert_allclose(np.array(y), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(np.array(tail), padded[:, 9:].astype(np.float32))


def test_a_shifted_birth_keys_the_previous_token():
    memory = make("shifted keys")
    assert mx.argmax(mx.abs(memory.k_conv.weight).mean(1)).item() == 1
    assert mx.argmax(mx.abs(memory.q_conv.weight).mean(1)).item() == 0
    assert mx.argmax(mx.abs(memory.v_conv.weight).mean(1)).item() == 0


def test_shared_gates_are_equal_gates_of_every_layer():
    shared = NeuralMemory(DIM, HEADS, shared_gates=True, depth=3, chunk_size=5)
    each = NeuralMemory(DIM, HEADS, depth=3, chunk_size=5)
    common = dict(tree_flatten(shared.parameters()))
    repeated = {
        name: mx.repeat(p, 3, axis=0) if name.startswith(("decay_gate", "momentum_gate", "step_gate")) else p
        for name, p in common.items()
    }
    each.update(tree_unflatten(list(repeated.items())))
    x = sequence()
    assert shared.gates(x).step.shape == (2, HEADS, 1, 23)
    assert_close(shared(x), each(x), 1e-6)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_mask_at_birth_leaves_every_recipe_finite(name):
    """Where nothing is masked it changes nothing; rows of unlike length are as they are alone."""
    memory, x = NeuralMemory(8, 4, recipes.RECIPES[name].make(chunk_size=4)), mx.random.normal((2, 9, 8))
    plain, _ = memory(x)
    masked, _ = memory(x, mask=mx.ones((2, 9), dtype=mx.bool_))
    assert mx.allclose(masked, plain, atol=1e-5)
    ragged, state = memory(x, mask=mx.arange(9)[None] < mx.array([[9], [5]]))
    alone, after = memory(x[1:, :5])
    assert mx.allclose(ragged[1:, :5], alone, atol=1e-5)
    assert all(mx.allclose(a[1:], b, atol=1e-4) for a, b in zip(state.weights, after.weights, strict=True))
