"""Row 12, the memory's part: finite forward and backward on the inputs that break others, at default settings."""

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from titans_mlx.memory import NeuralMemory

DIM = 16
MEMORIES = {
    "online": {"depth": 1, "update": "online"},
    "anchored": {"depth": 2},
    "anchored matrix": {"depth": 1},
    "three layers": {"depth": 3},
}


def repeated(tokens=4096):
    token = mx.random.normal((1, DIM))
    rows = {"one token": token, "one large token": 1e3 * token}
    return {name: mx.broadcast_to(row, (tokens, DIM)) for name, row in rows.items()}


def hard(tokens=512):
    noise = mx.random.normal((tokens, DIM))
    return {
        "equal channels": mx.broadcast_to(mx.random.normal((tokens, 1)), (tokens, DIM)),
        "zero": mx.zeros((tokens, DIM)),
        "noise": noise,
        "small noise": 1e-6 * noise,
        "zero and noise in turn": mx.where(mx.arange(tokens)[:, None] // 64 % 2 == 0, 0, noise),
    }


def large(tokens=1024):
    return {"large noise": 1e3 * mx.random.normal((tokens, DIM))}


def check(memory, rows, dtype=mx.float32):
    """Outputs, state and every gradient are finite; one row of the batch per kind of input."""
    memory.set_dtype(dtype)
    x = mx.stack(list(rows.values())).astype(dtype)

    def loss(parameters, x):
        memory.update(parameters)
        y, state = memory(x)
        return y.astype(mx.float32).square().mean(), (y, state)

    parameters = memory.trainable_parameters()
    (_, (y, state)), (gradients, x_gradient) = mx.value_and_grad(loss, argnums=(0, 1))(parameters, x)
    memory.update(parameters)
    mx.eval(y, state, gradients, x_gradient)
    found = {"y": y, "gradient of x": x_gradient, **dict(tree_flatten(state))}
    for row, name in enumerate(rows):
        for path, array in found.items():
            if isinstance(array, mx.array):
                assert mx.isfinite(array[row]).all().item(), (name, path)
    for path, array in tree_flatten(gradients):
        assert mx.isfinite(array).all().item(), path


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
@pytest.mark.parametrize("chunk", [16, 64, 256])
@pytest.mark.parametrize("inputs", [repeated, hard], ids=["repeated", "hard"])
@pytest.mark.parametrize("name", ["online", "anchored"])
def test_finite_forward_and_backward(name, inputs, chunk, dtype):
    check(NeuralMemory(DIM, 2, chunk_size=chunk, **MEMORIES[name]), inputs(), dtype)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
@pytest.mark.parametrize("chunk", [16, 64, 256])
@pytest.mark.parametrize("name", ["online", "anchored matrix"])
def test_finite_on_large_inputs(name, chunk, dtype):
    check(NeuralMemory(DIM, 2, chunk_size=chunk, **MEMORIES[name]), large(), dtype)


@pytest.mark.parametrize("chunk", [16, 64, 256])
def test_finite_forward_on_large_inputs_of_a_deep_memory(chunk):
    y, state = NeuralMemory(DIM, 2, chunk_size=chunk)(mx.stack(list(large(4096).values())))
    assert mx.isfinite(y).all().item()
    assert all(mx.isfinite(w).all().item() for w in (*state.weights, *state.momentum))


@pytest.mark.parametrize("chunk", [16, 64])
def test_finite_backward_on_large_inputs_of_a_deep_memory(chunk):
    """Gates that saturated with the inputs' size would let this gradient grow without end."""
    check(NeuralMemory(DIM, 2, chunk_size=chunk), large(4096))


@pytest.mark.parametrize(
    "fields", [{"momentum": "none"}, {"decay": "none"}, {"momentum": "none", "decay": "none"}], ids=str
)
@pytest.mark.parametrize("name", MEMORIES)
def test_finite_with_a_choice_turned_off(name, fields):
    check(NeuralMemory(DIM, 2, **MEMORIES[name], **fields), {**repeated(512), **hard(512)})


@pytest.mark.parametrize("name", ["online", "anchored"])
def test_fast_weights_stay_bounded_on_one_repeated_token(name):
    """Alpha 0.001 and a loss that is met: the weights settle instead of growing with the length.

    Anchored weights go on wandering, and the last bit decides where to: the mean over many rows is what settles.
    """
    memory = NeuralMemory(DIM, 2, **MEMORIES[name])
    x = mx.broadcast_to(mx.random.normal((32, 1, DIM)), (32, 4096, DIM))
    state, sizes = None, []
    for piece in mx.split(x, [1024], axis=1):
        _, state = memory(piece, state)
        largest = mx.stack([mx.abs(w).max((1, 2, 3)) for w in state.weights]).max(0)
        sizes.append(largest.mean().item())
        assert largest.max().item() < 10
    assert sizes[1] < 1.5 * sizes[0]


@pytest.mark.parametrize("name", ["online", "anchored"])
def test_finite_where_every_gate_is_driven_to_its_ends(name):
    """Gate biases at +-50: full forgetting, full carrying, no step, and their opposites."""
    for decay, momentum, step in ((50, 50, 50), (-50, 50, 50), (50, -50, -50), (-50, -50, 50)):
        memory = NeuralMemory(DIM, 2, chunk_size=16, **MEMORIES[name])
        for gate, bias in ((memory.decay_gate, decay), (memory.momentum_gate, momentum), (memory.step_gate, step)):
            gate.bias = mx.full(gate.bias.shape, float(bias))
        x = mx.random.normal((2, 48, DIM))
        grad = nn.value_and_grad(memory, lambda x, memory=memory: memory(x)[0].square().mean())(x)
        assert all(mx.isfinite(leaf).all().item() for _, leaf in tree_flatten(grad)), (decay, momentum, step)


@pytest.mark.parametrize("name", ["online", "anchored"])
def test_a_vanished_memory_is_read_as_something_finite(name):
    """Weights faded to nothing, then normalised by the read-out."""
    memory = NeuralMemory(DIM, 2, **MEMORIES[name])
    state = memory.init_state(1)
    for scale in (0.0, 1e-20, 1e-38):
        faded = state._replace(weights=tuple(scale * w for w in state.weights))
        x = mx.random.normal((1, 3, DIM))
        gradient = mx.grad(lambda x, faded=faded: memory.read(x, faded).square().sum())(x)
        assert mx.isfinite(memory.read(x, faded)).all().item()
        assert mx.isfinite(gradient).all().item()
