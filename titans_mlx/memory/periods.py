"""A memory that begins anew every ``reset_every`` tokens (the local memories of TNT).

Before a token at a multiple of the period, but for the very first, weights, momentum, anchor and recent tokens are
those at birth; position and convolution tails go on. Whole periods know nothing of one another, and a call runs them
side by side, as rows.
"""

from collections.abc import Callable
from itertools import pairwise

import mlx.core as mx
from mlx.utils import tree_map

from titans_mlx._split import joined
from titans_mlx.config import MemoryConfig
from titans_mlx.memory.learner import Gates, mask_gates
from titans_mlx.memory.state import MemoryState, positions, where_rows

Form = Callable[..., tuple[mx.array, MemoryState]]
"""``form(state, q, k, v, gates)``, and with ``lengths`` behind them where rows are unlike."""


def in_periods(
    config: MemoryConfig, form: Form, born: MemoryState, state: MemoryState, inputs: tuple[mx.array, ...], gates: Gates
) -> tuple[mx.array, MemoryState]:
    """Reads and the state after, all rows at the same position.

    Args:
        config: with ``reset_every`` above 0.
        form: absorbs and reads, without resets.
        born: the state at birth of the rows of ``state``.
        state: where to start.
        inputs: q, k and v, (B, H, T, d).
        gates: (B, H, L, T) each.
    """
    length, period, position = inputs[0].shape[2], config.reset_every, state.position
    head = min(length, -position % period)
    whole = (length - head) // period
    bounds = [0, head, head + whole * period, length]
    reads = []
    for part, (start, stop) in enumerate(pairwise(bounds)):
        if start == stop:
            continue
        piece = tuple(x[:, :, start:stop] for x in inputs)
        own = Gates(*[None if gate is None else gate[..., start:stop] for gate in gates])
        if part and position + start > 0:
            state = begin_anew(state, born)
        if part == 1 and whole > 1:
            read, state = _side_by_side(form, state, born, piece, own, whole)
        else:
            read, state = form(state, *piece, own)
        reads.append(read)
    return joined(reads, 2), state


def in_periods_by_row(
    config: MemoryConfig,
    form: Form,
    born: MemoryState,
    state: MemoryState,
    inputs: tuple[mx.array, ...],
    gates: Gates,
    lengths: mx.array,
) -> tuple[mx.array, MemoryState]:
    """As :func:`in_periods` for rows of unlike position or length: as many rounds as a row can meet periods."""
    length, period = inputs[0].shape[2], config.reset_every
    done, reads = mx.zeros_like(lengths), mx.zeros(inputs[2].shape, dtype=mx.float32)
    width = min(length, period)
    for _ in range(-(-(length - 1) // period) + 1):
        left = lengths - done
        state = renewed(config, state, born, left > 0)
        taken = mx.minimum(left, period - state.position % period)
        index = mx.clip(done[:, None] + mx.arange(width)[None], 0, length - 1)[:, None, :, None]
        piece = [mx.take_along_axis(x, index, axis=2) for x in inputs]
        own = [None if g is None else mx.take_along_axis(g, index.swapaxes(2, 3), axis=3) for g in gates]
        real = mx.arange(width)[None] < taken[:, None]
        read, state = form(state, *piece, mask_gates(Gates(*own), real[:, None, None]), taken)
        back = mx.arange(length)[None] - done[:, None]
        here = (back >= 0) & (back < taken[:, None])
        moved = mx.take_along_axis(read, mx.clip(back, 0, width - 1)[:, None, :, None], axis=2)
        reads = mx.where(here[:, None, :, None], moved, reads)
        done = done + taken
    return reads, state


def renewed(config: MemoryConfig, state: MemoryState, born: MemoryState, rows: mx.array) -> MemoryState:
    """``state``, reset in those of ``rows`` (B,) bool whose next token begins a period, but for the very first."""
    position = positions(state, state.batch_size)
    due = (position % config.reset_every == 0) & (position > 0) & rows
    return where_rows(due, begin_anew(state, born), state)


def begin_anew(state: MemoryState, born: MemoryState) -> MemoryState:
    """What a reset makes of a state."""
    return born._replace(position=state.position, tails=state.tails)


def _repeated(state: MemoryState, count: int) -> MemoryState:
    """Every row ``count`` times."""
    return tree_map(lambda leaf: mx.repeat(leaf, count, axis=0) if isinstance(leaf, mx.array) else leaf, state)


def _side_by_side(
    form: Form, state: MemoryState, born: MemoryState, inputs: tuple[mx.array, ...], gates: Gates, count: int
) -> tuple[mx.array, MemoryState]:
    """``count`` periods of equal length as rows of their own, the first from ``state``; the state is the last one's."""
    batch, length = inputs[0].shape[0], inputs[0].shape[2]

    def apart(x: mx.array, axis: int) -> mx.array:
        x = mx.moveaxis(mx.unflatten(x, axis, (count, -1)), axis, 1)
        return x.flatten(0, 1)

    first = mx.arange(batch * count) % count == 0
    begun, anew = (_repeated(kept._replace(position=0, tails=()), count) for kept in (state, born))
    many = where_rows(first, begun, anew)._replace(position=0)
    own = Gates(*[None if gate is None else apart(gate, 3) for gate in gates])
    reads, after = form(many, *(apart(x, 2) for x in inputs), own)
    reads = mx.moveaxis(mx.unflatten(reads, 0, (batch, count)), 1, 2).flatten(2, 3)
    last = after.rows(mx.arange(count - 1, batch * count, count))
    return reads, last._replace(position=state.position + length, tails=state.tails)
