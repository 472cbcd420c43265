"""mlx-lm's caches around block states: rows of any positions, prompts cut and padded as mlx-lm does it.

Each layer has an ``ArraysCache``: slot 0 holds the positions of the rows, (B,) int32, the others the state. A layer of
full attention has a ``KVCache`` beside it. Rows at one position run together, others one group after the other: what a
row gives does not depend on who else is in its batch, but for the rounding of products with more rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, BatchKVCache, CacheList, KVCache

from titans_mlx.config import TitansConfig
from titans_mlx.lm import slots

Run = Callable[[mx.array, list[Any]], mx.array]
"""Outputs (B, T, ...) of tokens (B, T); replaces the states in the list."""


class Group(NamedTuple):
    """Rows that run together: at one position, with equally many real tokens in this call."""

    rows: list[int]
    position: int
    real: int
    left: int
    """Columns of padding before a row's keys in a batch of full attention."""


def make_cache(config: TitansConfig) -> list[Any]:
    """An empty cache of mlx-lm's own classes, one entry per layer."""
    size = 1 + slots.count(config)
    if config.variant == "transformer":
        return [CacheList(ArraysCache(size), KVCache()) for _ in range(config.num_layers)]
    return [ArraysCache(size) for _ in range(config.num_layers)]


def is_mlx_lm(cache: Any) -> bool:
    """Whether a cache is one of :func:`make_cache`, or made of one by mlx-lm."""
    return isinstance(cache, list) and bool(cache) and isinstance(cache[0], ArraysCache | CacheList)


def run(config: TitansConfig, cache: list[Any], tokens: mx.array, function: Run, alone: bool = False) -> mx.array:
    """``function`` over tokens (B, T) from where each row of ``cache`` is; the cache then holds what it is after them.

    Rows that mlx-lm has padded on the right absorb their real tokens only; what is returned for padding is zero. With
    ``alone`` every row is a group of its own.
    """
    batch, length = tokens.shape
    groups = _groups(cache[0], batch, length, alone)
    order = [row for group in groups for row in group.rows]
    # Where each row of the batch stands among the groups; None: at its own place.
    back = None if order == sorted(order) else mx.array([order.index(row) for row in range(batch)])
    states = [[_load(config, layer, group, batch) for layer in cache] for group in groups]
    hidden = [
        function(_take(tokens, group, batch)[:, : group.real], held) if group.real else None
        for group, held in zip(groups, states, strict=True)
    ]
    for index, layer in enumerate(cache):
        _store(config, layer, groups, [held[index] for held in states], back, length)
    counts = [len(group.rows) for group in groups]
    return _in_order([None if out is None else slots.widen(out, length, 1) for out in hidden], counts, back)


def _groups(layer: ArraysCache | CacheList, batch: int, length: int, alone: bool) -> list[Group]:
    """The batch by positions, rows with something to read first."""
    arrays = _arrays(layer)
    # An array made from numbers is there already: this waits for nothing but after a merge or a filter.
    at = [0] * batch if arrays.empty() else arrays[0].tolist()
    real = [length] * batch if arrays.lengths is None else [min(max(n, 0), length) for n in arrays.lengths.tolist()]
    batched = isinstance(layer, CacheList) and isinstance(layer[1], BatchKVCache)
    left = layer[1].left_padding.tolist() if batched else [0] * batch
    found: dict[tuple[int, ...], list[int]] = {}
    for row, key in enumerate(zip(at, real, left, strict=True)):
        found.setdefault((*key, row if alone else -1), []).append(row)
    return sorted((Group(rows, *key[:3]) for key, rows in found.items()), key=lambda group: -group.real)


def _load(config: TitansConfig, layer: ArraysCache | CacheList, group: Group, batch: int) -> Any:
    """The state of a group's rows; None at birth."""
    if group.position == 0:
        return None
    keys_values = None
    if config.variant == "transformer":
        place = slice(group.left, group.left + group.position)
        keys_values = tuple(_take(x, group, batch)[:, :, place] for x in (layer[1].keys, layer[1].values))
    held = [_take(slot, group, batch) for slot in _arrays(layer).cache[1:]]
    return slots.unpack(config, held, group.position, keys_values)


def _store(
    config: TitansConfig,
    layer: ArraysCache | CacheList,
    groups: list[Group],
    states: list[Any],
    back: mx.array | None,
    length: int,
) -> None:
    """The groups' new states of one layer into its cache, rows in the order of the batch."""
    counts = [len(group.rows) for group in groups]
    at = [group.position + group.real for group in groups for _ in group.rows]
    arrays = _arrays(layer)
    arrays.cache[0] = mx.array(at if back is None else [at[place] for place in back.tolist()], dtype=mx.int32)
    packed = [None if state is None else slots.pack(config, state) for state in states]
    for index in range(1, len(arrays.cache)):
        arrays.cache[index] = _in_order([held and held[index - 1] for held in packed], counts, back)
    arrays.advance(length)
    if config.variant == "transformer":
        seen = [state if group.real else None for state, group in zip(states, groups, strict=True)]
        new = [
            [
                state and slots.widen(state[which][:, :, group.position :], length)
                for state, group in zip(seen, groups, strict=True)
            ]
            for which in (0, 1)
        ]
        layer[1].update_and_fetch(*(_in_order(parts, counts, back) for parts in new))


def _arrays(layer: ArraysCache | CacheList) -> ArraysCache:
    return layer[0] if isinstance(layer, CacheList) else layer


def _take(array: mx.array, group: Group, batch: int) -> mx.array:
    return array if len(group.rows) == batch else mx.take(array, mx.array(group.rows), axis=0)


def _in_order(parts: list[mx.array | None], counts: list[int], back: mx.array | None) -> mx.array:
    """Groups of rows as one batch; zeros for those that have nothing yet."""
    like = next(part for part in parts if part is not None)
    filled = [
        mx.zeros((count, *like.shape[1:]), like.dtype) if part is None else part
        for part, count in zip(parts, counts, strict=True)
    ]
    whole = filled[0] if len(filled) == 1 else mx.concatenate(filled)
    return whole if back is None else mx.take(whole, back, axis=0)
