"""Gradients that compute a function's inner values anew instead of keeping them: less memory, a second forward pass."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._trees import fill, take


def recomputed(module: nn.Module, function: Callable[..., Any], *trees: Any) -> Any:
    """``function(*trees)``, which may use the parameters of ``module``; trees are float arrays in any nesting.

    Every other array that ``function`` uses is a constant to the gradient. It must draw nothing at random: the second
    pass would draw again. Unlike in ``mx.checkpoint``, that pass waits for the gradient that comes in: in a chain of
    calls, one at a time holds its inner values.
    """
    layout, arrays = take((module.trainable_parameters(), trees))
    result: list[Any] = []

    def flat(*arrays: mx.array) -> list[mx.array]:
        parameters, given = fill(layout, arrays)
        own = module.parameters()
        module.update(parameters)
        try:
            result[:], outputs = take([function(*given)])
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
    return fill(result[0], outputs)
