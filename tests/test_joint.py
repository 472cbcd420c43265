"""Layers run as one give what each gives."""

import mlx.core as mx
import mlx.nn as nn
import pytest

from titans_mlx._joint import MANY, linears
from titans_mlx.bench import primitives


@pytest.mark.parametrize("tokens", [1, MANY])
@pytest.mark.parametrize("biases", [(False, False), (True, True), (False, True), (True, False)])
def test_side_by_side(biases: tuple[bool, bool], tokens: int) -> None:
    layers = [nn.Linear(6, width, bias=bias) for width, bias in zip((4, 5), biases, strict=True)]
    x = mx.random.normal((1, tokens, 6))
    expected = mx.concatenate([layer(x) for layer in layers], axis=-1)
    assert mx.allclose(linears(x, layers), expected, atol=1e-6)
    products = primitives(linears(x, layers))
    assert products["Matmul"] + products["AddMM"] == (1 if tokens == MANY and biases[0] == biases[1] else 2)


def test_other_layers_keep_what_is_their_own() -> None:
    layers = [nn.Linear(64, 4, bias=False), nn.QuantizedLinear.from_linear(nn.Linear(64, 32, bias=False))]
    x = mx.random.normal((1, MANY, 64))
    assert mx.array_equal(linears(x, layers), mx.concatenate([layer(x) for layer in layers], axis=-1))
