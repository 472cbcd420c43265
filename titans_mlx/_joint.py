"""Layers that read the same input, run as one: a kernel where there were several."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn


def linears(x: mx.array, layers: Sequence[nn.Module]) -> mx.array:
    """What linear layers make of x (..., d_in), side by side: (..., sum of d_out).

    Plain ones as one product; others (quantised, LoRA) one by one.
    """
    if any(type(layer) is not nn.Linear for layer in layers):
        return mx.concatenate([layer(x) for layer in layers], axis=-1)
    weight = mx.concatenate([layer.weight for layer in layers])
    if "bias" not in layers[0]:
        return x @ weight.T
    return mx.addmm(mx.concatenate([layer.bias for layer in layers]), x, weight.T)
