"""The memory's state: a value that goes in and comes out, and never changes in between."""

from typing import NamedTuple

import mlx.core as mx
from mlx.utils import tree_map

from titans_mlx._check import check_index


class MemoryState(NamedTuple):
    """Everything a memory carries from one token to the next.

    Shapes: B rows, H heads, L memory layers, layer l maps ``d_in`` to ``d_out``. Weights are float32.

    Attributes:
        weights: L arrays (B, H, d_out, d_in), the current ``W_t`` (eq. 13).
        momentum: L arrays like ``weights``, ``S_t`` (eq. 14), or None when momentum is off.
        anchor: L arrays like ``weights``, where gradients are taken (``M_t'`` of eq. 16), or None when online.
            It is meaningless at a chunk boundary, where the next token replaces it. In a memory of another
            ``chunk_size`` it serves until that memory's next boundary.
        position: tokens absorbed since birth; an int when all rows agree, else (B,) int32.
        tails: last ``conv_size - 1`` inputs of the q, k and v convolutions, each (B, conv_size - 1, dim); or ().
    """

    weights: tuple[mx.array, ...]
    momentum: tuple[mx.array, ...] | None
    anchor: tuple[mx.array, ...] | None
    position: int | mx.array
    tails: tuple[mx.array, ...]

    @property
    def batch_size(self) -> int:
        """Number of rows B."""
        return self.weights[0].shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes held; independent of how many tokens were absorbed."""
        arrays = (*self.weights, *(self.momentum or ()), *(self.anchor or ()), *self.tails)
        return sum(array.nbytes for array in arrays)

    def detach(self) -> "MemoryState":
        """The same state cut off from the outer gradient, every field of it together (truncated back-propagation)."""
        return _map(mx.stop_gradient, self)

    def rows(self, index: mx.array | list[int]) -> "MemoryState":
        """The state of some rows, in the order of ``index`` (R,) int.

        Raises:
            ValueError: if an index is not in ``[0, B)`` (not looked for inside ``mx.compile``).
        """
        index = mx.array(index)
        check_index("index", index, self.batch_size)
        return _map(lambda array: mx.take(array, index, axis=0), self)

    def repeat(self, batch_size: int) -> "MemoryState":
        """A one-row state shared by ``batch_size`` rows."""
        if self.batch_size != 1:
            raise ValueError(f"state must have one row to be repeated, got {self.batch_size}")
        return _map(lambda array: mx.broadcast_to(array, (batch_size, *array.shape[1:])), self)


def _map(function, state: MemoryState) -> MemoryState:
    """Apply to every array; an int position belongs to all rows alike and stays."""
    return tree_map(lambda leaf: function(leaf) if isinstance(leaf, mx.array) else leaf, state)


def where_rows(rows: mx.array, chosen: MemoryState, other: MemoryState) -> MemoryState:
    """Row r of ``chosen`` where ``rows[r]`` is true, else of ``other``; ``rows`` is (B,) bool."""

    def pick(a: mx.array | None, b: mx.array | None) -> mx.array | None:
        return None if a is None or b is None else mx.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    def pick_all(a: tuple | None, b: tuple | None) -> tuple | None:
        return None if a is None or b is None else tuple(pick(x, y) for x, y in zip(a, b, strict=True))

    count = chosen.batch_size
    return MemoryState(
        weights=pick_all(chosen.weights, other.weights),
        momentum=pick_all(chosen.momentum, other.momentum),
        anchor=pick_all(chosen.anchor, other.anchor),
        position=pick(positions(chosen, count), positions(other, count)),
        tails=pick_all(chosen.tails, other.tails),
    )


def positions(state: MemoryState, batch_size: int) -> mx.array:
    """The position of every row, (B,) int32."""
    if isinstance(state.position, int):
        return mx.full((batch_size,), state.position, dtype=mx.int32)
    return state.position
