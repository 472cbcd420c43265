"""Block states as lists of arrays whose shapes do not depend on the position, which is what mlx-lm's caches hold.

What grows with the position (a window, a segment) is padded with zeros to its full width; the position says how much of
it is real. Full attention's keys and values are not here: they have no full width.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import mlx.core as mx

from titans_mlx.attention import AttentionState, SegmentState
from titans_mlx.blocks.mac import MACState
from titans_mlx.blocks.mag import MAGState
from titans_mlx.blocks.mal import MALState
from titans_mlx.config import TitansConfig
from titans_mlx.memory import MemoryState


def pack(config: TitansConfig, state: Any) -> list[mx.array]:
    """The slots of a block's state after at least one token, each with the rows as its first axis."""
    if isinstance(state, MemoryState):
        return _pack_memory(state)
    if isinstance(state, MACState):
        tail = [] if state.query_tail is None else [state.query_tail]
        segment = [widen(array, config.segment_size) for array in state.segment[:-1]]
        return [*_pack_memory(state.memory), *state.before, *tail, *segment]
    if isinstance(state, MAGState | MALState):
        return [*_pack_memory(state.memory), *_pack_window(config, state.attention)]
    if config.variant == "sliding_window":
        return _pack_window(config, state)
    return list(state.tails)


def unpack(
    config: TitansConfig, slots: Sequence[mx.array], position: int, keys_values: tuple[mx.array, mx.array] | None
) -> Any:
    """The inverse of :func:`pack` for rows that have all seen ``position`` >= 1 tokens.

    ``keys_values`` are full attention's, (B, H, position, d); None where there are none.
    """
    left = iter(slots)
    if config.variant == "lmm":
        return _memory(config, left, position)
    if config.variant == "mac":
        memory, before = _memory(config, left, position), _layers(config, left)
        tail = next(left) if config.memory.conv_size else None
        inside = (position - 1) % config.segment_size + 1
        segment = SegmentState(*(array[:, :, :inside] for array in islice(left, 4)), inside)
        return MACState(memory, before, tail, segment, position)
    if config.variant == "mag":
        memory = _memory(config, left, position)
        return MAGState(_window(config, left, position), memory)
    if config.variant == "mal":
        memory = _memory(config, left, position)
        return MALState(memory, _window(config, left, position))
    if config.variant == "sliding_window":
        return _window(config, left, position)
    return AttentionState(*keys_values, position, tuple(left))


def count(config: TitansConfig) -> int:
    """Slots of a block of this configuration."""
    memory, conv = config.memory, 3 if config.attention_conv_size else 0
    of_memory = memory.depth * (1 + (memory.momentum != "none") + (memory.update == "anchored"))
    of_memory += (3 if memory.conv_size else 0) + (3 if memory.omega > 1 else 0)
    return {
        "lmm": of_memory,
        "mac": of_memory + memory.depth + (1 if memory.conv_size else 0) + 4,
        "mag": of_memory + 2 + conv,
        "mal": of_memory + 2 + conv,
        "sliding_window": 2 + conv,
        "transformer": conv,
    }[config.variant]


def _pack_memory(state: MemoryState) -> list[mx.array]:
    return [*state.weights, *(state.momentum or ()), *(state.anchor or ()), *state.tails, *state.recent]


def _memory(config: TitansConfig, slots: Iterator[mx.array], position: int) -> MemoryState:
    memory = config.memory
    return MemoryState(
        weights=_layers(config, slots),
        momentum=None if memory.momentum == "none" else _layers(config, slots),
        anchor=_layers(config, slots) if memory.update == "anchored" else None,
        position=position,
        tails=tuple(islice(slots, 3 if memory.conv_size else 0)),
        recent=tuple(islice(slots, 3 if memory.omega > 1 else 0)),
    )


def _layers(config: TitansConfig, slots: Iterator[mx.array]) -> tuple[mx.array, ...]:
    return tuple(islice(slots, config.memory.depth))


def _pack_window(config: TitansConfig, state: AttentionState) -> list[mx.array]:
    keys, values = (widen(array, config.window_size - 1) for array in (state.keys, state.values))
    return [keys, values, *state.tails]


def _window(config: TitansConfig, slots: Iterator[mx.array], position: int) -> AttentionState:
    held = min(position, config.window_size - 1)
    keys, values = (next(slots)[:, :, :held] for _ in range(2))
    return AttentionState(keys, values, position, tuple(islice(slots, 3 if config.attention_conv_size else 0)))


def widen(array: mx.array, width: int, axis: int = 2) -> mx.array:
    """Zeros up to ``width`` on an axis."""
    if array.shape[axis] == width:
        return array
    return mx.pad(array, [(0, width - array.shape[axis] if at == axis else 0) for at in range(array.ndim)])
