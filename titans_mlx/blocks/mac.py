"""MAC: what the memory retrieves is context for attention within a segment (paper section 4.1, eq. 21-25).

Two leaks of the literal equations are closed: row i sees the reads ``h_j`` for j <= i only, and reads the memory
after its own write, not after the segment's last. What happens at row i of a segment, in order:

    at i = 0    M_prev <- W, and the attention forgets the segment before
    eq. 21      h_i = f(M_prev; q_i), q from the block's input
    eq. 22, 23  y_i = attention of x_i over [P | h_<=i | x_<=i]
    eq. 24      the memory absorbs x_i + y_i, the attention with its residual
    eq. 25      o_i = y_i * silu(f(M_i; q(x_i + y_i)))
"""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._check import check_count, check_type
from titans_mlx._cpu import silu
from titans_mlx._split import joined, split
from titans_mlx.attention import Attention, SegmentState
from titans_mlx.blocks.parts import FeedForward, check_tokens_seen, persistent_tokens
from titans_mlx.config import TitansConfig
from titans_mlx.memory import MemoryState, NeuralMemory, Observer
from titans_mlx.softmax import Prefix


class MACState(NamedTuple):
    """What a MAC block carries.

    Attributes:
        memory: the memory after the last token.
        before: its weights when the current segment began (``M_prev``).
        query_tail: tail of the query convolution over the block's input.
        segment: keys and values of the current segment, or None at a boundary.
        offset: tokens seen.
    """

    memory: MemoryState
    before: tuple[mx.array, ...]
    query_tail: mx.array | None
    segment: SegmentState | None
    offset: int


class MACBlock(nn.Module):
    """Retrieve, attend, absorb, gate; then the MLP. Each vector that passes on is RMS-normalised with a learned gain.

    The two query streams (block input, attention output) share their projection and have a convolution tail each.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.segment_size = config.segment_size
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.persistent = persistent_tokens(config)
        self.attention = Attention(config.dim, config.num_heads, rope_base=config.rope_base)
        self.memory = NeuralMemory(config.dim, config.num_heads, config.memory, readout=False)
        self.context_norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.attention_norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.write_norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.read_norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.o_proj = nn.Linear(config.dim, config.dim, bias=False)
        self.mlp = FeedForward(config)

    def init_state(self, batch_size: int) -> MACState:
        """The state before any token."""
        memory = self.memory.init_state(batch_size)
        tail = memory.tails[0] if memory.tails else None
        return MACState(memory, memory.weights, tail, None, 0)

    def __call__(
        self, x: mx.array, state: MACState | None = None, observe: Observer | None = None
    ) -> tuple[mx.array, MACState]:
        """x (B, T, dim) and the state so far (None: at birth) -> (B, T, dim) and the state after x."""
        state = state or self.init_state(x.shape[0])
        n = self.norm(x)
        q, tail = self.memory.query(n, state.query_tail)
        state = state._replace(query_tail=tail)
        start = state.offset % self.segment_size
        own = self.attention.project_segments(n, start, self.segment_size)
        prefix = self.attention.prefix(self.persistent)
        cuts = list(range(self.segment_size - start, x.shape[1], self.segment_size))
        pieces = (split(n, cuts, axis=1), *(split(stream, cuts, axis=2) for stream in (q, *own)))
        outputs = []
        for piece, queries, *streams in zip(*pieces, strict=True):
            o, state = self._segment(piece, queries, tuple(streams), prefix, state, observe)
            outputs.append(o)
        state = state._replace(segment=state.segment.on_its_own())
        o = joined(outputs, 1)
        return self.mlp(x + self.o_proj(o)), state

    def _segment(
        self,
        n: mx.array,
        q: mx.array,
        own: tuple[mx.array, mx.array, mx.array],
        prefix: Prefix | None,
        state: MACState,
        observe: Observer | None,
    ) -> tuple[mx.array, MACState]:
        """A piece of one segment: n (B, T, dim) normalised inputs, q (B, H, T, d) their queries to the memory.

        ``own`` and ``prefix`` are the attention's queries, keys and values of n, and of the persistent tokens.
        """
        if state.offset % self.segment_size == 0:
            state = state._replace(before=state.memory.weights, segment=None)
        h = self.context_norm(self.memory.retrieve(q, state.before)).astype(n.dtype)
        y, segment = self.attention.attend_segment(own, h, state.segment, prefix)
        reads, memory = self.memory.absorb(self.write_norm(n + y), state.memory, observe=observe)
        o = self.attention_norm(y) * silu(self.read_norm(reads).astype(n.dtype))
        return o, state._replace(memory=memory, segment=segment, offset=state.offset + n.shape[1])

    def check_state(self, state: MACState, batch_size: int, name: str) -> None:
        """Raise a ValueError unless ``state`` is this block's and of this batch size."""
        check_type(name, state, MACState)
        check_count(f"{name}.offset", state.offset, 0)
        self.memory.check_state(state.memory, batch_size, f"{name}.memory")
        # M_prev and the second query stream are as the memory's own weights and tail.
        tails = state.memory.tails and (state.query_tail, *state.memory.tails[1:])
        earlier = state.memory._replace(weights=state.before, tails=tails)
        self.memory.check_state(earlier, batch_size, f"{name}.before and {name}.query_tail")
        check_tokens_seen(name, {"attention": state.offset, "memory": state.memory.position})
        self.attention.check_state(state.segment, SegmentState, batch_size, name=f"{name}.segment")
        expected = (state.offset - 1) % self.segment_size + 1 if state.offset else 0
        given = state.segment.offset if state.segment else 0
        if given != expected:
            raise ValueError(
                f"{name}.segment must hold the {expected} tokens since the last boundary of segments of "
                f"{self.segment_size} (offset {state.offset}), got {given}: it is from another segment_size"
            )
