"""Compiled chunks, as a GPU runs them: the same numbers, and few traces however a sequence is cut."""

from collections import Counter
from typing import Any

import mlx.core as mx
import pytest

from titans_mlx import NeuralMemory
from titans_mlx.bench import primitives
from titans_mlx.memory import chunked, recipes

from .cases import assert_close, by_fast_form, make_case

VARIATIONS = {
    "default": {},
    "no momentum, no decay": {"momentum": "none", "decay": "none"},
    "matrix, dot product": {"depth": 1, "objective": "dot", "write_bound": None},
    "decay per row": {"decay_per": "row"},
    "decay per column, no momentum": {"decay_per": "column", "momentum": "none"},
    "l4 retention": {"retention": "lq"},
    "decay to birth": {"decay_to": "birth"},
    "ATLAS": {"orthogonal_writes": True, "omega": 3},
}


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(chunked, "wanted", lambda: True)
    return monkeypatch


@pytest.mark.parametrize("fields", VARIATIONS.values(), ids=VARIATIONS)
def test_equals_the_plain_step(float64, compiled, fields: dict[str, Any]) -> None:
    case = make_case(tokens=19, chunk_size=4, position=2, **fields)
    given = by_fast_form(case)
    compiled.setattr(chunked, "wanted", lambda: False)
    assert_close(given, by_fast_form(case), 1e-12)


def test_few_traces_however_a_sequence_is_cut(compiled) -> None:
    calls: Counter[int] = Counter()
    plain = chunked.plain_step

    def counting(*arguments: Any) -> Any:
        calls[arguments[2].shape[2]] += 1
        return plain(*arguments)

    compiled.setattr(chunked, "plain_step", counting)
    memory = NeuralMemory(8, 2, chunk_size=8)
    for length in range(1, 60):
        memory(mx.random.normal((2, length, 8)))
    state = None
    for _ in range(20):
        _, state = memory(mx.random.normal((2, 1, 8)), state)
    assert calls[8] == 1 and calls[1] == 1


def test_fewer_launches(compiled) -> None:
    memory, x = NeuralMemory(8, 2, recipes.titans(chunk_size=8)), mx.random.normal((1, 64, 8))
    memory.mix(x)
    fused = primitives(memory.mix(x)).total()
    compiled.setattr(chunked, "wanted", lambda: False)
    assert 1.5 * fused < primitives(memory.mix(x)).total()
