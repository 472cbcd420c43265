"""Recomputed chunks: the same outputs, states and gradients as kept ones, at a lower peak."""

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from models import MEMORIES, MIRAS, TITANS, build, tree_distance, uniform

from titans_mlx import MemoryConfig, NeuralMemory, Titans
from titans_mlx.memory import recipes

PAIRS = [f"{variant}-{memory}" for variant in TITANS for memory in MEMORIES] + ["lmm-birth", "lmm-faded"]


def twins(name: str, recompute: int) -> tuple[Titans, Titans]:
    """A model that keeps its chunks and one that recomputes them, with the same weights."""
    memory = {**MEMORIES, **MIRAS}[name.split("-")[1]].replace(chunk_size=4)
    kept, again = (build(name, memory=each) for each in (memory, memory.replace(recompute=recompute)))
    again.update(kept.parameters())
    return kept, again


def loss(model: Titans, tokens: mx.array) -> mx.array:
    return nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:], reduction="mean")


def square(memory: NeuralMemory, x: mx.array) -> mx.array:
    return memory.mix(x)[0].square().mean()


@pytest.mark.parametrize("name", PAIRS)
def test_outputs_and_gradients_are_the_same(name: str) -> None:
    kept, again = twins(name, 3)
    tokens = uniform(2, 36)
    results = [nn.value_and_grad(model, loss)(model, tokens) for model in (kept, again)]
    assert tree_distance(*results) <= 1e-6
    assert all(mx.abs(gradient).max().item() > 0 for _, gradient in tree_flatten(results[1][1]))


@pytest.mark.parametrize("name", PAIRS)
def test_the_state_goes_on_in_mid_span(name: str) -> None:
    kept, again = twins(name, 2)
    tokens = uniform(2, 43)
    results = []
    for model in (kept, again):
        cache = model.make_cache()
        pieces = [model(piece, cache) for piece in mx.split(tokens, [5, 6, 17, 39], axis=1)]
        results.append((mx.concatenate(pieces, axis=1), cache))
    assert tree_distance(*results) <= 1e-6


def test_the_outer_parameters_are_left_in_place() -> None:
    memory = NeuralMemory(8, 2, chunk_size=4, recompute=1)
    before = dict(tree_flatten(memory.parameters()))
    mx.eval(memory(mx.random.normal((1, 9, 8))))
    after = dict(tree_flatten(memory.parameters()))
    assert all(after[name] is value for name, value in before.items())


def test_every_row_may_be_elsewhere() -> None:
    kept, again = (NeuralMemory(8, 2, chunk_size=4, recompute=spans) for spans in (0, 2))
    again.update(kept.parameters())
    x, mask = mx.random.normal((2, 11, 8)), mx.arange(11)[None] < mx.array([[11], [6]])
    assert tree_distance(kept(x, mask=mask), again(x, mask=mask)) <= 1e-6


@pytest.mark.parametrize("compiled", [False, True])
def test_the_peak_falls(compiled: bool) -> None:
    def peak(config: MemoryConfig) -> int:
        mx.random.seed(0)
        memory, x = NeuralMemory(32, 2, config), mx.random.normal((1, 2048, 32))

        def of_parameters(parameters: dict, x: mx.array) -> mx.array:
            memory.update(parameters)
            return square(memory, x)

        gradient, parameters = mx.grad(of_parameters), memory.parameters()
        if compiled:
            gradient = mx.compile(gradient)
        mx.eval(gradient(parameters, x))
        mx.synchronize()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(gradient(parameters, x))
        mx.synchronize()
        return mx.get_peak_memory() - before

    config = recipes.titans(chunk_size=32)
    assert 4 * peak(config.replace(recompute=4)) <= peak(config)


def test_quantised_and_frozen_layers_take_part() -> None:
    kept, again = (NeuralMemory(64, 2, chunk_size=4, recompute=spans) for spans in (0, 2))
    again.update(kept.parameters())
    x, slopes = mx.random.normal((1, 20, 64)), []
    for memory in (kept, again):
        nn.quantize(memory, class_predicate=lambda name, _: name == "k_proj")
        memory.freeze(keys=["initial_weights_1"], recurse=False)
        slopes.append((nn.value_and_grad(memory, square)(memory, x)[1], mx.grad(square, argnums=1)(memory, x)))
    assert "initial_weights_1" not in slopes[1][0]
    assert tree_distance(*slopes) <= 1e-6
