"""Trees of arrays as flat lists, for what MLX transforms only in that form."""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map


@dataclass(frozen=True)
class Place:
    """Where an array stood in a tree."""

    index: int


def take(tree: Any) -> tuple[Any, list[mx.array]]:
    """A tree with places in place of its arrays, and the arrays."""
    arrays: list[mx.array] = []

    def place(leaf: Any) -> Any:
        if not isinstance(leaf, mx.array):
            return leaf
        arrays.append(leaf)
        return Place(len(arrays) - 1)

    return tree_map(place, tree), arrays


def fill(layout: Any, arrays: list[mx.array] | tuple[mx.array, ...]) -> Any:
    """The tree that :func:`take` took apart, with these arrays."""
    return tree_map(lambda leaf: arrays[leaf.index] if isinstance(leaf, Place) else leaf, layout)
