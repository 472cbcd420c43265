"""The formulas of cost against the products that a run asks for, and against the bytes that a cache holds."""

from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from models import tree_bytes, uniform

from titans_mlx import MemoryConfig, Titans, TitansConfig, _compiled
from titans_mlx._compiled import never, wanted
from titans_mlx._cpu import on_other_device, other_device
from titans_mlx.bench.cost import counted, decode_bytes, flops, memory_flops, model_flops, state_bytes
from titans_mlx.config import Variant
from titans_mlx.memory import MemoryState, NeuralMemory, recipes

VARIANTS: list[Variant] = ["lmm", "mac", "mag", "mal", "transformer", "sliding_window"]


def config(variant: Variant, **memory: object) -> TitansConfig:
    return TitansConfig(
        variant=variant,
        vocab_size=11,
        dim=32,
        num_layers=2,
        num_heads=2,
        segment_size=16,
        window_size=16,
        num_persistent=0,
        memory=recipes.titans(chunk_size=8, **memory),
    )


def test_products_are_counted() -> None:
    x, y = mx.ones((2, 3, 4)), mx.ones((2, 4, 5))
    with counted() as found:
        _ = x @ y
        mx.addmm(mx.ones((2, 3, 5)), x, y)
        mx.fast.scaled_dot_product_attention(mx.ones((1, 2, 3, 4)), *[mx.ones((1, 2, 6, 4))] * 2, scale=1.0)
    assert [product.flops for product in found] == [2 * 2 * 3 * 4 * 5] * 2 + [2 * 2 * 3 * 6 * 4] * 2
    assert [product.right for product in found[2:]] == [(1, 2, 4, 6), (1, 2, 6, 4)]
    _ = x @ y
    assert len(found) == 4


FIELDS: list[dict[str, Any]] = [
    {},
    {"momentum": "none"},
    {"shared_gates": True},
    {"depth": 1},
    {"depth": 3, "expansion": 2},
]


@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_a_memory_costs_what_the_formula_says(fields: dict) -> None:
    memory = NeuralMemory(32, 2, MemoryConfig(**{"depth": 2, "chunk_size": 8, **fields}), readout=False)
    with counted() as found:
        memory(mx.random.normal((3, 32, 32)))
    assert flops(found) / (3 * 32) == memory_flops(memory.config, 32, 2)


def test_what_a_gpu_would_compile_is_counted_every_time() -> None:
    memory = NeuralMemory(32, 2, MemoryConfig(depth=2, chunk_size=8), readout=False)
    x = mx.random.normal((1, 32, 32))
    with other_device():
        for _ in range(2):
            with counted() as found:
                memory(x)
            assert flops(found) / 32 == memory_flops(memory.config, 32, 2)


@pytest.mark.parametrize(("switch", "is_on"), [(other_device, on_other_device), (never, lambda: not wanted())])
def test_switches_may_be_nested(switch: Any, is_on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compiled, "on_other_device", lambda: True)
    assert not is_on()
    with switch():
        with switch():
            assert is_on()
        assert is_on()
    assert not is_on()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_costs_what_the_formula_says(variant: Variant) -> None:
    chosen = config(variant)
    model, costs = Titans(chosen), []
    for length in (64, 128):
        with counted() as found:
            model(uniform(1, length, 11))
        costs.append(flops(found) / length)
        if variant in ("lmm", "mac"):
            assert costs[-1] == model_flops(chosen, length)
    if variant == "transformer":
        # One call meets what is above the diagonal too: token by token, nothing does.
        cache = model.make_cache()
        with counted() as found:
            for token in mx.split(uniform(1, 32, 11), 32, axis=1):
                model(token, cache)
        assert flops(found) / 32 == model_flops(chosen, 32)
        return
    # The first block of a window has none before it: one meeting fewer than the formula counts.
    assert costs[1] <= model_flops(chosen, 128) <= 1.1 * costs[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_and_decoding_have_the_bytes_that_the_formulas_say(variant: Variant) -> None:
    chosen = config(variant, conv_size=0)
    model = Titans(chosen)
    sizes = {name: array.size for name, array in tree_flatten(model.parameters())}
    unread = sum(size for name, size in sizes.items() if "initial_weights" in name) + 10 * chosen.dim
    for length in (7, 40):
        cache = model.make_cache()
        model(uniform(1, length, 11), cache)
        assert tree_bytes(cache) == state_bytes(chosen, length)
        memories = [getattr(state, "memory", state) for state in cache]
        written = sum(tree_bytes((m.weights, m.momentum)) for m in memories if isinstance(m, MemoryState))
        read = 4 * (sum(sizes.values()) - unread) + tree_bytes(cache)
        assert decode_bytes(chosen, sum(sizes.values()), length) == read + written


def test_a_memory_without_a_formula_is_refused() -> None:
    with pytest.raises(ValueError, match="config must be anchored"):
        memory_flops(recipes.titans_matrix(), 32, 2)


@pytest.mark.parametrize(
    "fields", [{"decay_per": "row"}, {"retention": "kl"}, {"orthogonal_writes": True}, {"omega": 2}]
)
def test_no_formula_for_other_writes(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"config must have decay_per='head', .*got \{'"):
        memory_flops(recipes.titans(**fields), 16, 2)
