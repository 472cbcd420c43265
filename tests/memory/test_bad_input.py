"""Bad input is a ValueError that names the argument and its value, and the state stays as it was."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import NeuralMemory

DIM = 8
X = (2, 5, DIM)


def with_value(value):
    x = mx.zeros(X)
    x[1, 3, 2] = value
    return x


INPUTS = {
    "rank 2": (mx.zeros((5, DIM)), r"x must have 3 axes \(B, T, dim\), got shape \(5, 8\)"),
    "rank 4": (mx.zeros((1, 2, 5, DIM)), r"x must have 3 axes .*got shape \(1, 2, 5, 8\)"),
    "width": (mx.zeros((2, 5, 6)), r"x must be \(B, T, dim = 8\) .*got shape \(2, 5, 6\)"),
    "no token": (mx.zeros((2, 0, DIM)), r"x must be .*T >= 1, got shape \(2, 0, 8\)"),
    "no row": (mx.zeros((0, 5, DIM)), r"x must be .*B >= 1 .*got shape \(0, 5, 8\)"),
    "integers": (mx.zeros(X, mx.int32), r"x must have a floating dtype .*got mlx.core.int32"),
    "booleans": (mx.zeros(X, mx.bool_), r"x must have a floating dtype .*got mlx.core.bool"),
    "not an array": (np.zeros(X, np.float32), r"x must be an mx.array \(B, T, dim\), got ndarray"),
    "a list": ([[0.0] * DIM], "x must be an mx.array .*got list"),
    "NaN": (with_value(float("nan")), "x must be finite, got a NaN or an infinity in row 1"),
    "infinity": (with_value(float("inf")), "x must be finite, got a NaN or an infinity in row 1"),
    "minus infinity": (with_value(float("-inf")), "x must be finite, got a NaN or an infinity in row 1"),
}
MASKS = {
    "length": (
        mx.ones((2, 4), mx.bool_),
        r"mask must be bool of shape \(2, 5\), got .*bool of shape \(2, 4\)",
    ),
    "rows": (mx.ones((3, 5), mx.bool_), r"mask must be bool of shape \(2, 5\), got .*of shape \(3, 5\)"),
    "rank": (mx.ones((5,), mx.bool_), r"mask must have 2 axes \(B, T\), got shape \(5,\)"),
    "numbers": (mx.ones((2, 5)), r"mask must be bool of shape \(2, 5\), got .*float32"),
    "not an array": (np.ones((2, 5), bool), r"mask must be an mx.array \(B, T\), got ndarray"),
    "a list": ([[True] * 5] * 2, r"mask must be an mx.array \(B, T\), got list"),
}
OTHERS = {
    "depth": {"depth": 3},
    "matrix": {"depth": 1},
    "online": {"depth": 1, "update": "online"},
    "no momentum": {"momentum": "none"},
    "expansion": {"expansion": 2},
    "no convolution": {"conv_size": 0},
    "taps": {"conv_size": 3},
}


@pytest.fixture
def memory():
    return NeuralMemory(DIM, 2, chunk_size=3)


@pytest.fixture
def state(memory):
    """A state in mid-chunk, checked afterwards to be what it was."""
    _, state = memory(mx.random.normal((2, 4, DIM)))
    before = [np.array(leaf) for _, leaf in tree_flatten(state)]
    yield state
    after = [np.array(leaf) for _, leaf in tree_flatten(state)]
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("name", INPUTS)
def test_bad_input_is_named(memory, state, name):
    x, message = INPUTS[name]
    for call in (memory, memory.read):
        with pytest.raises(ValueError, match=message):
            call(x, state)
    with pytest.raises(ValueError, match=message):
        memory(x)


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_that_does_not_fit_is_named(memory, state, name):
    mask, message = MASKS[name]
    with pytest.raises(ValueError, match=message):
        memory(mx.zeros(X), state, mask=mask)


def test_a_state_of_another_batch_is_refused(memory, state):
    for call in (memory, memory.read):
        with pytest.raises(ValueError, match="state must have the batch size of the input, 3, got 2"):
            call(mx.zeros((3, 5, DIM)), state)


@pytest.mark.parametrize("name", OTHERS)
def test_a_state_of_another_configuration_is_refused(memory, state, name):
    other = NeuralMemory(DIM, 2, **{"chunk_size": 3, **OTHERS[name]})
    for call in (other, other.read):
        with pytest.raises(ValueError, match=r"state must come from this configuration: .*weights.*got .*weights"):
            call(mx.zeros(X), state)


def test_a_state_of_another_width_is_refused(state):
    for other in (NeuralMemory(DIM, 4), NeuralMemory(DIM, 1)):
        with pytest.raises(ValueError, match=r"state must come from this configuration.*got .*\(2, 16, 4\)"):
            other(mx.zeros(X), state)


@pytest.mark.parametrize("wrong", [(), {}, "state", 3])
def test_what_is_no_state_is_refused(memory, wrong):
    with pytest.raises(ValueError, match=f"state must be a MemoryState, got {type(wrong).__name__}"):
        memory(mx.zeros(X), wrong)
    with pytest.raises(ValueError, match=f"state must be a MemoryState, got {type(wrong).__name__}"):
        memory.read(mx.zeros(X), wrong)


def changed(state, field, change):
    """``state`` with a change of the first array of a field."""
    first, *others = getattr(state, field)
    return state._replace(**{field: (change(first), *others)})


BROKEN = {
    "a field of one row": lambda s: changed(s, "momentum", lambda a: a[:1]),
    "tails of one row": lambda s: changed(s, "tails", lambda a: a[:1]),
    "half precision": lambda s: changed(s, "weights", lambda a: a.astype(mx.bfloat16)),
    "no array": lambda s: changed(s, "weights", lambda a: np.array(a)),
    "no momentum": lambda s: s._replace(momentum=None),
    "no weights": lambda s: s._replace(weights=()),
    "a negative position": lambda s: s._replace(position=-1),
    "half a token": lambda s: s._replace(position=3.5),
    "no position": lambda s: s._replace(position=None),
    "positions of one row": lambda s: s._replace(position=mx.array([4])),
    "a negative position of a row": lambda s: s._replace(position=mx.array([4, -4])),
    "positions of half a token": lambda s: s._replace(position=mx.array([4.0, 4.5])),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_state_broken_by_hand_is_refused(memory, state, name):
    broken = BROKEN[name](state)
    for call in (memory, memory.read):
        with pytest.raises(ValueError, match=r"^state(\.position)? must .*got "):
            call(mx.zeros(X), broken)
    with pytest.raises(ValueError, match=r"^state(\.position)? must .*got "):
        memory.reset(broken, [True, False])


@pytest.mark.parametrize(
    ("persistent", "message"),
    [
        (mx.zeros((2, 3, DIM)), r"2 axes \(P, dim\), got shape \(2, 3, 8\)"),
        (mx.zeros((3, DIM + 1)), r"be \(P, dim = 8\), P >= 1, got shape \(3, 9\)"),
        (mx.zeros((0, DIM)), r"be \(P, dim = 8\), P >= 1, got shape \(0, 8\)"),
        (mx.zeros((3, DIM), mx.int32), "floating dtype"),
        ([[0.0] * DIM], "mx.array .*got list"),
    ],
    ids=str,
)
def test_persistent_tokens_of_another_form_are_refused(memory, state, persistent, message):
    with pytest.raises(ValueError, match=f"^persistent must .*{message}"):
        memory.init_state(2, persistent)
    with pytest.raises(ValueError, match=f"^persistent must .*{message}"):
        memory.reset(state, [True, False], persistent)


def test_reading_needs_a_state(memory):
    with pytest.raises(ValueError, match="state must be a MemoryState, got NoneType"):
        memory.read(mx.zeros(X), None)


@pytest.mark.parametrize("rows", [[True], [True, False, True], [0, 1], [[True, False]], None])
def test_rows_to_reset_are_one_bool_each(memory, state, rows):
    with pytest.raises(ValueError, match=r"rows must be bool of shape \(2,\), got "):
        memory.reset(state, rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 3}, "num_heads must divide dim=8, got 3"),
        ({"num_heads": 0}, "num_heads must be an integer >= 1, got 0"),
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
        ({"dim": 8.0}, r"dim must be an integer >= 1, got 8\.0"),
        ({"chunk_size": 0}, "chunk_size must be an integer >= 1, got 0"),
        ({"depth": 5}, "depth must be at most 4, got 5"),
        ({"config": {"depth": 1}}, "config must be a MemoryConfig, got dict"),
        ({"decay_init": ()}, r"decay_init must be a number or one per head, got \(\)"),
        ({"config": MemoryConfig(), "depth": 1}, r"config must be None .*got both: \['depth'\]"),
        ({"decay_init": (0.1, 0.2, 0.3)}, r"decay_init must be .*one per head \(2\), got 3 numbers"),
    ],
)
def test_a_constructor_names_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        NeuralMemory(**{"dim": DIM, "num_heads": 2, **arguments})


def test_an_unknown_field_is_no_field():
    with pytest.raises(TypeError, match="chunksize"):
        NeuralMemory(DIM, 2, chunksize=3)


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_a_state_is_born_with_at_least_one_row(memory, batch):
    with pytest.raises(ValueError, match=f"batch_size must be an integer >= 1, got {batch}"):
        memory.init_state(batch)


def test_values_are_not_looked_for_where_they_cannot_be_seen(memory, state):
    """Inside `mx.compile` there are no values yet: the check steps aside, and shapes are still checked."""
    compiled = mx.compile(lambda x: memory.read(x, state))
    assert mx.isnan(compiled(with_value(float("nan")))[1, 3]).any().item()
    with pytest.raises(ValueError, match=r"x must be \(B, T, dim = 8\)"):
        compiled(mx.zeros((2, 5, 6)))
