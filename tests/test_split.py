"""Cutting into many pieces: what mx.split gives, and a gradient that does not cost an array per piece."""

import itertools

import mlx.core as mx
import pytest

from titans_mlx._split import split


@pytest.mark.parametrize("pieces", [1, 7, 8, 9, 64, 65, 200])
@pytest.mark.parametrize("axis", [1, -1])
def test_equal_pieces(pieces: int, axis: int) -> None:
    x = mx.random.normal((2, 3 * pieces, 3 * pieces))
    parts = split(x, pieces, axis)
    assert len(parts) == pieces
    assert all(mx.array_equal(ours, theirs) for ours, theirs in zip(parts, mx.split(x, pieces, axis), strict=True))


@pytest.mark.parametrize("count", [0, 1, 8, 30, 63, 99])
def test_pieces_between_cuts(count: int) -> None:
    x = mx.random.normal((2, 100, 3))
    cuts = sorted((mx.random.permutation(99)[:count] + 1).tolist())
    bounds = list(itertools.pairwise([0, *cuts, 100]))
    for part, (start, stop) in zip(split(x, cuts, 1), bounds, strict=True):
        assert mx.array_equal(part, x[:, start:stop])


def test_gradient() -> None:
    x, weights = mx.random.normal((2, 300)), [float(piece) for piece in range(100)]

    def loss(x: mx.array) -> mx.array:
        return sum((weight * part * part).sum() for weight, part in zip(weights, split(x, 100, 1), strict=True))

    wanted = 2 * x * mx.repeat(mx.array(weights), 3)
    assert mx.allclose(mx.grad(loss)(x), wanted).item()


def test_no_full_array_per_piece() -> None:
    """A slice's gradient is as large as what was sliced: 11 times the input is alive at once with 64 slices."""

    def loss(x: mx.array) -> mx.array:
        return sum((part * part).sum() for part in split(x, 64, 0))

    x = mx.ones((64, 1000))
    mx.eval(x)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(mx.grad(loss)(x))
    assert mx.get_peak_memory() - before < 6 * x.nbytes
