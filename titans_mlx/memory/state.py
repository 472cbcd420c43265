"""The memory's state: a value that goes in and comes out, and never changes in between."""

from typing import NamedTuple

import mlx.core as mx
from mlx.utils import tree_map

from titans_mlx._check import check_count, check_index, check_rank, check_type, is_traced


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
        recent: of the last ``omega - 1`` tokens keys (B, H, omega - 1, d_in), as wide as the first layer's inputs,
            values (..., d) and shares (..., 1), which are 0 where there was none; or ().
    """

    weights: tuple[mx.array, ...]
    momentum: tuple[mx.array, ...] | None
    anchor: tuple[mx.array, ...] | None
    position: int | mx.array
    tails: tuple[mx.array, ...]
    recent: tuple[mx.array, ...] = ()

    @property
    def batch_size(self) -> int:
        """Number of rows B."""
        return self.weights[0].shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes held; independent of how many tokens were absorbed."""
        arrays = (*self.weights, *(self.momentum or ()), *(self.anchor or ()), *self.tails, *self.recent)
        return sum(array.nbytes for array in arrays)

    def detach(self) -> "MemoryState":
        """The same state cut off from the outer gradient, every field of it together (truncated back-propagation)."""
        return _map(mx.stop_gradient, self)

    def rows(self, index: mx.array | list[int]) -> "MemoryState":
        """The state of some rows, in the order of ``index`` (R,) int.

        Raises:
            ValueError: if an index is not in ``[0, B)`` (not looked for inside ``mx.compile``).
        """
        index = mx.array(index, dtype=mx.int32) if isinstance(index, list) and not index else mx.array(index)
        check_rank("index", index, 1, "(R,)")
        check_index("index", index, self.batch_size)
        return _map(lambda array: mx.take(array, index, axis=0), self)

    def repeat(self, batch_size: int) -> "MemoryState":
        """A one-row state shared by ``batch_size`` rows.

        Raises:
            ValueError: if ``batch_size`` is below 1, or the state has another number of rows.
        """
        check_count("batch_size", batch_size)
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
        recent=pick_all(chosen.recent, other.recent),
    )


def positions(state: MemoryState, batch_size: int) -> mx.array:
    """The position of every row, (B,) int32."""
    if isinstance(state.position, int):
        return mx.full((batch_size,), state.position, dtype=mx.int32)
    return state.position


def check_state(name: str, state: MemoryState, born: MemoryState, batch_size: int) -> None:
    """Raise a ValueError unless ``state`` has ``batch_size`` rows like the one of ``born``, and positions >= 0."""
    check_type(name, state, MemoryState)
    wanted, given = _layout(born), _layout(state)
    if wanted != given:
        raise ValueError(f"{name} must come from this configuration: per row {wanted}, got {given}")
    fields = (state.weights, state.momentum, state.anchor, state.tails, state.recent)
    arrays = [array for field in fields for array in field or ()]
    for array in arrays:
        if array.shape[0] != batch_size:
            raise ValueError(f"{name} must have the batch size of the input, {batch_size}, got {array.shape[0]}")
    _check_position(f"{name}.position", state.position, batch_size)


def _check_position(name: str, position: int | mx.array, batch_size: int) -> None:
    allowed = f"{name} must be an int >= 0 or integers >= 0 of shape ({batch_size},)"
    if isinstance(position, mx.array):
        if position.shape != (batch_size,) or not mx.issubdtype(position.dtype, mx.integer):
            raise ValueError(f"{allowed}, got {position.dtype} of shape {position.shape}")
        lowest = position.min()
        if not is_traced(lowest) and lowest.item() < 0:
            raise ValueError(f"{allowed}, got {position.tolist()}")
    elif not isinstance(position, int) or isinstance(position, bool) or position < 0:
        raise ValueError(f"{allowed}, got {position!r}")


def _layout(state: MemoryState) -> dict[str, list[str] | None]:
    """Dtype and shape per row of every field but the position; a tail has the dtype of what was read."""

    def described(array: object, tail: bool) -> str:
        if not isinstance(array, mx.array):
            return type(array).__name__
        return f"{array.shape[1:]}" if tail else f"{array.dtype} {array.shape[1:]}"

    return {
        name: None if (arrays := getattr(state, name)) is None else [described(a, name == "tails") for a in arrays]
        for name in ("weights", "momentum", "anchor", "tails", "recent")
    }
