"""The softmax below the attentions: how its products are laid out changes nothing."""

import mlx.core as mx
import pytest

from titans_mlx import softmax


@pytest.mark.parametrize("mask", ["causal", None], ids=["causal", "array"])
def test_values_as_wide_as_keys_change_nothing(mask: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU's kernel wants, here on whatever device there is."""
    widths, product = [], mx.fast.scaled_dot_product_attention

    def record(q: mx.array, k: mx.array, v: mx.array, **options: object) -> mx.array:
        widths.append((q.shape[-1], k.shape[-1], v.shape[-1]))
        return product(q, k, v, **options)

    q, k, v = (mx.random.normal((2, 3, 7, width)) for width in (16, 8, 8))
    prefix = softmax.Prefix(mx.random.normal((1, 3, 2, 8)), mx.random.normal((1, 3, 2, 8)))
    seen = mask or mx.random.uniform(shape=(7, 9)) < 0.7
    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", record)
    results = []
    for equal in (False, True):
        monkeypatch.setattr(softmax, "_wants_equal_widths", lambda equal=equal: equal)
        results.append(softmax.attend(q, k, v, prefix, seen))
    assert widths == [(16, 16, 8), (16, 16, 16)]
    assert results[1].shape == (2, 3, 7, 8) and mx.allclose(*results, rtol=1e-5, atol=1e-6)
