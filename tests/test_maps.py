"""Attention maps are the weights that the block itself attends with."""

import mlx.core as mx
import numpy as np
import pytest
from models import build, uniform

from titans_mlx.blocks.maps import attention_maps, map_rows


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("persistent", [0, 3])
def test_maps_are_what_the_block_attends_with(block: int, persistent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = build("mac-deep", num_persistent=persistent, segment_size=8), uniform(2, 21)
    maps = attention_maps(model, tokens, block)
    assert [m.shape for m in maps] == [(2, 2, s, persistent + 2 * s) for s in (8, 8, 5)]
    attended: list[tuple[mx.array, ...]] = []
    plain = mx.fast.scaled_dot_product_attention

    def spy(q, k, v, **options):
        out = plain(q, k, v, **options)
        attended.append((v, out))
        return out

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", spy)
    model(tokens)
    assert len(attended) == 2 * len(maps)
    for found, (values, out) in zip(maps, attended[3 * (block - 1) :], strict=False):
        np.testing.assert_allclose(found @ np.array(values), np.array(out), atol=1e-5)
        np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
        rows = found.shape[2]
        later = np.triu(np.ones((rows, rows), dtype=bool), 1)
        retrieved, own = np.split(found[..., persistent:], 2, axis=-1)
        assert (retrieved[..., later] == 0).all() and (own[..., later] == 0).all(), "no row sees a later token"


def test_a_table_needs_the_width_of_its_map() -> None:
    with pytest.raises(ValueError, match=r"persistent must be P of weights \(S, P \+ 2 S\) = \(2, 7\), got 2"):
        map_rows(np.ones((2, 7)), ["a", "b"], 2)
    assert len(map_rows(np.ones((2, 7)), ["a", "b"], 3)) == 2 * 3 + 2 * 3


def test_only_a_mac_has_them() -> None:
    with pytest.raises(ValueError, match="model must be a MAC, got 'mag'"):
        attention_maps(build("mag-online"), uniform(1, 4))
    with pytest.raises(ValueError, match="block must be at most 2, got 3"):
        attention_maps(build("mac-online"), uniform(1, 4), 3)
    with pytest.raises(ValueError, match="block must be an integer >= 1, got 0"):
        attention_maps(build("mac-online"), uniform(1, 4), 0)
