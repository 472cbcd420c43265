"""Causal attention in three patterns: full, sliding-window, and the segments of MAC.

All run through ``mx.fast.scaled_dot_product_attention`` and take a prefix that every token sees (the
persistent tokens of Titans). Caches are values: None is a fresh start, and a sequence cut into calls anywhere
gives what one call gives. Full attention needs no mask array, the window's is at most ``window`` by
``P + 2 window``, MAC's stays within its segment.

Shapes: B rows, T tokens of a call, S cached tokens, P persistent tokens, H heads, d head width.
"""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._check import check_count, check_float, check_positive, check_rank, check_sequence, check_type
from titans_mlx._joint import linears
from titans_mlx.config import ConvBirth
from titans_mlx.convolution import convolve, qkv_convolutions
from titans_mlx.softmax import (
    Prefix,
    attend,
    attend_window,
    join,
    last,
    meet,
    rotary,
    rotary_segments,
    segment_mask,
    width,
)


class AttentionState(NamedTuple):
    """Cache of full and of sliding attention; the persistent tokens are not part of it.

    Attributes:
        keys: (B, H, S, d), rotated. ``S = offset`` in full attention, ``min(offset, window - 1)`` in sliding.
        values: (B, H, S, d).
        offset: tokens seen.
        tails: last inputs of the q, k and v convolutions, each (B, conv_size - 1, dim); or ().
    """

    keys: mx.array
    values: mx.array
    offset: int
    tails: tuple[mx.array, ...] = ()


class SegmentState(NamedTuple):
    """Cache of segment attention: the part of the current segment already seen.

    Attributes:
        h_keys: (B, H, S, d), rotated keys of the memory reads.
        h_values: (B, H, S, d).
        x_keys: (B, H, S, d), rotated keys of the inputs.
        x_values: (B, H, S, d).
        offset: S, tokens of this segment seen.
    """

    h_keys: mx.array
    h_values: mx.array
    x_keys: mx.array
    x_values: mx.array
    offset: int

    def on_its_own(self) -> "SegmentState":
        """A copy that does not keep the projections of a whole call alive, of which its arrays may be views."""
        return SegmentState(*(mx.contiguous(array) for array in self[:-1]), self.offset)


class Attention(nn.Module):
    """Multi-head attention ``softmax(q k^T / sqrt(d)) v`` without biases; a method for each causal pattern.

    Args:
        dim: width of input and output.
        num_heads: heads; must divide ``dim``.
        rope_base: base of the rotary positions, or None for no positions (NoPE).
        conv_size: taps of a short causal convolution on queries, keys and values, as the memory has; 0: none.
            MAC's segment attention has none.
        conv_birth: of its taps.

    Raises:
        ValueError: ``num_heads`` does not divide ``dim``, the head width is odd under rotary positions, or the
            convolution is not one that there is.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        rope_base: float | None = 10_000.0,
        conv_size: int = 0,
        conv_birth: ConvBirth = "uniform",
    ) -> None:
        super().__init__()
        check_count("dim", dim)
        check_count("num_heads", num_heads)
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim = {dim}, got {num_heads}")
        check_count("conv_size", conv_size, 0)
        if rope_base is not None:
            check_positive("rope_base", rope_base)
            if dim // num_heads % 2:
                raise ValueError(f"dim / num_heads must be even for rotary positions, got {dim} / {num_heads}")
        self.dim = dim
        self.num_heads = num_heads
        self.rope_base = rope_base
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)
        self.conv_size = conv_size
        if conv_size:
            self.q_conv, self.k_conv, self.v_conv = qkv_convolutions(dim, conv_size, conv_birth)

    def full(
        self, x: mx.array, state: AttentionState | None = None, *, persistent: mx.array | None = None
    ) -> tuple[mx.array, AttentionState]:
        """Attend to every token up to one's own.

        Args:
            x: (B, T, dim), floating.
            state: what the previous call returned; None at the start of a sequence.
            persistent: (P, dim) vectors in the space of x that every token sees from wherever it stands: neither
                they nor the queries that meet them are rotated; or None.

        Returns:
            The output (B, T, dim), and the state after x, which holds every token.

        Raises:
            ValueError: ``x`` or ``persistent`` has a wrong shape or dtype, or ``state`` is of another layer
                or batch.
        """
        check_sequence("x", x, self.dim)
        prefix = self.prefix(persistent)
        q, keys, values, prefix, tails = self._project(x, state, prefix)
        y = attend(q, keys, values, prefix, "causal")
        if state is None:
            # Views would keep the queries alive for as long as the cache lives.
            keys, values = mx.contiguous(keys), mx.contiguous(values)
        return self._merge(y), AttentionState(keys, values, _offset(state) + x.shape[1], tails)

    def sliding(
        self,
        x: mx.array,
        state: AttentionState | None = None,
        *,
        window: int,
        persistent: mx.array | None = None,
    ) -> tuple[mx.array, AttentionState]:
        """Attend to the last ``window`` tokens, one's own included; time and memory are linear in T.

        Args:
            x: (B, T, dim), floating.
            state: what the previous call with this ``window`` returned; None at the start of a sequence.
            window: tokens in reach, at least 1.
            persistent: as in :meth:`full`; these use up none of the window.

        Returns:
            The output (B, T, dim), and the state after x, which holds the last ``window - 1`` tokens.

        Raises:
            ValueError: ``window`` is below 1, ``x`` or ``persistent`` has a wrong shape or dtype, or
                ``state`` is of another layer, batch or window.
        """
        check_count("window", window)
        check_sequence("x", x, self.dim)
        prefix = self.prefix(persistent)
        q, keys, values, prefix, tails = self._project(x, state, prefix, reach=window - 1)
        y = attend_window(q, keys, values, prefix, window)
        kept = (last(keys, window - 1), last(values, window - 1))
        return self._merge(y), AttentionState(*kept, _offset(state) + x.shape[1], tails)

    def segment(
        self,
        x: mx.array,
        h: mx.array,
        state: SegmentState | None = None,
        *,
        segment_size: int,
        persistent: mx.array | None = None,
    ) -> tuple[mx.array, SegmentState]:
        """Attend within a segment of MAC: row i sees ``[persistent | h_<=i | x_<=i]`` (eq. 22, made causal).

        Rows of h are keys and values only, and h_j takes the rotary position of x_j, counted from the start
        of the segment. The caller cuts at the segments' ends and passes None where a segment begins.

        Args:
            x: (B, T, dim), floating; a piece of one segment.
            h: (B, T, dim), the memory's reads for the same tokens.
            state: what the previous call in this segment returned; None at its start.
            segment_size: tokens of a whole segment, at least 1.
            persistent: as in :meth:`full`, but met by queries rotated by their position in the segment.

        Returns:
            The output (B, T, dim), and the state after x.

        Raises:
            ValueError: this attention has a convolution, ``x`` runs over the segment's end, ``h`` is not shaped like
                ``x``, ``x`` or ``persistent`` has a wrong shape or dtype, or ``state`` is of another layer or batch.
        """
        if self.conv_size:
            raise ValueError(f"conv_size must be 0 for segments, which have no convolution, got {self.conv_size}")
        check_count("segment_size", segment_size)
        check_sequence("x", x, self.dim)
        prefix = self.prefix(persistent)
        check_sequence("h", h, self.dim)
        if h.shape != x.shape:
            raise ValueError(f"h must have the shape of x, {x.shape}, got {h.shape}")
        self.check_state(state, SegmentState, x.shape[0])
        start = _offset(state)
        end = start + x.shape[1]
        if end > segment_size:
            raise ValueError(
                f"x must end within its segment: state.offset + T must be at most segment_size = "
                f"{segment_size}, got {start} + {x.shape[1]}"
            )
        return self.attend_segment(self.project_segments(x, start, segment_size), h, state, prefix)

    def project_segments(self, x: mx.array, offset: int, segment_size: int) -> tuple[mx.array, mx.array, mx.array]:
        """Queries, keys and values of x (B, T, dim) over any number of segments, each (B, H, T, d).

        Positions are counted from the start of each segment; x begins ``offset`` tokens after the start of one.
        """
        q, keys, values = mx.split(self._split(linears(x, [self.q_proj, self.k_proj, self.v_proj]), 3), 3, axis=1)
        q, keys = (rotary_segments(stream, offset, segment_size, self.rope_base) for stream in (q, keys))
        return q, keys, values

    def attend_segment(
        self,
        own: tuple[mx.array, mx.array, mx.array],
        h: mx.array,
        state: SegmentState | None,
        prefix: Prefix | None,
    ) -> tuple[mx.array, SegmentState]:
        """As :meth:`segment`, unchecked: ``own`` are what :meth:`project_segments` gave for the tokens of the piece."""
        q, keys, values = own
        start = _offset(state)
        end = start + q.shape[2]
        cache = (*self._keys_values(h, start), keys, values)
        if state is not None:
            cache = tuple(join(old, new) for old, new in zip(state[:-1], cache, strict=True))
        h_keys, h_values, x_keys, x_values = cache
        mask = segment_mask(start, end, width(prefix))
        y = attend(q, join(h_keys, x_keys), join(h_values, x_values), prefix, mask)
        return self._merge(y), SegmentState(*cache, end)

    def _project(
        self, x: mx.array, state: AttentionState | None, prefix: Prefix | None, reach: int | None = None
    ) -> tuple[mx.array, mx.array, mx.array, Prefix | None, tuple[mx.array, ...]]:
        """Queries of x, keys and values of the cache followed by x, the prefix, and the convolutions' new tails.

        Queries and prefix are as :func:`~titans_mlx.softmax.meet` gives them.
        """
        self.check_state(state, AttentionState, x.shape[0], reach)
        streams, tails = linears(x, [self.q_proj, self.k_proj, self.v_proj]), ()
        if self.conv_size:
            convs = (self.q_conv, self.k_conv, self.v_conv)
            tails = tuple(conv.birth_tail(len(x)) for conv in convs) if state is None else state.tails
            streams, tails = convolve(convs, streams, tails)
        q, keys, values = mx.split(self._split(streams, 3), 3, axis=1)
        rotated, keys = (rotary(stream, _offset(state), self.rope_base) for stream in (q, keys))
        q, prefix = meet(q, rotated, prefix, _offset(state), self.rope_base)
        if state is not None:
            keys, values = join(state.keys, keys), join(state.values, values)
        return q, keys, values, prefix, tails

    def _keys_values(self, x: mx.array, offset: int) -> tuple[mx.array, mx.array]:
        keys, values = mx.split(self._split(linears(x, [self.k_proj, self.v_proj]), 2), 2, axis=1)
        return rotary(keys, offset, self.rope_base), values

    def prefix(self, persistent: mx.array | None) -> Prefix | None:
        """Keys and values of persistent tokens (P, dim); None where there are none.

        Raises:
            ValueError: if ``persistent`` has a wrong shape or dtype.
        """
        if persistent is None:
            return None
        check_rank("persistent", persistent, 2, "(P, dim)")
        check_float("persistent", persistent)
        if persistent.shape[1] != self.dim:
            raise ValueError(f"persistent must be (P, dim = {self.dim}), got shape {persistent.shape}")
        if persistent.shape[0] == 0:
            return None
        rows = persistent[None]
        return Prefix(self._split(self.k_proj(rows)), self._split(self.v_proj(rows)))

    def _split(self, x: mx.array, streams: int = 1) -> mx.array:
        return x.reshape(*x.shape[:2], streams * self.num_heads, -1).transpose(0, 2, 1, 3)

    def _merge(self, y: mx.array) -> mx.array:
        return self.o_proj(y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], self.dim))

    def check_state(
        self,
        state: AttentionState | SegmentState | None,
        kind: type[AttentionState] | type[SegmentState],
        batch: int,
        reach: int | None = None,
        name: str = "state",
    ) -> None:
        """Raise a ValueError unless ``state`` is None, or of this kind, layer and batch.

        ``reach`` is how many tokens at most a cache of sliding attention holds, ``window - 1``.
        """
        if state is None:
            return
        if not isinstance(state, kind):
            raise ValueError(f"{name} must be {kind.__name__} or None, got {type(state).__name__}")
        check_count(f"{name}.offset", state.offset, 0)
        cached = state.offset if reach is None else min(state.offset, reach)
        allowed = (batch, self.num_heads, cached, self.dim // self.num_heads)
        if isinstance(state, AttentionState):
            tails = [(batch, self.conv_size - 1, self.dim)] * (3 if self.conv_size else 0)
            check_type(f"{name}.tails", state.tails, tuple)
            given = [getattr(tail, "shape", type(tail).__name__) for tail in state.tails]
            if given != tails:
                raise ValueError(f"{name}.tails must have shapes {tails} for the batch and this layer, got {given}")
        for field in kind._fields[: kind._fields.index("offset")]:
            array = getattr(state, field)
            check_rank(f"{name}.{field}", array, 4, "(B, H, S, d)")
            if array.shape != allowed:
                raise ValueError(
                    f"{name}.{field} must be (B, H, S, d) = {allowed} for the batch of x, this layer and "
                    f"{name}.offset = {state.offset}, got shape {array.shape}"
                )


def _offset(state: AttentionState | SegmentState | None) -> int:
    return 0 if state is None else state.offset
