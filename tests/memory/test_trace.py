"""A traced memory did what the fast form did, and its numbers are the ones on paper."""

import mlx.core as mx
import numpy as np
import pytest
from models import build, uniform

from titans_mlx.memory import MemoryState, NeuralMemory, objective, structure
from titans_mlx.memory.projections import Inputs
from titans_mlx.memory.trace import Recorder, Work, effective_rank, trace, trace_rows

DIM, HEADS, TOKENS = 16, 2, 19

MEMORIES = {
    "deep": {"depth": 2, "expansion": 2, "chunk_size": 8},
    "online": {"depth": 1, "update": "online", "chunk_size": 8},
    "no momentum": {"depth": 1, "update": "online", "momentum": "none"},
    "no decay": {"depth": 2, "expansion": 2, "chunk_size": 8, "decay": "none"},
    "neither": {"depth": 1, "update": "online", "momentum": "none", "decay": "none"},
    "shared gates": {"depth": 2, "expansion": 2, "chunk_size": 8, "shared_gates": True},
    "decay to birth": {"depth": 2, "expansion": 2, "chunk_size": 8, "decay_to": "birth", "decay_init": 0.2},
    "decay first": {"depth": 1, "update": "online", "decay_first": True, "momentum": "none", "decay_init": 0.2},
}


def absorbed(tokens: int = TOKENS, before: int = 5, rows: int = 2, **fields):
    """A memory that has read ``before`` tokens, what it absorbs then, and the state after."""
    memory, recorder = NeuralMemory(DIM, HEADS, **fields), Recorder()
    x = mx.random.normal((rows, before + tokens, DIM))
    _, state = memory(x[:, :before])
    _, after = memory.absorb(x[:, before:], state, observe=recorder)
    ((inputs,),) = recorder.pieces
    return memory, recorder.states[0], inputs, after


def moved(state: MemoryState, after: MemoryState) -> np.ndarray:
    """(B, H, L): Frobenius norm of the change of each weight."""
    changes = [w - w0 for w, w0 in zip(after.weights, state.weights, strict=True)]
    return np.stack([np.linalg.norm(np.array(change), axis=(-2, -1)) for change in changes], axis=-1)


@pytest.mark.parametrize("name", MEMORIES)
def test_the_end_is_where_the_fast_form_ends(name):
    memory, state, inputs, after = absorbed(**MEMORIES[name])
    movement = trace(memory, state, inputs).movement
    assert movement.shape == (2, HEADS, memory.config.depth, TOKENS)
    np.testing.assert_allclose(movement[..., -1], moved(state, after), rtol=1e-4)


@pytest.mark.parametrize("name", MEMORIES)
def test_the_first_surprise_is_the_product_of_delta_and_input(name):
    """``u = delta x^T``, so its norm is ``|delta| |x|``; the first token's gradient is taken where the call began."""
    memory, state, inputs, _ = absorbed(before=8, **MEMORIES[name])
    config, weights = memory.config, state.weights
    if config.decay_first:
        keep = mx.exp(inputs.gates.log_keep[:, :, 0, :1, None])
        weights = tuple(keep * w for w in weights)
    key, value = inputs.k[:, :, :1], inputs.v[:, :, :1]
    output, forward = structure.forward(config, structure.with_weights(weights), key, memory.norm, slopes=True)
    error = objective.error(config, output, value)
    deltas = structure.backward(config, weights, forward, error, memory.norm)
    sizes = [
        mx.linalg.norm(d, axis=-1) * mx.linalg.norm(x, axis=-1) for d, x in zip(deltas, forward.inputs, strict=True)
    ]
    expected = np.array(mx.stack(sizes, axis=2))[..., 0]
    np.testing.assert_allclose(trace(memory, state, inputs).surprise[..., 0], expected, rtol=1e-4)


@pytest.mark.parametrize("form", [{"update": "online"}, {"update": "anchored"}])
def test_the_first_surprise_of_a_period_is_that_of_a_new_memory(form):
    fields = {"depth": 1, "chunk_size": 4, "conv_size": 0, "reset_every": 8, **form}
    memory, state, inputs, _ = absorbed(before=8, tokens=16, **fields)
    second = Inputs(*(x[:, :, 8:] for x in inputs[:3]), inputs.gates.pieces([8])[1])
    fresh = trace(memory, memory.init_state(2), second).surprise
    np.testing.assert_allclose(trace(memory, state, inputs).surprise[..., 8:], fresh, rtol=1e-4)


def test_surprise_is_measured_at_the_anchor_within_a_chunk():
    """With one chunk and one repeated token every gradient is the first one's; online it shrinks as it is learned."""
    for update, constant in (("anchored", True), ("online", False)):
        memory, state, inputs, _ = absorbed(before=8, depth=1, update=update, chunk_size=8, conv_size=0)
        same = Inputs(*(mx.broadcast_to(x[:, :, :1], (*x.shape[:2], 8, x.shape[3])) for x in inputs[:3]), inputs.gates)
        same = same._replace(gates=inputs.gates.pieces([8])[0])
        surprises = trace(memory, state, same).surprise
        assert np.allclose(surprises, surprises[..., :1], rtol=1e-4) is constant


@pytest.mark.parametrize("name", MEMORIES)
def test_gates_are_shares_and_zero_where_there_is_none(name):
    memory, state, inputs, _ = absorbed(**MEMORIES[name])
    work = trace(memory, state, inputs)
    for field, gate in (("alpha", memory.config.decay), ("eta", memory.config.momentum)):
        values = getattr(work, field)
        assert values.shape == work.theta.shape
        assert ((values > 0) & (values < 1)).all() if gate == "learned" else (values == 0).all()
    np.testing.assert_array_equal(work.theta, np.broadcast_to(np.array(inputs.gates.step), work.theta.shape))
    assert work.theta.shape[2] == memory.config.depth


def test_closed_gates_move_nothing():
    memory, state, inputs, _ = absorbed(depth=1, update="online", momentum="none", decay="none")
    shut = inputs._replace(gates=inputs.gates._replace(step=mx.zeros_like(inputs.gates.step)))
    work = trace(memory, state, shut)
    assert (work.movement == 0).all()
    assert (work.surprise > 0).all()


@pytest.mark.parametrize("name", ["lmm-online", "mac-deep", "mag-online", "mal-deep"])
def test_a_recorder_sees_every_memory_of_a_model_and_joins_its_pieces(name):
    model, tokens, recorder = build(name), uniform(1, 45), Recorder()
    cache = model.make_cache()
    model.hidden(tokens, cache, recorder)
    works = recorder.traces()
    assert len(works) == 2
    for work, first, block in zip(works, recorder.states, cache, strict=True):
        after = block if isinstance(block, MemoryState) else block.memory
        np.testing.assert_allclose(work.movement[..., -1], moved(first, after), rtol=1e-3)


def test_rows_are_tidy():
    shape = (2, 2, 1, 3)
    work = Work(*(np.arange(12.0).reshape(shape) + 100 * i for i in range(5)))
    rows = trace_rows([work, work], ["k3", "v1", "f0"], row=1)
    assert len(rows) == 2 * 2 * 3
    expected = {"position": 2, "token": "f0", "block": 2, "head": 1, "layer": 1}
    expected |= {"surprise": 8.0, "alpha": 108.0, "eta": 208.0, "theta": 308.0, "movement": 408.0}
    assert expected in rows


def test_bad_input_is_named():
    memory, state, inputs, _ = absorbed(**MEMORIES["online"])
    with pytest.raises(ValueError, match="state must have the batch size"):
        trace(memory, state.rows([0]), inputs)
    with pytest.raises(ValueError, match="words must name the 19 tokens"):
        trace_rows([trace(memory, state, inputs)], ["k0"])
    with pytest.raises(ValueError, match="row must be one of the 2 sequences traced, got 2"):
        trace_rows([trace(memory, state, inputs)], [f"k{place}" for place in range(19)], row=2)


def test_effective_rank_counts_directions():
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    for count in (1, 3, 6):
        made = (turned[:, :count] * 2.5) @ turned[:count]
        assert effective_rank(np.stack([made, 9 * made])) == pytest.approx([count, count])
    assert effective_rank(np.zeros((2, 4, 3))).tolist() == [0, 0]
    uneven = effective_rank(np.diag([3.0, 1.0]))
    assert uneven == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))


def test_ranks_are_taken_of_the_change_when_asked_for():
    memory, state, inputs, after = absorbed(**MEMORIES["deep"])
    assert trace(memory, state, inputs).rank is None
    rank = trace(memory, state, inputs, ranks=True).rank
    assert rank.shape == (2, HEADS, 2, TOKENS)
    for layer in range(2):
        change = np.array(after.weights[layer] - state.weights[layer])
        np.testing.assert_allclose(rank[:, :, layer, -1], effective_rank(change), rtol=1e-3)
    assert "rank" in trace_rows([trace(memory, state, inputs, ranks=True)], ["w"] * TOKENS)[0]
