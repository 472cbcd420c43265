"""NeuralMemory: projections, convolutions and gates around the memory, writing and reading."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from titans_mlx._check import check_count, check_finite, check_float, check_rank, check_sequence, check_type
from titans_mlx._recompute import recomputed
from titans_mlx._split import split
from titans_mlx.config import MemoryConfig
from titans_mlx.memory import retention, structure
from titans_mlx.memory.chunked import chunked, chunked_slots
from titans_mlx.memory.learner import Gates, mask_gates
from titans_mlx.memory.online import online
from titans_mlx.memory.periods import in_periods, in_periods_by_row
from titans_mlx.memory.projections import Inputs, Projecting
from titans_mlx.memory.readout import ReadOut
from titans_mlx.memory.state import MemoryState, check_state, positions, where_rows
from titans_mlx.memory.structure import Norm

Observer = Callable[["NeuralMemory", MemoryState, Inputs], None]
"""Called by every write of a memory with the memory, its state before, and what it absorbs: for losses on the gates
and for pictures of a memory at work."""


class NeuralMemory(Projecting):
    """A memory whose own weights take one gradient step per token (paper section 3.1).

    ``q, k, v = l2norm(silu(conv(W x)))`` (v without the norm); each token writes its value at its key by
    ``S_t = eta_t S_{t-1} - theta_t grad l(M; x_t)``, ``M_t = (1 - alpha_t) M_{t-1} + S_t`` (eq. 12-14), and reads its
    query from ``M_t`` (eq. 15). Causal, independent between rows, and the same however a sequence is cut into calls.

    ``change_gates``, an attribute, is a function of the gates, applied before they are used: for experiments that scale
    or close them while reading (with the Omega rule a token whose theta is closed is still written by its share, with
    those after it). Persistent tokens are absorbed without it. None by default; in no checkpoint and in no
    configuration.

    Args:
        dim: width of inputs and outputs, a multiple of ``num_heads``.
        num_heads: independent memories side by side, each ``dim / num_heads`` wide.
        config: a :class:`MemoryConfig`; or give its fields as keywords (``depth=2, chunk_size=16, ...``).
        readout: False leaves out norm, gate and output projection, for blocks that combine the reads themselves.

    Raises:
        ValueError: if ``num_heads`` does not divide ``dim``, or a field has a value that is not allowed.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 1,
        config: MemoryConfig | None = None,
        readout: bool = True,
        **fields: Any,
    ) -> None:
        super().__init__()
        check_count("dim", dim)
        check_count("num_heads", num_heads)
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim={dim}, got {num_heads}")
        if config is not None and fields:
            raise ValueError(f"config must be None when its fields are given as keywords, got both: {sorted(fields)}")
        self.config = config = config if config is not None else MemoryConfig(**fields)
        check_type("config", config, MemoryConfig)
        self.dim, self.num_heads = dim, num_heads
        self._make_projections()
        self._make_gates()
        self._make_weights()
        if readout:
            self.readout = ReadOut(dim, num_heads)

    def _make_weights(self) -> None:
        config, heads, width = self.config, self.num_heads, self.dim // self.num_heads
        shapes = [(heads, d_out, d_in) for d_in, d_out in structure.widths(config, width)]
        if config.depth == 1 and config.retention != "lq":
            weights = [mx.zeros(shape) for shape in shapes]
        else:
            # A key has length 1 however wide it is.
            inputs = [width, *(shape[-1] for shape in shapes[1:])]
            # Positive weights that hardly differ would all give the same output.
            scales = [1.0 if config.retention == "kl" else size**-0.5 for size in inputs]
            weights = [mx.random.normal(shape) * scale for shape, scale in zip(shapes, scales, strict=True)]
        # Not as a list: MLX cannot freeze arrays in one.
        for index, weight in enumerate(weights, 1):
            self[f"initial_weights_{index}"] = weight
        if config.norm:
            self.norm_gain = mx.ones((heads, 1, width))
            self.norm_bias = mx.zeros((heads, 1, width))

    @property
    def initial_weights(self) -> tuple[mx.array, ...]:
        """``W_0`` of each memory layer, (H, d_out, d_in), learned."""
        return tuple(self[f"initial_weights_{index}"] for index in range(1, self.config.depth + 1))

    def init_state(self, batch_size: int, persistent: mx.array | None = None) -> MemoryState:
        """The state at birth: ``W = A = W_0``, ``S = 0``, position 0, zero tails, for ``batch_size`` rows.

        Persistent tokens (P, dim), where given, have been absorbed (eq. 28, 30): momentum and tails are theirs,
        ``A = W`` and the position is 0 again.

        Raises:
            ValueError: if ``batch_size`` is below 1, or ``persistent`` has a wrong shape or dtype.
        """
        check_count("batch_size", batch_size)
        if persistent is not None:
            if self.config.reset_every:
                raise ValueError("persistent must be None with reset_every: what they write would be lost at a reset")
            check_rank("persistent", persistent, 2, "(P, dim)")
            check_float("persistent", persistent)
            if persistent.shape[1] != self.dim or not len(persistent):
                raise ValueError(f"persistent must be (P, dim = {self.dim}), P >= 1, got shape {persistent.shape}")
            _, state = self._absorb(persistent[None], self.init_state(1), None, None, changed=False)
            anchor = None if state.anchor is None else state.weights
            return state._replace(position=0, anchor=anchor).repeat(batch_size)
        weights = tuple(mx.broadcast_to(w.astype(mx.float32), (batch_size, *w.shape)) for w in self.initial_weights)
        return MemoryState(
            weights=weights,
            momentum=None if self.config.momentum == "none" else tuple(mx.zeros_like(w) for w in weights),
            anchor=weights if self.config.update == "anchored" else None,
            position=0,
            tails=tuple(conv.birth_tail(batch_size) for conv in self._convs()),
            recent=self._no_tokens(batch_size),
        )

    def _no_tokens(self, batch_size: int) -> tuple[mx.array, ...]:
        if self.config.omega == 1:
            return ()
        width = self.dim // self.num_heads
        widths = (structure.widths(self.config, width)[0][0], width, 1)
        return tuple(mx.zeros((batch_size, self.num_heads, self.config.omega - 1, width)) for width in widths)

    def reset(self, state: MemoryState, rows: mx.array | list[bool], persistent: mx.array | None = None) -> MemoryState:
        """``state`` with the rows marked true in ``rows`` (B,) bool back at birth, persistent tokens absorbed.

        Raises:
            ValueError: if ``state`` is of another configuration, or ``rows`` or ``persistent`` has a wrong shape or
                dtype.
        """
        check_type("state", state, MemoryState)
        self.check_state(state, state.batch_size if state.weights else 0)
        rows = mx.array(rows) if isinstance(rows, list | np.ndarray) else rows
        given = f"{rows.dtype} of shape {rows.shape}" if isinstance(rows, mx.array) else type(rows).__name__
        if not isinstance(rows, mx.array) or rows.shape != (state.batch_size,) or rows.dtype != mx.bool_:
            raise ValueError(f"rows must be bool of shape ({state.batch_size},), got {given}")
        return where_rows(rows, self.init_state(state.batch_size, persistent), state)

    def __call__(
        self, x: mx.array, state: MemoryState | None = None, *, mask: mx.array | None = None
    ) -> tuple[mx.array, MemoryState]:
        """Absorb and read a sequence of any float vectors: embeddings, features, time series.

        Args:
            x: (B, T, dim) float, T >= 1.
            state: where to continue; None: at birth. Left unchanged.
            mask: (B, T) bool, False for tokens that count for nothing; None: all count.

        Returns:
            y (B, T, dim) in x's dtype, zero where masked, and the state after the last token.

        Raises:
            ValueError: if x, mask or state has the wrong shape or dtype, or x has a NaN or infinity
                (not looked for inside ``mx.compile``, where values cannot be seen).
        """
        check_sequence("x", x, self.dim)
        check_finite("x", x)
        if state is not None:
            self.check_state(state, x.shape[0])
        if mask is None:
            return self.mix(x, state)
        check_rank("mask", mask, 2, "(B, T)")
        if mask.shape != x.shape[:2] or mask.dtype != mx.bool_:
            raise ValueError(f"mask must be bool of shape {x.shape[:2]}, got {mask.dtype} of shape {mask.shape}")
        order = mx.argsort(mx.where(mask, 0, x.shape[1]) + mx.arange(x.shape[1]), axis=1)
        packed = mx.take_along_axis(x, order[:, :, None], axis=1)
        reads, state = self.absorb(packed, state, lengths=mask.sum(-1).astype(mx.int32))
        reads = mx.take_along_axis(reads, mx.argsort(order, axis=1)[:, :, None], axis=1)
        return mx.where(mask[:, :, None], self._out(x, reads), 0), state

    def read(self, x: mx.array, state: MemoryState) -> mx.array:
        """Retrieve without writing (``M*``, eq. 15): x (B, T, dim) -> (B, T, dim), all at the state's weights.

        Raises:
            ValueError: as for a call.
        """
        check_sequence("x", x, self.dim)
        check_finite("x", x)
        self.check_state(state, x.shape[0])
        q, _ = self.query(x, state.tails[0] if state.tails else None)
        return self._out(x, self.retrieve(q, state.weights))

    def mix(
        self, x: mx.array, state: MemoryState | None = None, observe: Observer | None = None
    ) -> tuple[mx.array, MemoryState]:
        """As a call, without its checks: for blocks, whose inputs were checked at the model's edge."""
        return self._in_spans(self._mix, x, state, None, observe)

    def absorb(
        self,
        x: mx.array,
        state: MemoryState | None = None,
        *,
        lengths: mx.array | None = None,
        observe: Observer | None = None,
    ) -> tuple[mx.array, MemoryState]:
        """As a call, without its checks and without the read-out: reads are (B, T, dim) float32.

        ``lengths`` (B,) int: row r absorbs its first ``lengths[r]`` tokens only. ``observe`` is shown the state before
        and what is absorbed.
        """
        return self._in_spans(self._absorb, x, state, lengths, observe)

    def _in_spans(
        self,
        function: Callable[..., tuple[mx.array, MemoryState]],
        x: mx.array,
        state: MemoryState | None,
        lengths: mx.array | None,
        observe: Observer | None,
    ) -> tuple[mx.array, MemoryState]:
        """``function(x, state, lengths, observe)``, in spans of ``config.recompute`` chunks where asked for."""
        state = state if state is not None else self.init_state(x.shape[0])
        alike = lengths is None and isinstance(state.position, int)
        if not (self.config.recompute and alike and observe is None and x.shape[1] > 1):
            return function(x, state, lengths, observe)

        span = self.config.recompute * self.config.chunk_size
        first = span - state.position % span
        pieces = []
        for piece in split(x, list(range(first, x.shape[1], span)), axis=1):
            y, state = recomputed(self, lambda x, state: function(x, state, None, None), piece, state)
            pieces.append(y)
        return mx.concatenate(pieces, axis=1), state

    def _mix(
        self, x: mx.array, state: MemoryState, lengths: mx.array | None, observe: Observer | None
    ) -> tuple[mx.array, MemoryState]:
        reads, state = self._absorb(x, state, lengths, observe)
        return self._out(x, reads), state

    def _absorb(
        self,
        x: mx.array,
        state: MemoryState,
        lengths: mx.array | None,
        observe: Observer | None,
        changed: bool = True,
    ) -> tuple[mx.array, MemoryState]:
        inputs, tails = self.project(x, state.tails, lengths, changed)
        if observe is not None:
            observe(self, state, inputs)
        state = state._replace(tails=tails)
        unlike = lengths is not None or not isinstance(state.position, int)
        if unlike:
            lengths = mx.full((x.shape[0],), x.shape[1], dtype=mx.int32) if lengths is None else lengths
            real = mx.arange(x.shape[1])[None, :] < lengths[:, None]
            inputs = inputs._replace(gates=mask_gates(inputs.gates, real[:, None, None, :]))
            state = state._replace(position=positions(state, x.shape[0]))
        reads, state = self.run(state, *inputs, lengths if unlike else None)
        return self._merge(reads), state

    def run(
        self, state: MemoryState, q: mx.array, k: mx.array, v: mx.array, gates: Gates, lengths: mx.array | None = None
    ) -> tuple[mx.array, MemoryState]:
        """Absorb and read what is already projected: q, k, v and gates as :class:`Inputs` has them.

        Returns:
            Reads (B, H, T, d) float32 and the state after. With ``lengths`` (B,), where rows have positions or numbers
            of tokens of their own, gates must be masked and ``state.position`` be an array.
        """
        if not self.config.reset_every:
            return self._fast_form(state, q, k, v, gates, lengths)
        born, streams = self.init_state(q.shape[0]), (q, k, v)
        if lengths is None:
            return in_periods(self.config, self._fast_form, born, state, streams, gates)
        return in_periods_by_row(self.config, self._fast_form, born, state, streams, gates, lengths)

    def _fast_form(
        self, state: MemoryState, q: mx.array, k: mx.array, v: mx.array, gates: Gates, lengths: mx.array | None = None
    ) -> tuple[mx.array, MemoryState]:
        """Reads (B, H, T, d) and the state after, without resets; ``lengths`` where rows are unlike."""
        if self.config.update == "online":
            return online(self.config, state, q, k, v, gates, lengths, self.birth)
        if lengths is not None:
            return chunked_slots(self.config, state, q, k, v, gates, self.norm, lengths, self.birth)
        return chunked(self.config, state, q, k, v, gates, self.norm, self.birth)

    def retrieve(self, q: mx.array, weights: tuple[mx.array, ...]) -> mx.array:
        """``f(W; q)`` of queries (B, H, T, d), heads merged: (B, T, dim) float32; ``weights`` as a state holds them."""
        linear = structure.with_weights(retention.weights(self.config, weights))
        reads, _ = structure.forward(self.config, linear, q, self.norm)
        return self._merge(reads)

    @property
    def birth(self) -> tuple[mx.array, ...] | None:
        """``W_0`` of each memory layer, (1, H, d_out, d_in) float32, if weights fade to it; None if they fade to 0."""
        if self.config.decay_to == "zero":
            return None
        return tuple(w[None].astype(mx.float32) for w in self.initial_weights)

    @property
    def norm(self) -> Norm | None:
        """The slow LayerNorm parameters of the memory's output, or None."""
        if not self.config.norm:
            return None
        return Norm(self.norm_gain.astype(mx.float32), self.norm_bias.astype(mx.float32))

    def check_state(self, state: MemoryState, batch_size: int, name: str = "state") -> None:
        """Raise a ValueError unless ``state`` is of this configuration and batch size."""
        check_state(name, state, self.init_state(1), batch_size)

    def _out(self, x: mx.array, reads: mx.array) -> mx.array:
        return (self.readout(x, reads) if "readout" in self else reads).astype(x.dtype)

    def _merge(self, reads: mx.array) -> mx.array:
        """Heads side by side, (B, T, dim), in float32: a norm comes before any smaller dtype could overflow."""
        return reads.swapaxes(1, 2).reshape(reads.shape[0], reads.shape[2], self.dim)
