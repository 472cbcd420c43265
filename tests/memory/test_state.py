"""The state is a value: never changed, cut off as a whole, picked and shared by rows, of constant size."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from titans_mlx.memory import MemoryState, NeuralMemory, recipes
from titans_mlx.memory.state import positions, where_rows

from .cases import assert_close

CONFIGS = {
    "depth 2": {"depth": 2, "chunk_size": 4},
    "online": {"depth": 1, "update": "online", "chunk_size": 4},
    "no momentum, no convolution": {"depth": 2, "momentum": "none", "conv_size": 0, "chunk_size": 4},
}


@pytest.fixture(params=CONFIGS)
def memory(request):
    layer = NeuralMemory(8, 2, **CONFIGS[request.param])
    mx.eval(layer.parameters())
    return layer


def sequence(batch=3, tokens=7):
    return mx.random.normal((batch, tokens, 8))


def arrays(state):
    return [np.array(leaf) for _, leaf in tree_flatten(state) if isinstance(leaf, mx.array)]


def test_what_is_given_is_not_changed(memory):
    """By a call, a masked call, a read or a reset."""
    x, mask = sequence(), mx.random.uniform(shape=(3, 5)) < 0.5
    _, state = memory(x)
    before = arrays(state)
    memory(sequence(tokens=5), state)
    memory(sequence(tokens=5), state, mask=mask)
    memory.read(x, state)
    memory.reset(state, [True, False, True])
    assert all(np.array_equal(a, b) for a, b in zip(arrays(state), before, strict=True))
    assert state.position == 7


def test_same_state_same_answer(memory):
    _, state = memory(sequence())
    x = sequence(tokens=5)
    assert_close(memory(x, state), memory(x, state), 0)


def test_size_does_not_grow_with_what_was_absorbed(memory):
    sizes = {memory(sequence(tokens=tokens))[1].nbytes for tokens in (1, 2, 5, 40)}
    width, layers = 4, memory.config.depth
    hidden = memory.config.expansion * width
    floats = 2 * (2 * width * hidden if layers == 2 else width * width)
    copies = 1 + (memory.config.momentum != "none") + (memory.config.update == "anchored")
    tails = 3 * 3 * 8 if memory.config.conv_size else 0
    assert sizes == {3 * 4 * (floats * copies + tails)}


@pytest.mark.parametrize("make", [recipes.titans, recipes.omega_net, recipes.moneta, recipes.memora, recipes.atlas])
def test_a_state_holds_no_more_than_it_says(make):
    memory, before = NeuralMemory(16, 1, config=make(conv_size=0)), mx.get_active_memory()
    mx.eval(memory.parameters())
    before, x = mx.get_active_memory(), mx.random.normal((1, 512, 16))
    y, state = memory(x)
    mx.eval(y, state)
    del x, y
    # Born weights that the state shares with its memory cost nothing; a buffer's end is rounded up.
    assert mx.get_active_memory() - before < 1.2 * state.nbytes + 10_000


def test_detach_cuts_every_field(memory):
    x, later = sequence(), sequence(tokens=5)

    def loss(x, detach):
        _, state = memory(x)
        y, after = memory(later, state.detach() if detach else state)
        return (y**2).sum() + sum(leaf.sum() for _, leaf in tree_flatten(after) if isinstance(leaf, mx.array))

    assert mx.abs(mx.grad(loss)(x, False)).max().item() > 0
    assert mx.abs(mx.grad(loss)(x, True)).max().item() == 0
    _, state = memory(x)
    assert_close(state.detach(), state, 0)


@pytest.mark.parametrize("field", ["weights", "momentum", "anchor", "tails"])
def test_gradients_flow_through_every_field(field):
    memory = NeuralMemory(8, 2, depth=2, chunk_size=4)
    x, later = sequence(), sequence(tokens=5)

    def loss(x):
        _, state = memory(x)
        kept = state.detach()._replace(**{field: getattr(state, field)})
        return (memory(later, kept)[0] ** 2).sum()

    assert mx.abs(mx.grad(loss)(x)).max().item() > 0


def test_rows_are_picked_in_the_order_asked_for(memory):
    _, state = memory(sequence())
    x = sequence(tokens=5)
    y, after = memory(x, state)
    picked = mx.array([2, 0, 2])
    assert_close(memory(x[picked], state.rows(picked)), (y[picked], after.rows([2, 0, 2])), 1e-6)
    assert state.rows([1]).batch_size == 1


def test_one_token_at_a_time_over_rows_of_unlike_position(memory):
    """A single token takes one slot, wherever in its chunk each row stands."""
    x, later = sequence(), sequence(tokens=9)
    _, state = memory(x, mask=mx.arange(7)[None] < mx.array([2, 7, 4])[:, None])
    whole, after = memory(later, state)
    pieces = []
    for token in range(9):
        y, state = memory(later[:, token : token + 1], state)
        pieces.append(y)
    assert_close((mx.concatenate(pieces, axis=1), state), (whole, after), 1e-5)


def test_rows_of_unlike_position_keep_theirs(memory):
    _, state = memory(sequence(), mask=mx.arange(7)[None] < mx.array([2, 7, 5])[:, None])
    assert state.rows([2, 0]).position.tolist() == [5, 2]


def test_one_row_is_shared_by_many(memory):
    _, state = memory(sequence(batch=1))
    x = sequence(batch=3, tokens=6)
    y, _ = memory(x, state.repeat(3))
    for row in range(3):
        assert_close(memory(x[row : row + 1], state)[0], y[row : row + 1], 1e-6)
    with pytest.raises(ValueError, match="state must have one row to be repeated, got 3"):
        state.repeat(3).repeat(2)
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
        state.repeat(0)


def test_a_reset_row_is_as_new_and_the_others_go_on(memory):
    _, state = memory(sequence())
    x = sequence(tokens=6)
    reset = memory.reset(state, mx.array([False, True, False]))
    assert reset.position.tolist() == [7, 0, 7]
    y, after = memory(x, reset)
    new, born = memory(x)
    on, going = memory(x, state)
    assert_close(y, mx.concatenate([on[:1], new[1:2], on[2:]]), 1e-6)
    expected = where_rows(mx.array([False, True, False]), born, going)
    assert_close(after, expected, 1e-6)
    assert after.position.tolist() == [13, 6, 13]


def test_a_row_at_birth_is_the_learned_start(memory):
    state = memory.init_state(3)
    for weights, initial in zip(state.weights, memory.initial_weights, strict=True):
        assert mx.array_equal(weights, mx.broadcast_to(initial, weights.shape))
    for zero in (*(state.momentum or ()), *state.tails):
        assert not mx.abs(zero).max().item()
    if memory.config.update == "anchored":
        assert_close(state.anchor, state.weights, 0)
    assert state.position == 0
    assert_close(memory.reset(memory(sequence())[1], [True] * 3)._replace(position=0), state, 0)


def test_a_reset_row_may_have_absorbed_persistent_tokens(memory):
    _, state = memory(sequence())
    persistent = sequence(1, 4)[0]
    rows = mx.array([False, True, False])
    reset = memory.reset(state, rows, persistent)
    assert_close(reset, where_rows(rows, memory.init_state(3, persistent), state), 0)
    assert mx.abs(reset.weights[0][1] - memory.initial_weights[0]).max().item() > 0


@pytest.mark.parametrize("tokens", [1, 4, 6])
def test_persistent_tokens_are_absorbed_once_at_birth(memory, tokens):
    """Position 0 and ``A = W`` again, momentum and tails kept (memory.md, section 1.11)."""
    persistent = sequence(batch=1, tokens=tokens)
    state = memory.init_state(3, persistent[0])
    _, absorbed = memory(persistent)
    anchor = None if absorbed.anchor is None else absorbed.weights
    assert_close(state, absorbed._replace(position=0, anchor=anchor).repeat(3), 0)
    if tokens % 4 == 0 or memory.config.update == "online":
        x = sequence()
        prefixed = mx.concatenate([mx.broadcast_to(persistent, (3, tokens, 8)), x], axis=1)
        assert_close(memory(x, state)[0], memory(prefixed)[0][:, tokens:], 1e-5)


def test_persistent_tokens_learn(memory):
    x = sequence()
    gradient = mx.grad(lambda p: (memory(x, memory.init_state(3, p))[0] ** 2).sum())(sequence(1, 4)[0])
    assert (mx.abs(gradient).max(-1) > 0).all().item()


def test_the_state_is_a_tree_of_arrays(memory):
    """So that `mx.eval`, `mx.compile` and `tree_map` take it whole."""
    _, state = memory(sequence())
    same = tree_map(lambda leaf: leaf, state)
    assert isinstance(same, MemoryState)
    assert_close(same, state, 0)
    assert positions(state, 3).tolist() == [7, 7, 7]
    names = {name.split(".")[0] for name, _ in tree_flatten(state._asdict())}
    assert names >= {"weights", "position"}


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0, 3], r"lie in \[0, 3\), got ids from 0 to 3"),
        ([-1], "got ids from -1 to -1"),
        ([0.5], "integer dtype"),
        ([], r"got shape \(0,\)"),
        ([[0, 1]], r"1 axes? \(R,\), got shape \(1, 2\)"),
    ],
    ids=str,
)
def test_rows_that_do_not_exist_are_refused(memory, index, message):
    _, state = memory(sequence())
    with pytest.raises(ValueError, match=f"index must .*{message}"):
        state.rows(index)
