"""Row 11: titans-pytorch 0.5.5 as an outside witness, on shared weights and inputs, gradients included.

With ``chunk_size=1, batch_size=1`` it takes each gradient at the weights just before the token, applies momentum and
decay per token, and reads after the write. What differs otherwise: its loss is a mean over channels, so its step is
``d`` times ours; its matrices act from the right; the gain of its LayerNorm is a fast weight, so the residual and the
norm are given to it here as part of the memory model, without gain. Everything in float64.
"""

import warnings

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import MemoryState
from titans_mlx.memory.structure import Norm

from .cases import Case, assert_close, by_definition, by_fast_form

with warnings.catch_warnings():
    # Its dependencies warn on import about parts of torch that they should no longer use.
    warnings.simplefilter("ignore")
    reason = "titans-pytorch is not installed: pip install 'titans-mlx[peers]'"
    torch = pytest.importorskip("torch", reason=reason)
    peer = pytest.importorskip("titans_pytorch", reason=reason)

DIM, BATCH, TOKENS = 8, 2, 9
TOLERANCE = 1e-9

CONFIGS = {
    "matrix, online": {"depth": 1, "update": "online"},
    "matrix": {"depth": 1, "chunk_size": 1, "write_bound": None},
    "two layers": {"depth": 2, "chunk_size": 1, "write_bound": None, "residual": False, "norm": False},
    "two layers, residual and norm": {"depth": 2, "chunk_size": 1, "write_bound": None},
    "three layers, no momentum": {"depth": 3, "chunk_size": 1, "write_bound": None, "momentum": "none"},
}

pytestmark = pytest.mark.usefixtures("float64")


class ResidualNormMLP(peer.MemoryMLP):
    def forward(self, x):
        return x + torch.nn.functional.layer_norm(super().forward(x), x.shape[-1:])


def pair(name):
    """The same memory twice: the peer's module, and a config here."""
    config = MemoryConfig(expansion=2, qk_norm=False, max_step=0.9 / DIM, step_init=0.01, **CONFIGS[name])
    torch.manual_seed(0)
    model = (ResidualNormMLP if config.norm else peer.MemoryMLP)(DIM, config.depth, expansion_factor=2.0)
    module = peer.NeuralMemory(
        dim=DIM,
        chunk_size=1,
        batch_size=1,
        model=model,
        momentum=config.momentum == "learned",
        default_step_transform_max_lr=0.9,
        pre_rmsnorm=False,
        mem_model_norm_add_residual=False,
    ).double()
    return module, config


def shared_parameters(module):
    return {name: parameter for name, parameter in module.named_parameters() if not name.startswith("memory_model.")}


def case_of(config, parameters, x):
    """The peer's parameters and its input as a case for the forms here."""

    def linear(name, bias=True):
        y = x @ parameters[f"{name}.weight"].T
        return y + parameters[f"{name}.bias"] if bias else y

    q, k, v = (linear(name, bias=False)[:, None] for name in ("to_queries", "to_keys", "to_values"))
    gates = {"decay": "to_decay_factor.0", "step": "to_adaptive_step.0"}
    if config.momentum == "learned":
        gates["momentum"] = "to_momentum.0"
    logits = {
        name: mx.broadcast_to(linear(gate).swapaxes(1, 2)[:, :, None], (BATCH, 1, config.depth, TOKENS))
        for name, gate in gates.items()
    }
    initial = (parameters[f"memory_model_parameters.{layer}"] for layer in range(config.depth))
    weights = tuple(mx.broadcast_to(w.swapaxes(1, 2), (BATCH, 1, w.shape[2], w.shape[1])) for w in initial)
    state = MemoryState(
        weights=weights,
        momentum=None if config.momentum == "none" else tuple(mx.zeros_like(w) for w in weights),
        anchor=None if config.update == "online" else weights,
        position=0,
        tails=(),
    )
    one = mx.ones((1, 1, DIM), dtype=mx.float64)
    return Case(config, state, q, k, v, logits, Norm(one, 0 * one) if config.norm else None)


def to_mlx(tensor):
    return mx.array(tensor.detach().numpy(), dtype=mx.float64)


def from_the_right(fast):
    """The peer's fast weights (B, d_in, d_out) in the layout here, (B, 1, d_out, d_in)."""
    return tuple(to_mlx(tensor).swapaxes(-1, -2)[:, None] for tensor in fast.values())


@pytest.mark.parametrize("form", [by_definition, by_fast_form])
@pytest.mark.parametrize("name", CONFIGS)
def test_reads_state_and_gradients_agree(name, form):
    module, config = pair(name)
    x = np.random.default_rng(0).normal(size=(BATCH, TOKENS, DIM))
    reads, after = module(torch.tensor(x))
    weight = np.random.default_rng(1).normal(size=x.shape)
    (reads * torch.tensor(weight)).sum().backward()
    parameters = {path: to_mlx(parameter) for path, parameter in shared_parameters(module).items()}
    x, weight = (mx.array(a, dtype=mx.float64) for a in (x, weight))

    def loss(parameters):
        found, state = form(case_of(config, parameters, x))
        return (found[:, 0] * weight).sum(), (found[:, 0], state)

    (_, (found, state)), gradients = mx.value_and_grad(loss)(parameters)
    assert_close(found, to_mlx(reads), TOLERANCE)
    last_weights, last_momentum = after.states
    assert_close(state.weights, from_the_right(last_weights), TOLERANCE)
    if config.momentum == "learned":
        momentum = from_the_right({path: tensor[0] for path, tensor in last_momentum.items()})
        assert_close(state.momentum, momentum, TOLERANCE)
    expected = {path: to_mlx(parameter.grad) for path, parameter in shared_parameters(module).items()}
    assert_close(gradients, expected, TOLERANCE)


def test_the_witness_disagrees_where_its_loss_is_not_scaled():
    """The comparison is sharp: with its step taken for ours, the two part ways."""
    module, config = pair("two layers")
    x = np.random.default_rng(0).normal(size=(BATCH, TOKENS, DIM))
    parameters = {path: to_mlx(parameter) for path, parameter in shared_parameters(module).items()}
    case = case_of(config.replace(max_step=0.9), parameters, mx.array(x, dtype=mx.float64))
    with pytest.raises(AssertionError):
        assert_close(by_fast_form(case)[0][:, 0], to_mlx(module(torch.tensor(x))[0]), 1e-2)
