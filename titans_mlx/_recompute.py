"""Gradients that compute a function's inner values anew instead of keeping them: less memory, a second forward pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map


@dataclass(frozen=True)
class _Place:
    """Where an array stood in a tree."""

    index: int


def recomputed(module: nn.Module, function: Callable[..., Any], *trees: Any) -> Any:
    """``function(*trees)``, which may use the parameters of ``module``; trees are arrays in any nesting.

    Every other array that ``function`` uses is a constant to the gradient. Unlike in ``mx.checkpoint``, the second
    forward pass waits for the gradient that comes in: in a chain of calls, one at a time holds its inner values.
    """
    layout, arrays = _take((module.parameters(), trees))
    result: list[Any] = []

    def flat(*arrays: mx.array) -> list[mx.array]:
        parameters, given = _fill(layout, arrays)
        own = module.parameters()
        module.update(parameters)
        try:
            result[:], outputs = _take([function(*given)])
        finally:
            module.update(own)
        return outputs

    outer = mx.custom_function(flat)

    @outer.vjp
    def vjp(primals: list[mx.array], cotangents: list[mx.array], _: list[mx.array]) -> list[mx.array]:
        cotangents = list(cotangents)
        _, gradients = mx.vjp(flat, mx.depends(list(primals), cotangents), cotangents)
        # All or none: a gradient that ran ahead would let the call before begin while this one's values are held.
        return mx.depends(gradients, gradients)

    outputs = outer(*arrays)
    return _fill(result[0], outputs)


def _take(tree: Any) -> tuple[Any, list[mx.array]]:
    """A tree with places in place of its arrays, and the arrays."""
    arrays: list[mx.array] = []

    def place(leaf: Any) -> Any:
        if not isinstance(leaf, mx.array):
            return leaf
        arrays.append(leaf)
        return _Place(len(arrays) - 1)

    return tree_map(place, tree), arrays


def _fill(layout: Any, arrays: list[mx.array] | tuple[mx.array, ...]) -> Any:
    return tree_map(lambda leaf: arrays[leaf.index] if isinstance(leaf, _Place) else leaf, layout)
