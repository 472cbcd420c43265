"""Reading a long sequence in pieces: the same as one call, from memory or from a file, or not at all."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from models import EVERY, VOCAB, build, tree_distance, uniform


@pytest.mark.parametrize("name", EVERY)
def test_pieces_give_what_one_call_gives(name: str) -> None:
    model, tokens = build(name), uniform(2, 45)
    whole, cache = model.make_cache(), model.make_cache()
    expected, told = model(tokens, whole)[:, -1], []
    given = model.read(tokens, cache, piece=17, progress=told.append)
    assert tree_distance((given, cache), (expected, whole)) <= 1e-5
    assert told == [17, 34, 45]


def test_a_memory_mapped_file_is_read(tmp_path: Path) -> None:
    model, tokens = build("lmm-online"), uniform(1, 100)
    path = tmp_path / "tokens.bin"
    np.array(tokens).astype(np.uint16).tofile(path)
    mapped = np.memmap(path, dtype=np.uint16, mode="r").reshape(1, -1)
    assert mx.array_equal(model.read(mapped, model.make_cache()), model.read(tokens, model.make_cache()))


@pytest.mark.parametrize("kind", [np.array, mx.array])
def test_a_wrong_id_far_on_reads_nothing(kind: type) -> None:
    model, cache = build("mag-deep"), build("mag-deep").make_cache()
    tokens = [[1] * 30 + [VOCAB]]
    with pytest.raises(ValueError, match=rf"tokens must lie in \[0, {VOCAB}\)"):
        model.read(kind(tokens), cache, piece=4)
    assert cache == model.make_cache()


def test_wrong_arguments_are_named() -> None:
    model = build("lmm-online")
    for tokens, message in (
        (np.zeros(3, dtype=np.int32), r"tokens must have 2 axes \(B, T\), got shape \(3,\)"),
        (np.zeros((1, 0), dtype=np.int32), "tokens must have at least one entry"),
        (np.zeros((1, 3)), "tokens must have an integer dtype"),
    ):
        with pytest.raises(ValueError, match=message):
            model.read(tokens, model.make_cache())
    with pytest.raises(ValueError, match="piece must be an integer >= 1, got 0"):
        model.read(uniform(1, 3), model.make_cache(), piece=0)
