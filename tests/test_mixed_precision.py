"""Rows 12 and 13 for whole models: bfloat16 beside float32, on hard input and over long streams."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from models import EVERY, MEMORIES, WITH_MEMORY, build, uniform

from titans_mlx import Titans

LONG, PIECE = 65_536, 4096
STREAMED = (*WITH_MEMORY, "sliding_window")


def pair(name: str, **changes: Any) -> tuple[Titans, Titans]:
    """A model in bfloat16, and one of the same (rounded) parameters in float32."""
    half, full = build(name, **changes), build(name, **changes)
    half.set_dtype(mx.bfloat16)
    full.update(half.parameters())
    full.set_dtype(mx.float32)
    return half, full


def divergence(logits: mx.array, expected: mx.array) -> float:
    """Mean Kullback-Leibler divergence of a prediction from the expected one, in nats a token."""
    p, q = (nn.log_softmax(x.astype(mx.float32)) for x in (expected, logits))
    return (mx.exp(p) * (p - q)).sum(-1).mean().item()


def hard(length: int) -> mx.array:
    """A row of one token repeated, and one of random tokens."""
    return mx.concatenate([mx.full((1, length), 3), uniform(1, length)])


def outer_gradient(model: Titans, tokens: mx.array) -> dict[str, mx.array]:
    def loss(model: Titans) -> mx.array:
        return nn.losses.cross_entropy(model(tokens[:, :-1]).astype(mx.float32), tokens[:, 1:]).mean()

    return dict(tree_flatten(nn.value_and_grad(model, loss)(model)[1]))


@pytest.mark.parametrize("name", EVERY)
def test_12_bfloat16_beside_float32_on_hard_input(name: str) -> None:
    """Predictions within 0.001 nats; the outer gradient in the same direction, finite, in its parameters' dtype."""
    half, full = pair(name)
    tokens = hard(513)
    logits = half(tokens)
    assert logits.dtype == mx.bfloat16
    assert 0 < divergence(logits, full(tokens)) < 1e-3
    given, exact = outer_gradient(half, tokens), outer_gradient(full, tokens)
    assert {gradient.dtype for gradient in given.values()} == {mx.bfloat16}
    flat = [mx.concatenate([g[path].astype(mx.float32).flatten() for path in exact]) for g in (given, exact)]
    assert mx.isfinite(flat[0]).all().item()
    cosine = (flat[0] * flat[1]).sum() / (mx.linalg.norm(flat[0]) * mx.linalg.norm(flat[1]))
    # Orthogonal writes of a repeated token: five Newton-Schulz steps enlarge the rounding of what it hardly moves.
    assert cosine.item() > (0.6 if name == "lmm-muon" else 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMED)
def test_13_bfloat16_stays_beside_float32_over_65536_tokens(name: str) -> None:
    """Random tokens, streamed: within 0.001 nats for a matrix memory, 0.25 for a deep one, where errors grow.

    Full attention is left out for its cost.
    """
    changes: dict[str, Any] = {"segment_size": 128, "window_size": 64}
    deep = name.endswith("deep")
    if deep:
        changes["memory"] = MEMORIES["deep"].replace(chunk_size=64)
    half, full = pair(name, **changes)
    caches = half.make_cache(), full.make_cache()
    for piece in mx.split(uniform(1, LONG), LONG // PIECE, axis=1):
        logits, expected = (model(piece, cache) for model, cache in zip((half, full), caches, strict=True))
        mx.eval(logits, expected, caches)
        assert divergence(logits, expected) < (0.25 if deep else 0.001)
