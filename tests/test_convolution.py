"""The short causal convolution: its definition, its births, its hand-written gradient."""

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx.convolution import ShortConv, qkv_convolutions


def by_definition(weight: mx.array, x: mx.array) -> mx.array:
    """``y_t = sum_j w_j x_{t-j}`` with nothing before the first token."""
    size, length = weight.shape[0], x.shape[1]
    past = mx.pad(x, [(0, 0), (size - 1, 0), (0, 0)])
    return sum(weight[lag] * past[:, size - 1 - lag : size - 1 - lag + length] for lag in range(size))


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 3, 9])
def test_equals_its_definition_with_gradients(size: int, length: int) -> None:
    conv, x = ShortConv(6, size, "uniform"), mx.random.normal((2, length, 6))
    probe = mx.random.normal((2, length, 6))

    def ours(weight: mx.array, x: mx.array) -> mx.array:
        conv.weight = weight
        return (conv(x, conv.birth_tail(2))[0] ** 2 * probe).sum()

    def theirs(weight: mx.array, x: mx.array) -> mx.array:
        return (by_definition(weight, x) ** 2 * probe).sum()

    weight = conv.weight
    (value, gradients), (expected, wanted) = (mx.value_and_grad(f, argnums=(0, 1))(weight, x) for f in (ours, theirs))
    assert mx.allclose(value, expected, rtol=1e-5)
    for given, exact in zip(gradients, wanted, strict=True):
        assert mx.allclose(given, exact, rtol=1e-4, atol=1e-5)


def test_the_tail_carries_on() -> None:
    conv, x = ShortConv(5, 4, "uniform"), mx.random.normal((2, 11, 5))
    whole, last = conv(x, conv.birth_tail(2))
    tail, pieces = conv.birth_tail(2), []
    for start, stop in ((0, 1), (1, 3), (3, 4), (4, 11)):
        y, tail = conv(x[:, start:stop], tail)
        pieces.append(y)
    assert mx.allclose(mx.concatenate(pieces, axis=1), whole, atol=1e-6)
    assert mx.array_equal(tail, last)


def test_the_tail_ends_at_the_last_real_token() -> None:
    conv, x = ShortConv(3, 4, "uniform"), mx.random.normal((3, 6, 3))
    lengths = mx.array([6, 2, 0])
    _, tails = conv(x, conv.birth_tail(3), lengths)
    for row, length in enumerate([6, 2, 0]):
        past = np.concatenate([np.zeros((3, 3)), np.array(x[row, :length])])
        assert np.allclose(np.array(tails[row]), past[-3:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 4, "random"), r"birth must be one of \['uniform', 'identity', 'lag'\], got 'random'"),
        ((8, 0, "uniform"), "size must be an integer >= 1, got 0"),
        ((0, 4, "uniform"), "dim must be an integer >= 1, got 0"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[int, int, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShortConv(*arguments)


def test_births() -> None:
    """Where the largest tap lies says which token a stream is born at."""
    q, k, v = (np.abs(np.array(conv.weight)).mean(axis=1) for conv in qkv_convolutions(64, 4, "shift"))
    assert [int(taps.argmax()) for taps in (q, k, v)] == [0, 1, 0]
    assert k[0] == pytest.approx(0.1, abs=0.03)
    for conv in qkv_convolutions(64, 4, "uniform"):
        assert np.abs(np.array(conv.weight)).max() <= 0.5


@pytest.mark.parametrize(("taps", "inputs"), [(mx.bfloat16, mx.float32), (mx.float32, mx.bfloat16)])
def test_gradients_have_the_dtypes_of_what_they_belong_to(taps: mx.Dtype, inputs: mx.Dtype) -> None:
    conv, x = ShortConv(4, 3, "uniform"), mx.random.normal((1, 5, 4)).astype(inputs)
    conv.set_dtype(taps)

    def loss(weight: mx.array, x: mx.array) -> mx.array:
        conv.weight = weight
        return conv(x, conv.birth_tail(1))[0].astype(mx.float32).square().sum()

    of_taps, of_inputs = mx.grad(loss, argnums=(0, 1))(conv.weight, x)
    assert (of_taps.dtype, of_inputs.dtype) == (taps, inputs)


@pytest.mark.parametrize(
    ("size", "birth", "message"),
    [(4, "random", "conv_birth must be one of"), (1, "shift", "conv_size must be 0 or >= 2")],
)
def test_births_that_do_not_exist_are_refused(size: int, birth: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}.*got"):
        qkv_convolutions(8, size, birth)
