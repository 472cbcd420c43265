"""Row 13, the memory's part: long sequences, in bfloat16 beside float32, and a million tokens."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from titans_mlx.memory import NeuralMemory

PIECE = 4096
MEMORIES = {"online": {"depth": 1, "update": "online", "chunk_size": 64}, "anchored": {"depth": 2}}


def walk(memory, pieces, state=None):
    for x in pieces:
        y, state = memory(x, state)
        mx.eval(y, state)
        yield y, state


def relative(a, b):
    a, b = (np.array(x.astype(mx.float32), dtype=np.float64) for x in (a, b))
    return np.sqrt(((a - b) ** 2).mean() / (b**2).mean())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bound"), [("online", 0.02), ("anchored", 0.1)])
def test_bfloat16_stays_beside_float32_over_65536_tokens(name, bound):
    """The same parameters, rounded to bfloat16: outputs within 2 % (matrix) or 10 % (deep) rms.

    A matrix memory forgets an error as it forgets anything; a deep one lets it grow, e-fold in some 20,000 tokens.
    """
    half, full = (NeuralMemory(16, 1, **MEMORIES[name]) for _ in range(2))
    half.set_dtype(mx.bfloat16)
    full.update(half.parameters())
    full.set_dtype(mx.float32)
    x = mx.random.normal((1, 65_536, 16)).astype(mx.bfloat16)
    pieces = mx.split(x, 65_536 // PIECE, axis=1)
    runs = zip(walk(half, pieces), walk(full, [p.astype(mx.float32) for p in pieces]), strict=True)
    drift = np.array([relative(y, expected) for (y, _), (expected, _) in runs])
    assert drift.max() <= bound
    assert drift[0] > 0
    if name == "online":
        assert drift[-4:].mean() <= 1.2 * drift[:4].mean()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "chunk"), [("online", 64), ("anchored", 128)])
def test_the_state_is_finite_after_a_million_tokens(name, chunk):
    """One row of noise, one of a single token repeated."""
    memory = NeuralMemory(8, 1, **{**MEMORIES[name], "chunk_size": chunk})
    noise, pieces = mx.random.normal((1, PIECE, 8)), -(-1_000_000 // PIECE)
    x = mx.concatenate([noise, mx.broadcast_to(mx.random.normal((1, 1, 8)), noise.shape)])
    mx.eval(memory.parameters(), x)
    state = None
    for y, after in walk(memory, [x] * pieces):
        state = after
        assert mx.isfinite(y).all().item()
    assert state.position == pieces * PIECE >= 1_000_000
    arrays = [leaf for _, leaf in tree_flatten(state) if isinstance(leaf, mx.array)]
    assert all(mx.isfinite(array).all().item() for array in arrays)
    assert max(mx.abs(w).max().item() for w in state.weights) < 100
