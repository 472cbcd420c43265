"""Row 9: the inner loss on a repeated token falls, a matrix memory's to 0, a deep memory's to its floor."""

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx.memory import NeuralMemory

from .cases import by_fast_form, make_case


def one_pair(tokens, **fields):
    """One key and value in every slot, the key as query too; theta 0.1, eta 0.5, no decay."""
    choices = {"centre": (0.0, 0.0, -1.386), "spread": 0.0, "width": 8, "decay": "none", "dtype": mx.float32}
    case = make_case(tokens=tokens, heads=1, batch=4, **{**choices, **fields})
    k, v = (mx.broadcast_to(x[:, :, :1], x.shape) for x in (case.k, case.v))
    momentum = None if case.state.momentum is None else tuple(0 * m for m in case.state.momentum)
    return case._replace(q=k, k=k, v=v, state=case.state._replace(momentum=momentum))


def losses(case):
    """Loss after each token's own write, (B, T), and before any."""
    reads, _ = by_fast_form(case)
    return np.array(((reads - case.v) ** 2).sum(-1)[:, 0])


def test_matrix_memory_forgets_its_error_monotonically():
    """Each step leaves ``(1 - 2 theta |k|^2)`` of the error."""
    loss = losses(one_pair(64, depth=1, update="online", momentum="none", chunk_size=16))
    assert (np.diff(loss, axis=1)[loss[:, 1:] > 1e-8] < 0).all()
    np.testing.assert_allclose(loss[:, 20] / loss[:, 0], (1 - 2 * 0.1) ** 40, rtol=1e-2)
    assert (loss[:, -1] < 1e-8 * loss[:, 0]).all()


@pytest.mark.parametrize("normalized", [False, True])
def test_matrix_memory_with_momentum_learns_to_nothing(normalized):
    loss = losses(one_pair(128, depth=1, update="online", normalized_step=normalized, chunk_size=16))
    assert (loss[:, -1] < 1e-8 * loss[:, 0]).all()
    assert (loss.max(axis=1) == loss[:, 0]).all()


def test_matrix_memory_anchored_needs_the_bound():
    """Sixteen full steps from one anchor overshoot; a bounded write does not."""
    free = losses(one_pair(256, depth=1, write_bound=None))
    bounded = losses(one_pair(256, depth=1, write_bound=1.0))
    assert not (free[:, -1] < free[:, 0]).any()
    assert (bounded[:, 15::16].max(axis=1) <= bounded[:, 0]).all()


def floor(case, gain):
    """The least loss of ``x + gain LN(.)``: its values lie on a sphere of radius ``gain sqrt(d)``, mean 0."""
    r = np.array(case.v - case.k)[:, 0, 0]
    mean = r.mean(-1, keepdims=True)
    size = r.shape[-1]
    return size * mean[:, 0] ** 2 + (np.linalg.norm(r - mean, axis=-1) - gain * np.sqrt(size)) ** 2


@pytest.mark.parametrize("gain", [1.0, 0.3])
@pytest.mark.parametrize("depth", [2, 3])
def test_deep_memory_falls_to_its_floor_over_chunks(depth, gain):
    case = one_pair(1024, depth=depth, chunk_size=16)
    case = case._replace(norm=case.norm._replace(gain=0 * case.norm.gain + gain, bias=0 * case.norm.bias))
    loss, least = losses(case)[:, 15::16].T, floor(case, gain)
    assert (loss > 0.999 * least).all()
    assert (loss[0] > 1.02 * least).all()
    np.testing.assert_allclose(loss[-1], least, rtol=1e-3)


@pytest.mark.parametrize("fields", [{"depth": 1, "update": "online"}, {"depth": 2}, {"depth": 3}], ids=str)
def test_a_layer_at_birth_learns_a_repeated_token(fields):
    """Default gates and projections, without the convolution so that every key is the same from the start."""
    memory = NeuralMemory(32, 2, conv_size=0, **fields)
    x = mx.broadcast_to(mx.random.normal((3, 1, 32)), (3, 256, 32))
    inputs, _ = memory.project(x[:, :1], ())
    value = inputs.v.swapaxes(1, 2).reshape(3, 1, 32)

    def loss(state):
        return np.array(((memory.retrieve(inputs.k, state.weights) - value) ** 2).sum((1, 2)))

    before = loss(memory.init_state(3))
    middle, after = (loss(memory(x[:, :tokens])[1]) for tokens in (128, 256))
    assert (after < before).all()
    assert (after <= middle * 1.01).all()
    if fields["depth"] == 1:
        assert (after < 1e-3 * before).all()
