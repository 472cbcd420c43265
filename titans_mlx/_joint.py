"""Layers that read the same input, run as one: a kernel where there were several."""

from collections.abc import Sequence
from math import prod

import mlx.core as mx
import mlx.nn as nn

MANY = 32
"""Tokens from which on one product pays: with fewer, putting the weights together costs more than it saves."""


def linears(x: mx.array, layers: Sequence[nn.Module]) -> mx.array:
    """What linear layers make of x (..., d_in), side by side: (..., sum of d_out).

    Plain ones as one product over many tokens; others (quantised, LoRA) one by one.
    """
    alike = all(type(layer) is nn.Linear and ("bias" in layer) == ("bias" in layers[0]) for layer in layers)
    if len(layers) == 1 or not alike or prod(x.shape[:-1]) < MANY:
        return mx.concatenate([layer(x) for layer in layers], axis=-1)
    weight = mx.concatenate([layer.weight for layer in layers])
    if "bias" not in layers[0]:
        return x @ weight.T
    return mx.addmm(mx.concatenate([layer.bias for layer in layers]), x, weight.T)
