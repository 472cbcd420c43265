"""Softmax attention over given queries, keys and values: positions, a visible prefix, bands, segments.

No mask here has T by T entries: a band's is at most ``window`` by ``P + 2 window``, a segment's stays within it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from titans_mlx._split import joined


class Prefix(NamedTuple):
    """Keys and values (1, H, P, d) that every token sees."""

    keys: mx.array
    values: mx.array


def rotary(x: mx.array, offset: int, base: float | None) -> mx.array:
    """Rotate the pairs ``(x_i, x_{i + d/2})`` of x (B, H, T, d) by the angles ``(offset + t) base^(-2i/d)``.

    Angles are float32 products: off by up to 0.004 rad at position 2^17, 0.03 rad at 2^20.
    A ``base`` of None means no positions: x comes back as it is.
    """
    if base is None:
        return x
    return mx.fast.rope(x, x.shape[-1], traditional=False, base=base, scale=1.0, offset=offset)


def meet(
    q: mx.array, rotated: mx.array, prefix: Prefix | None, offset: int, base: float | None
) -> tuple[mx.array, Prefix | None]:
    """Queries and prefix for :func:`attend`, such that what is seen of the prefix does not depend on the position.

    Rotated queries would see a prefix otherwise at every position, and beyond the training length as never before.

    Args:
        q: queries (B, H, T, d), not rotated.
        rotated: the same from position ``offset`` on, as :func:`rotary` gives them with this ``base``.
        prefix: its keys are not rotated.
        offset: position of the first query.
        base: of the positions.

    Returns:
        For several queries ``[rotated | q]`` (B, H, T, 2 d), and the prefix as it is. For one query ``rotated``
        (B, H, 1, d), and the prefix rotated to its position. Without prefix or positions ``rotated``, and the prefix.
    """
    if prefix is None or base is None:
        return rotated, prefix
    if q.shape[2] > 1:
        return mx.concatenate([rotated, q], axis=-1), prefix
    # A long cache is then not copied, to be padded, for every token decoded.
    keys = prefix.keys.reshape(1, -1, 1, q.shape[-1])
    return rotated, Prefix(rotary(keys, offset, base).reshape(prefix.keys.shape), prefix.values)


def rotary_segments(x: mx.array, offset: int, size: int, base: float | None) -> mx.array:
    """As :func:`rotary`, positions counted anew from the start of each segment of ``size`` tokens.

    x begins at token ``offset`` of a segment. Whole segments turn together.
    """
    head = min(x.shape[2], -offset % size)
    body = (x.shape[2] - head) // size * size
    pieces = [rotary(x[:, :, :head], offset, base)] if head else []
    if body:
        whole = x[:, :, head : head + body]
        folded = whole.reshape(x.shape[0], -1, size, x.shape[3])
        pieces.append(rotary(folded, 0, base).reshape(whole.shape))
    if head + body < x.shape[2]:
        pieces.append(rotary(x[:, :, head + body :], 0, base))
    return joined(pieces, 2)


def width(prefix: Prefix | None) -> int:
    """Columns of the visible prefix."""
    return 0 if prefix is None else prefix.keys.shape[2]


def join(first: mx.array, second: mx.array) -> mx.array:
    """Keys or values (B, H, S, d) along the token axis."""
    return mx.concatenate([first, second], axis=2)


def last(x: mx.array, count: int) -> mx.array:
    """The last ``count`` tokens of x (B, H, S, d), or all where there are fewer."""
    start = max(x.shape[2] - count, 0)
    # Copied: a view would keep the whole prompt's keys alive for as long as the cache lives.
    return mx.contiguous(x[:, :, start:])


def attend(q: mx.array, k: mx.array, v: mx.array, prefix: Prefix | None, mask: mx.array | str) -> mx.array:
    """Softmax attention of q over the P + S columns ``[prefix | k]``, scaled by ``d^-1/2``.

    Args:
        q: (B, H, T, d); or (B, H, T, 2 d), see :func:`meet`: k then meets the first half, the prefix the second.
        k: (B, H, S, d), rotated.
        v: (B, H, S, d).
        prefix: or None.
        mask: (T, P + S) bool, or ``"causal"``: the last query stands at the last key, and all see the prefix.

    Returns:
        (B, H, T, d).
    """
    dim = k.shape[-1]
    if prefix is not None:
        shape = (k.shape[0], *prefix.keys.shape[1:])
        keys, spare = mx.broadcast_to(prefix.keys, shape), q.shape[-1] - dim
        v = join(mx.broadcast_to(prefix.values, shape), v)
        if spare:
            # Zeros where the other's half stands: one product still makes all scores.
            keys, k = _padded(keys, spare, 0), _padded(k, 0, spare)
            v = _padded(v, 0, spare) if _wants_equal_widths() else v
        k = join(keys, k)
    y = mx.fast.scaled_dot_product_attention(q, k, v, scale=dim**-0.5, mask=mask)
    return y[..., :dim]


def _wants_equal_widths() -> bool:
    """Whether the kernel that never holds all scores serves only values as wide as keys: so on a GPU (MLX 0.32)."""
    return mx.default_device().type == mx.DeviceType.gpu


def _padded(x: mx.array, before: int, after: int) -> mx.array:
    return mx.pad(x, [(0, 0)] * 3 + [(before, after)])


def attend_window(q: mx.array, k: mx.array, v: mx.array, prefix: Prefix | None, window: int) -> mx.array:
    """Attend from q to the last ``window`` keys of each, in pieces of at most ``window`` queries and ``2 window`` keys.

    q is (B, H, T, d or 2 d) as :func:`attend` takes it, k and v (B, H, S, d): S - T cached tokens, then those of q. The
    result is (B, H, T, d). The first piece meets the cache, the whole blocks after it meet the block before them, and
    the last piece is what is left over: no token is padded, and the whole blocks share one mask.
    """
    tokens, cached = q.shape[2], k.shape[2] - q.shape[2]
    first = min(tokens, window)
    blocks, rest = divmod(tokens - first, window)
    head = cached + first
    pieces = [_attend_band(q[:, :, :first], k[:, :, :head], v[:, :, :head], prefix, window)]
    if blocks:
        end = tokens - rest
        reach = slice(cached, cached + end)
        pieces.append(_attend_blocks(q[:, :, first:end], k[:, :, reach], v[:, :, reach], prefix, window))
    if rest:
        reach = slice(-(rest + window - 1), None)
        pieces.append(_attend_band(q[:, :, -rest:], k[:, :, reach], v[:, :, reach], prefix, window))
    return mx.concatenate(pieces, axis=2)


def _attend_band(q: mx.array, k: mx.array, v: mx.array, prefix: Prefix | None, window: int) -> mx.array:
    if k.shape[2] <= window:
        return attend(q, k, v, prefix, "causal")
    return attend(q, k, v, prefix, _band_mask(q.shape[2], k.shape[2], width(prefix), window))


def _attend_blocks(q: mx.array, k: mx.array, v: mx.array, prefix: Prefix | None, window: int) -> mx.array:
    """Attend from whole blocks of queries to their own block and the one before; k begins a block earlier."""
    blocks = q.shape[2] // window
    k, v = _unfold(k, window), _unfold(v, window)
    k = _fold([k[:, :, :-1], k[:, :, 1:]])
    v = _fold([v[:, :, :-1], v[:, :, 1:]])
    if prefix is not None:
        prefix = Prefix(*(mx.repeat(part, blocks, axis=1) for part in prefix))
    mask = _band_mask(window, 2 * window, width(prefix), window)
    y = attend(_fold([_unfold(q, window)]), k, v, prefix, mask)
    return y.reshape(*q.shape[:3], y.shape[-1])


def _unfold(x: mx.array, window: int) -> mx.array:
    return x.reshape(*x.shape[:2], -1, window, x.shape[-1])


def _fold(blocks: Sequence[mx.array]) -> mx.array:
    # Blocks become heads, (B, H * blocks, ...): the reshape moves nothing, and one mask serves them all.
    return mx.concatenate(blocks, axis=3).flatten(1, 2)


def _band_mask(rows: int, columns: int, prefix: int, window: int) -> mx.array:
    """(rows, prefix + columns): each of the last ``rows`` of ``columns`` tokens sees prefix and window."""
    position = mx.arange(columns - rows, columns)[:, None]
    column = mx.arange(-prefix, columns)
    return (column <= position) & ((column > position - window) | (column < 0))


def segment_mask(start: int, end: int, prefix: int) -> mx.array:
    """(end - start, prefix + 2 end): rows ``start`` to ``end`` over the columns [persistent | h | x]."""
    token = mx.arange(end)
    column = mx.concatenate([mx.full(prefix, -1), token, token])
    return column <= token[start:, None]
