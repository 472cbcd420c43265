"""What is changed of a trained model for a test changes that and nothing else."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from models import TITANS, VOCAB, WITH_MEMORY, build, largest, uniform

from titans_mlx.claims import interventions
from titans_mlx.claims.interventions import CLOSED, _largest, changed, memories, read, read_thinned, scaled
from titans_mlx.memory import recipes
from titans_mlx.memory.learner import Gates
from titans_mlx.memory.trace import Recorder


def seen(model, tokens: mx.array) -> list[Gates]:
    recorder = Recorder()
    mx.eval(model.hidden(tokens, observe=recorder))
    return [Gates(*gates) for pieces in recorder.pieces for gates in [pieces[0].gates]]


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_nothing_changed_is_the_model_itself(name: str) -> None:
    model = build(name)
    assert changed(model, {}) is model
    assert changed(model, {"reset_every": 8}) is model
    tokens = uniform(2, 30)
    factors = {"alpha": 1.0, "theta": 1.0} | ({} if name == "retnet" else {"eta": 1.0})
    same = changed(model, {**factors, "chunk_size": model.config.memory.chunk_size})
    assert same is not model
    assert largest(model.hidden(tokens) - same.hidden(tokens)) == 0


@pytest.mark.parametrize("name", [f"{variant}-deep" for variant in TITANS])
def test_factors_scale_the_gates_of_every_memory(name: str) -> None:
    model, tokens = build(name), uniform(2, 16)
    other = changed(model, {"alpha": 3.0, "eta": 0.5, "theta": 2.0})
    assert len(memories(other)) == 2
    before, after = seen(model, tokens)[0], seen(other, tokens)[0]
    np.testing.assert_allclose(-mx.expm1(after.log_keep), -3 * mx.expm1(before.log_keep), rtol=1e-4)
    np.testing.assert_allclose(mx.exp(after.log_momentum), mx.exp(before.log_momentum) / 2, rtol=1e-5)
    np.testing.assert_allclose(after.step, mx.minimum(2 * before.step, 0.5), rtol=1e-6)
    assert all(memory.change_gates is None for memory in memories(model)), "the model is left as it was"


def test_birth_knows_nothing_of_changed_gates() -> None:
    """Nor are they set aside meanwhile: another thread may be reading."""
    model = build("lmm", num_persistent=3)
    memory, persistent = memories(model)[0], model.layers[0].persistent
    plain = memory.init_state(2, persistent)
    seen = []
    memory.change_gates = lambda gates: seen.append(gates) or gates
    born = memory.init_state(2, persistent)
    assert all(mx.array_equal(a, b) for a, b in zip(born.weights, plain.weights, strict=True))
    assert not seen
    memory(mx.zeros((2, 1, memory.dim)), born)
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["lmm-deep", "mag-deep", "mal-online"])
def test_thinned_memories_keep_their_largest_weights_and_write_nothing_more(name: str) -> None:
    model, tokens = build(name), uniform(2, 30)
    cache = model.make_cache()
    before = model.hidden(tokens[:, :17], cache)
    whole = read_thinned(model, tokens, 17, 1.0)
    assert largest(whole[:, :17] - before) == 0
    assert largest(model.hidden(tokens[:, 17:], cache) - whole[:, 17:]) > 1e-5, "it would have gone on to write"
    assert largest(read_thinned(model, tokens, 17, 0.1)[:, 17:] - whole[:, 17:]) > 1e-5
    with pytest.raises(ValueError, match="kept must be left out for mac"):
        read_thinned(build("mac-deep"), tokens, 17, 0.5)
    weights = mx.array([[[[3.0, -1.0], [0.5, -4.0]]]])
    assert _largest(weights, 0.5).tolist() == [[[[3.0, 0.0], [0.0, -4.0]]]]
    assert _largest(weights, 0.01).tolist() == [[[[0.0, 0.0], [0.0, -4.0]]]]


def test_a_thinned_memory_with_all_its_weights_stands_still() -> None:
    """Without momentum there is nothing else to stop."""
    model, tokens = build("lmm-deep", memory=recipes.titans(momentum="none")), uniform(2, 30)
    cache = model.make_cache()
    model.hidden(tokens[:, :17], cache)
    still = changed(model, CLOSED).hidden(tokens[:, 17:], cache)
    assert largest(still - read_thinned(model, tokens, 17, 1.0)[:, 17:]) == 0


def test_gates_stay_in_their_ranges() -> None:
    gates = Gates(mx.log(mx.array([0.5])), mx.log(mx.array([0.5])), mx.array([0.25]))
    wide = scaled(gates, 0.5, alpha=100, eta=100, theta=100)
    assert 0 < mx.exp(wide.log_keep).item() < 1e-5 and 1 - 1e-5 < mx.exp(wide.log_momentum).item() < 1
    assert wide.step.item() == 0.5
    shut = scaled(gates, 0.5, alpha=0, eta=0, theta=0)
    assert shut.log_keep.item() == 0 and mx.exp(shut.log_momentum).item() < 1e-30 and shut.step.item() == 0
    assert scaled(Gates(None, None, gates.step), 0.5, alpha=2, eta=2)[:2] == (None, None)


@pytest.mark.parametrize("persistent", [0, 3])
@pytest.mark.parametrize("name", WITH_MEMORY)
def test_without_writes_the_memory_stands_still(name: str, persistent: int) -> None:
    """Where it was at birth, persistent tokens absorbed as ever. RetNet's fading is fixed, and is closed as well."""
    model, tokens = build(name, num_persistent=persistent), uniform(2, 30)
    other = changed(model, {"alpha": 0.0, "eta": 0.0, "theta": 0.0} if name != "retnet" else {"alpha": 0, "theta": 0})
    cache = other.make_cache()
    other.hidden(tokens, cache)
    for layer, memory, state in zip(model.layers, memories(model), cache, strict=True):
        owner = getattr(layer, "memory_layer", layer)
        born = memory.init_state(2, None if name.startswith("mac") else owner.persistent)
        state = state if hasattr(state, "weights") else state.memory
        for held, first in zip(state.weights, born.weights, strict=True):
            assert largest(held - first) <= 1e-6


def test_another_chunk_is_that_chunk() -> None:
    model, tokens = build("lmm-deep"), uniform(2, 40)
    other, wanted = (
        changed(model, {"chunk_size": 4}),
        build("lmm-deep", memory=model.config.memory.replace(chunk_size=4)),
    )
    wanted.update(model.parameters())
    assert largest(other.hidden(tokens) - wanted.hidden(tokens)) == 0
    assert largest(other.hidden(tokens) - model.hidden(tokens)) > 0


@pytest.mark.parametrize("variant", TITANS)
def test_persistent_tokens_are_taken_away(variant: str) -> None:
    model, tokens = build(f"{variant}-online"), uniform(2, 20)
    other = changed(model, {"persistent": False})
    assert not any("persistent" in name for name, _ in tree_flatten(other.parameters()))
    assert largest(other.hidden(tokens) - model.hidden(tokens)) > 1e-4


@pytest.mark.parametrize("name", [f"{variant}-{memory}" for variant in TITANS for memory in ("online", "deep")])
def test_a_reset_memory_knows_nothing_of_the_segments_before(name: str) -> None:
    """Far enough from the first cut that attention does not reach across it, twice over two blocks."""
    every, length = 40, 120
    model = build(name, segment_size=4, window_size=4)
    tokens = uniform(1, length)
    other = mx.concatenate([(tokens[:, :5] + 1) % VOCAB, tokens[:, 5:]], axis=1)
    whole, apart = ([read(model, t, reset) for t in (tokens, other)] for reset in (None, every))
    assert largest(whole[0][:, -20:] - whole[1][:, -20:]) > 1e-5
    assert largest(apart[0][:, -20:] - apart[1][:, -20:]) <= 1e-6
    assert largest(apart[0][:, :every] - whole[0][:, :every]) <= 1e-5


@pytest.mark.parametrize("name", ["mac-deep", "mag-online", "transformer", "retnet"])
def test_long_sequences_are_read_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = build(name), uniform(2, 50)
    whole = read(model, tokens)
    monkeypatch.setattr(interventions, "LONG", 20)
    monkeypatch.setattr(interventions, "PIECE", 7)
    assert largest(read(model, tokens) - whole) <= 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": -1}, "alpha must be a finite factor >= 0, got -1"),
        ({"theta": True}, "theta must be a finite factor >= 0, got True"),
        ({"chunk_size": 0}, "chunk_size must be an integer >= 1, got 0"),
        ({"reset_every": 2.0}, "reset_every must be an integer >= 1, got 2.0"),
        ({"persistent": True}, "persistent must be False in a change, got True"),
        ({"kept": 0}, "kept must be a share above 0 and at most 1, got 0"),
        ({"kept": 1.5}, "kept must be a share above 0 and at most 1, got 1.5"),
        ({"beta": 1}, "change must be of .*got 'beta'"),
        ({"eta": float("inf")}, "eta must be a finite factor >= 0, got inf"),
    ],
)
def test_bad_changes(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        changed(build("lmm-online"), change)


@pytest.mark.parametrize(
    ("name", "change"),
    [("transformer", {"theta": 0.0}), ("sliding_window", {"chunk_size": 4}), ("retnet", {"eta": 0.5})],
)
def test_what_a_model_has_not_cannot_be_changed(name: str, change: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be left out"):
        changed(build(name), change)
