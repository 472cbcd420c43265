"""What the three attentions refuse, and what they say."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx.attention import Attention, AttentionState, SegmentState

DIM, HEADS = 16, 2
X = (2, 4, DIM)
Made = tuple[mx.array, AttentionState | SegmentState]
Call = Callable[..., Made]


def full(attention: Attention, x: mx.array, state: Any = None, **options: Any) -> Made:
    return attention.full(x, state, **options)


def sliding(attention: Attention, x: mx.array, state: Any = None, *, window: int = 5, **options: Any) -> Made:
    return attention.sliding(x, state, window=window, **options)


def segment(
    attention: Attention,
    x: mx.array,
    state: Any = None,
    *,
    h: mx.array | None = None,
    segment_size: int = 8,
    **options: Any,
) -> Made:
    h = mx.zeros((2, 4, DIM)) if h is None else h
    return attention.segment(x, h, state, segment_size=segment_size, **options)


@pytest.mark.parametrize("call", [full, sliding, segment])
@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((4, DIM), mx.float32, r"x must have 3 axes \(B, T, dim\), got shape \(4, 16\)"),
        ((2, 4, 8), mx.float32, r"x must be \(B, T, dim = 16\) .*got shape \(2, 4, 8\)"),
        ((2, 0, DIM), mx.float32, r"x must be .* T >= 1, got shape \(2, 0, 16\)"),
        ((0, 4, DIM), mx.float32, r"x must be .* B >= 1 .*got shape \(0, 4, 16\)"),
        (X, mx.int32, r"x must have a floating dtype .*int32"),
    ],
)
def test_bad_x_is_named(call: Call, shape: tuple[int, ...], dtype: mx.Dtype, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Attention(DIM, HEADS), mx.zeros(shape, dtype))


@pytest.mark.parametrize("call", [full, sliding, segment])
@pytest.mark.parametrize(
    ("persistent", "message"),
    [
        (np.zeros((3, DIM)), r"persistent must be an mx.array \(P, dim\), got ndarray"),
        (((1, 3, DIM), mx.float32), r"persistent must have 2 axes \(P, dim\), got shape \(1, 3, 16\)"),
        (((3, 8), mx.float32), r"persistent must be \(P, dim = 16\), got shape \(3, 8\)"),
        (((3, DIM), mx.int32), r"persistent must have a floating dtype .*int32"),
    ],
)
def test_bad_persistent_is_named(call: Call, persistent: Any, message: str) -> None:
    persistent = mx.zeros(*persistent) if isinstance(persistent, tuple) else persistent
    with pytest.raises(ValueError, match=message):
        call(Attention(DIM, HEADS), mx.zeros(X), persistent=persistent)


@pytest.mark.parametrize("call", [full, sliding, segment])
def test_state_of_another_batch_or_layer_is_refused(call: Call) -> None:
    _, state = call(Attention(DIM, HEADS), mx.zeros(X))
    name = "h_keys" if call is segment else "keys"
    options = {"h": mx.zeros((3, 4, DIM))} if call is segment else {}
    with pytest.raises(ValueError, match=rf"state.{name} must be .*\(3, 2, 4, 8\).*got shape \(2, 2, 4, 8\)"):
        call(Attention(DIM, HEADS), mx.zeros((3, 4, DIM)), state, **options)
    with pytest.raises(ValueError, match=rf"state.{name} must be .*\(2, 4, 4, 4\).*got shape \(2, 2, 4, 8\)"):
        call(Attention(DIM, 4), mx.zeros(X), state)


def test_state_of_another_pattern_or_window_is_refused() -> None:
    attention, x = Attention(DIM, HEADS), mx.zeros(X)
    _, state = attention.sliding(x, window=3)
    with pytest.raises(ValueError, match=r"state.keys must be .*\(2, 2, 3, 8\).*got shape \(2, 2, 2, 8\)"):
        attention.sliding(x, state, window=4)
    with pytest.raises(ValueError, match=r"state.keys must be .*\(2, 2, 4, 8\).*offset = 4"):
        attention.full(x, state)
    with pytest.raises(ValueError, match="state must be SegmentState or None, got AttentionState"):
        segment(attention, x, state)
    _, state = segment(attention, x)
    assert isinstance(state, SegmentState)
    with pytest.raises(ValueError, match="state must be AttentionState or None, got SegmentState"):
        attention.full(x, state)


@pytest.mark.parametrize("size", [0, -3, 2.5, True])
def test_sizes_are_whole_numbers_above_zero(size: Any) -> None:
    attention, x = Attention(DIM, HEADS), mx.zeros(X)
    with pytest.raises(ValueError, match=f"window must be an integer >= 1, got {size}"):
        attention.sliding(x, window=size)
    with pytest.raises(ValueError, match=f"segment_size must be an integer >= 1, got {size}"):
        segment(attention, x, segment_size=size)
    with pytest.raises(ValueError, match=f"num_heads must be an integer >= 1, got {size}"):
        Attention(DIM, size)


def test_a_segment_ends_where_it_ends() -> None:
    attention, x = Attention(DIM, HEADS), mx.zeros(X)
    y, state = segment(attention, x, segment_size=6)
    assert y.shape == X
    kept = [a if isinstance(a, int) else np.array(a) for a in state]
    with pytest.raises(ValueError, match=r"x must end .* at most segment_size = 6, got 4 \+ 4"):
        segment(attention, x, state, segment_size=6)
    assert all(np.array_equal(a, b) for a, b in zip(kept, state, strict=True))
    with pytest.raises(ValueError, match=r"h must have the shape of x, \(2, 4, 16\), got \(2, 3, 16\)"):
        segment(attention, x, h=mx.zeros((2, 3, DIM)))
    with pytest.raises(ValueError, match=r"h must be \(B, T, dim = 16\)"):
        segment(attention, x, h=mx.zeros((2, 4, 8)))
    with pytest.raises(ValueError, match="conv_size must be 0 for segments, which have no convolution, got 4"):
        segment(Attention(DIM, HEADS, conv_size=4), x)


def test_a_state_s_fields_are_named() -> None:
    attention, x = Attention(DIM, HEADS), mx.zeros(X)
    _, state = full(attention, x)
    with pytest.raises(ValueError, match=r"state\.keys must be an mx\.array \(B, H, S, d\), got NoneType"):
        full(attention, x, state._replace(keys=None))
    with pytest.raises(ValueError, match=r"state\.offset must be an integer >= 0, got 4\.0"):
        full(attention, x, state._replace(offset=4.0))
    with pytest.raises(ValueError, match=r"state\.tails must be a tuple, got NoneType"):
        full(attention, x, state._replace(tails=None))
    convolved = Attention(DIM, HEADS, conv_size=4)
    _, state = full(convolved, x)
    with pytest.raises(ValueError, match=r"state\.tails must have shapes .* got \['NoneType'"):
        full(convolved, x, state._replace(tails=(None, *state.tails[1:])))


def test_a_cache_of_full_attention_holds_its_keys_and_values_alone() -> None:
    attention, x = Attention(DIM, HEADS), mx.random.normal((1, 4096, DIM))
    mx.eval(attention.parameters(), x)
    before = mx.get_active_memory()
    y, state = full(attention, x)
    mx.eval(y, state.keys, state.values)
    del y
    assert mx.get_active_memory() - before < 1.2 * (state.keys.nbytes + state.values.nbytes)


def test_constructor_names_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="num_heads must divide dim = 16, got 3"):
        Attention(DIM, 3)
    with pytest.raises(ValueError, match="dim / num_heads must be even for rotary positions, got 6 / 2"):
        Attention(6, 2)
    assert isinstance(Attention(6, 2, rope_base=None).full(mx.zeros((1, 2, 6)))[1], AttentionState)
    with pytest.raises(ValueError, match=r"rope_base must be a finite number above 0, got -1\.0"):
        Attention(DIM, HEADS, rope_base=-1.0)
