"""Cost is linear in length: memory of forward, training and streaming, and the size of what is carried."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from models import build, tree_bytes, uniform

from titans_mlx import Titans
from titans_mlx.memory import recipes

LINEAR = ("lmm-online", "lmm-deep", "mac-deep", "mag-deep", "mal-deep", "sliding_window")
LENGTH = 1024
LONG = 16_384
GROWTH = 2.3

each = pytest.mark.parametrize("name", LINEAR)


def small(name: str) -> Titans:
    changes = {"memory": recipes.titans_matrix(chunk_size=16)} if name == "lmm-online" else {}
    return build(name, num_layers=1, segment_size=64, window_size=64, **changes)


def peak(work: Callable[[], object], repeats: int = 3) -> int:
    """Bytes held at the worst moment of ``work``, above what was held before it.

    The most of several runs: how soon arrays are freed depends on how far execution lags behind submission.
    """
    most = 0
    for _ in range(repeats):
        mx.synchronize()
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(work())
        most = max(most, mx.get_peak_memory() - before)
    return most


def forward(model: Titans, tokens: mx.array) -> mx.array:
    return model(tokens)


def forward_backward(model: Titans, tokens: mx.array) -> tuple[mx.array, dict]:
    def loss(model: Titans) -> mx.array:
        return nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:], reduction="mean")

    return nn.value_and_grad(model, loss)(model)


def stream(model: Titans, tokens: mx.array, piece: int = 128) -> list:
    """Read through a cache, evaluated piece by piece."""
    cache = model.make_cache()
    for start in range(0, tokens.shape[1], piece):
        mx.eval(model(tokens[:, start : start + piece], cache), cache)
        # Else the executor lags behind by as many pieces as it likes, and the peak is of them together.
        mx.synchronize()
    return cache


@each
@pytest.mark.parametrize(("work", "repeats"), [(forward, 3), (forward_backward, 1)], ids=["forward", "training"])
def test_memory_is_linear(name: str, work: Callable[[Titans, mx.array], object], repeats: int) -> None:
    """Over two doublings, where a quadratic share shows twice and the executor's lag, some per cent, does not."""
    model = small(name)
    once, four = (uniform(1, length + 1) for length in (LENGTH, 4 * LENGTH))
    mx.eval(once, four)
    assert peak(lambda: work(model, four), repeats) <= GROWTH**2 * peak(lambda: work(model, once), repeats)


@each
def test_memory_of_a_stream_is_constant(name: str) -> None:
    model = small(name)
    once, four = (uniform(1, length) for length in (LENGTH, 4 * LENGTH))
    mx.eval(once, four)
    # As many pieces on both sides: how far execution lags within a piece is chance, and the most of more is more.
    assert peak(lambda: stream(model, four)) <= 1.1 * peak(lambda: stream(model, once), repeats=12)


@each
def test_state_does_not_grow(name: str) -> None:
    """Beyond one window and at the same place in a segment, the carried bytes are the same at every position."""
    model, sizes = small(name), []
    cache = model.make_cache()
    for _ in range(6):
        model(uniform(1, 64), cache)
        mx.eval(cache)
        sizes.append(tree_bytes(cache))
    assert sizes[0] > 0
    assert set(sizes) == {sizes[0]}


@each
def test_no_square_is_formed(name: str) -> None:
    """At 16,384 tokens the peak is below half a byte per pair of tokens; a bool mask takes a whole one."""
    model, tokens = small(name), uniform(1, LONG)
    mx.eval(tokens)
    assert peak(lambda: model(tokens)[:, -1], repeats=1) < LONG * LONG / 2


def test_the_full_transformer_does_grow() -> None:
    """So that the test of the state above can fail."""
    model = build("transformer")
    cache = model.make_cache()
    model(uniform(1, 64), cache)
    first = tree_bytes(cache)
    model(uniform(1, 64), cache)
    assert tree_bytes(cache) == 2 * first


@pytest.mark.parametrize("name", ["mac-deep", "lmm-online", "sliding_window"])
def test_a_cache_keeps_nothing_alive_but_itself(name: str) -> None:
    """A view into what a whole call computed would not show in the bytes of the cache's own arrays."""
    model, tokens = small(name), uniform(1, 4100)
    mx.eval(model.parameters(), tokens)
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    cache = model.make_cache()
    mx.eval(model(tokens, cache), cache)
    mx.synchronize()
    # Metal hands out whole pages of 16 KiB, and buffers of up to twice what was asked for.
    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    pages = 0 if on_cpu else 16_384 * len(tree_flatten(cache)) + tree_bytes(cache)
    assert mx.get_active_memory() - before <= 1.1 * tree_bytes(cache) + 4096 + pages
