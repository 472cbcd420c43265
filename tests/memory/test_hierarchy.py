"""Coarse and fine memories together: causal, cut anywhere, and no more than the sum of their reads."""

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from titans_mlx import MemoryConfig
from titans_mlx.memory import CoarseAndFine, recipes

from .cases import assert_close

DIM, TOKENS = 8, 45


@pytest.fixture
def tnt():
    return CoarseAndFine(DIM, 2, recipes.tnt(coarse=16, fine=(4, 8), period=16))


def test_reads_are_summed(tnt):
    x = mx.random.normal((2, TOKENS, DIM))
    reads = [memory.absorb(x)[0] for memory in tnt.memories]
    assert len(reads) == 3
    assert_close(tnt(x)[0], tnt.readout(x, reads[0] + reads[1] + reads[2]), 1e-6)


@pytest.mark.parametrize("cut", [1, 16, 21, 44])
def test_cuts_change_nothing(tnt, cut):
    x = mx.random.normal((2, TOKENS, DIM))
    whole, states = tnt(x)
    first, between = tnt(x[:, :cut])
    second, after = tnt(x[:, cut:], between)
    assert_close(mx.concatenate([first, second], axis=1), whole, 1e-5)
    assert_close(after, states, 2e-5)


def test_causal(tnt):
    x = mx.random.normal((1, TOKENS, DIM))
    later = mx.concatenate([x[:, :20], mx.random.normal((1, TOKENS - 20, DIM))], axis=1)
    assert_close(tnt(later)[0][:, :20], tnt(x)[0][:, :20], 1e-6)
    assert mx.abs(tnt(later)[0][:, 20:] - tnt(x)[0][:, 20:]).min().item() > 0


def test_only_the_fine_ones_begin_anew(tnt):
    """What the first period held reaches the second through the coarse memory alone."""
    x = mx.random.normal((1, 32, DIM))
    other = mx.concatenate([mx.random.normal((1, 12, DIM)), x[:, 12:]], axis=1)
    moved = [mx.abs(memory.absorb(x)[0] - memory.absorb(other)[0])[:, 20:].max().item() for memory in tnt.memories]
    assert moved[0] > 1e-3 and max(moved[1:]) == 0


def test_everything_learns(tnt):
    x = mx.random.normal((1, TOKENS, DIM))
    gradients = nn.value_and_grad(tnt, lambda module: module(x)[0].square().sum())(tnt)[1]
    assert all(mx.abs(gradient).max().item() > 0 for _, gradient in tree_flatten(gradients))


def test_bad_input(tnt):
    with pytest.raises(ValueError, match="configs must hold at least one configuration, got"):
        CoarseAndFine(DIM, 2, [])
    with pytest.raises(ValueError, match="configs must hold at least one configuration, got MemoryConfig"):
        CoarseAndFine(DIM, 2, MemoryConfig())
    x = mx.ones((1, 3, DIM))
    with pytest.raises(ValueError, match="states must hold one per memory, 3, got 1"):
        tnt(x, [tnt.memories[0].init_state(1)])
    with pytest.raises(ValueError, match="states must hold one per memory, 3, got int"):
        tnt(x, 5)
    with pytest.raises(ValueError, match=r"states\[1\] must have the batch size of the input, 1, got 2"):
        tnt(x, [memory.init_state(count) for memory, count in zip(tnt.memories, (1, 2, 1), strict=True)])
