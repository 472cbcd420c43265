"""A memory that begins anew every so many tokens equals its definition, however it is called."""

import mlx.core as mx
import pytest

from titans_mlx.config import MemoryConfig, TitansConfig
from titans_mlx.memory import NeuralMemory, recipes
from titans_mlx.memory.periods import in_periods
from titans_mlx.memory.recurrent import recurrent

from .cases import assert_close

DIM, HEADS, TOKENS = 8, 2, 29
CONFIGS = {
    "deep": MemoryConfig(chunk_size=4, reset_every=8, expansion=2),
    "matrix": recipes.titans_matrix(chunk_size=4, reset_every=8),
    "omega": MemoryConfig(chunk_size=2, reset_every=6, omega=4, momentum="none", expansion=2),
    "channels": MemoryConfig(chunk_size=4, reset_every=4, decay_per="row", expansion=2),
}
each = pytest.mark.parametrize("name", CONFIGS)


def by_definition(memory, x, state):
    inputs, tails = memory.project(x, state.tails)
    born = memory.init_state(len(x))
    reads, after = recurrent(memory.config, state, *inputs, memory.norm, born=born)
    return memory._merge(reads), after._replace(tails=tails)


@each
@pytest.mark.parametrize("start", [0, 3, 8])
def test_equals_the_definition(name, start):
    memory = NeuralMemory(DIM, HEADS, CONFIGS[name])
    x = mx.random.normal((2, start + TOKENS, DIM))
    state = memory.init_state(2)
    if start:
        _, state = memory.absorb(x[:, :start], state)
    assert_close(memory.absorb(x[:, start:], state), by_definition(memory, x[:, start:], state), 2e-5)


@each
def test_a_period_is_a_memory_of_its_own(name):
    """Without convolutions nothing of one period is left in the next."""
    memory = NeuralMemory(DIM, HEADS, CONFIGS[name].replace(conv_size=0))
    period = memory.config.reset_every
    x = mx.random.normal((2, 3 * period, DIM))
    reads, _ = memory.absorb(x)
    for start in range(0, 3 * period, period):
        alone, _ = memory.absorb(x[:, start : start + period])
        assert_close(reads[:, start : start + period], alone, 1e-5)


@each
def test_rows_of_unlike_position_are_as_they_are_alone(name):
    memory = NeuralMemory(DIM, HEADS, CONFIGS[name])
    x = mx.random.normal((3, TOKENS, DIM))
    _, state = memory.absorb(x, lengths=mx.array([5, 8, 19]))
    lengths = mx.array([TOKENS, 0, 7])
    reads, after = memory.absorb(x, state, lengths=lengths)
    for row, (before, count) in enumerate([(5, TOKENS), (8, 0), (19, 7)]):
        one = x[row : row + 1]
        _, alone = memory.absorb(one[:, :before])
        if count:
            expected, alone = memory.absorb(one[:, :count], alone)
            assert_close(reads[row : row + 1, :count], expected, 2e-5)
        assert_close(after.rows([row]).weights, alone.weights, 2e-5)
        assert after.position[row].item() == before + count


@each
def test_gradients_are_those_of_the_definition(name):
    memory, x = NeuralMemory(DIM, HEADS, CONFIGS[name]), mx.random.normal((2, TOKENS, DIM))

    def fast(x):
        return memory.absorb(x)[0].square().sum()

    def slow(x):
        return by_definition(memory, x, memory.init_state(2))[0].square().sum()

    assert_close(mx.grad(fast)(x), mx.grad(slow)(x), 1e-4)


def test_periods_run_side_by_side():
    """Three whole periods are one call of the form, with three times the rows."""
    config, calls = CONFIGS["deep"], []
    memory = NeuralMemory(DIM, HEADS, config)
    inputs, _ = memory.project(mx.random.normal((2, 5 + 24 + 3, DIM)), memory.init_state(2).tails)

    def form(state, q, k, v, gates):
        calls.append(q.shape[:1] + q.shape[2:3])
        return memory._fast_form(state, q, k, v, gates)

    _, state = memory.absorb(mx.random.normal((2, 3, DIM)))
    in_periods(config, form, memory.init_state(2), state, tuple(inputs[:3]), inputs.gates)
    assert calls == [(2, 5), (6, 8), (2, 3)]


def test_persistent_tokens_would_be_lost():
    memory = NeuralMemory(DIM, HEADS, CONFIGS["deep"])
    with pytest.raises(ValueError, match="persistent must be None with reset_every"):
        memory.init_state(1, mx.zeros((3, DIM)))
    with pytest.raises(ValueError, match=r"num_persistent must be 0 with a memory that is reset .*got 2"):
        TitansConfig(variant="mag", num_persistent=2, memory=CONFIGS["deep"])
    with pytest.raises(ValueError, match="reset_every must be 0 in variant='mac', got 8"):
        TitansConfig(variant="mac", num_persistent=0, memory=CONFIGS["deep"])


def test_a_period_is_whole_chunks():
    with pytest.raises(ValueError, match="reset_every must be a multiple of chunk_size=16, got 24"):
        MemoryConfig(reset_every=24)
