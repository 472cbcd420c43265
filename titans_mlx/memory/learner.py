"""Choice 4, the learner: gradient step, momentum and decay as coefficients over a chunk.

Inside a chunk that starts from ``W`` and ``S``, with ``u_i`` the gradient of token i (paper eq. 16 and 18, momentum
and decay together, which the paper leaves out):

    W_t = a_t W + c_t S - sum_{i<=t} C[t, i] theta_i u_i        S_b = e_b S - sum_i E[b, i] theta_i u_i
    D[t, s] = prod_{s<j<=t} (1 - alpha_j)    E[s, i] = prod_{i<j<=s} eta_j    C = D diag(m) E
    a_t = D-product from the start           e_s = E-product from the start   c = D (m e)

``m`` is 0 on masked slots: there ``W`` receives no momentum, alpha and theta are 0 and eta is 1.
"""

from typing import NamedTuple, TypeVar

import mlx.core as mx

from titans_mlx._split import split
from titans_mlx.config import MemoryConfig
from titans_mlx.memory.retention import log_keep, pairwise_products, prefix_products

Fields = TypeVar("Fields", bound=tuple)


class Gates(NamedTuple):
    """The memory's gates per token, head and memory layer, each (B, H, L, T) float32.

    Attributes:
        log_keep: ``log(1 - alpha)``, or None without decay.
        log_momentum: ``log(eta)``, or None without momentum.
        step: ``theta``.
    """

    log_keep: mx.array | None
    log_momentum: mx.array | None
    step: mx.array

    def pieces(self, cuts: list[int]) -> "list[Gates]":
        """The gates cut along the tokens, before each index in ``cuts``."""
        return _together([split(g, cuts, axis=-1) for g in self if g is not None], self)

    def grid(self, count: int) -> "Gates":
        """Tokens laid out as ``count`` chunks of equal length, (B, H, L, count, b)."""
        return Gates(*[None if g is None else g.reshape(*g.shape[:-1], count, -1) for g in self])


class Coefficients(NamedTuple):
    """How a chunk of b slots combines old weights, momentum and writes; leading axes are free.

    Those with "last" are what the weights and momentum at the chunk's end are made of.

    Attributes:
        step: ``theta`` (..., b, 1).
        keep: ``1 - alpha`` (..., b, 1), for an error measured after decay; None without decay.
        writes: ``C`` (..., b, b).
        weights: ``a`` (..., b, 1).
        momentum: ``c`` (..., b, 1), or None without momentum.
        last_writes: ``C[b]`` (..., b, 1).
        last_weights: ``a_b`` (..., 1, 1).
        last_momentum: ``c_b`` (..., 1, 1), or None.
        momentum_writes: ``E[b]`` (..., b, 1), or None.
        momentum_keep: ``e_b`` (..., 1, 1), or None.
    """

    step: mx.array
    keep: mx.array | None
    writes: mx.array
    weights: mx.array
    momentum: mx.array | None
    last_writes: mx.array
    last_weights: mx.array
    last_momentum: mx.array | None
    momentum_writes: mx.array | None
    momentum_keep: mx.array | None

    def unstack(self, axis: int) -> "list[Coefficients]":
        """One set per index of a leading axis (memory layers or chunks)."""
        return unstack_fields(self, axis)


def unstack_fields(fields: Fields, axis: int) -> list[Fields]:
    """A named tuple per index of one axis that all its arrays share.

    By a single split each: indexing one by one would cost a full-size gradient for every index.
    """
    columns = [[x.squeeze(axis) for x in split(f, f.shape[axis], axis=axis)] for f in fields if f is not None]
    return _together(columns, fields)


def _together(columns: list[list[mx.array]], like: Fields) -> list[Fields]:
    """Rows of a table of fields as named tuples like ``like``, whose None fields stay None."""
    rows = []
    for values in zip(*columns, strict=True):
        rest = iter(values)
        rows.append(type(like)(*[None if field is None else next(rest) for field in like]))
    return rows


def make_gates(
    config: MemoryConfig,
    decay: mx.array | None,
    momentum: mx.array | None,
    step: mx.array | None,
    shape: tuple[int, int, int, int],
) -> Gates:
    """Gates from logits of ``shape`` (B, H, L, T); None where the configuration has no such gate.

    ``alpha = sigmoid``, ``eta = sigmoid``, ``theta = max_step * sigmoid``, optionally times ``1 - eta``.
    """
    theta = mx.full(shape, config.max_step) if step is None else config.max_step * mx.sigmoid(step)
    if config.normalized_step:
        theta = theta * mx.sigmoid(-momentum)
    return Gates(
        log_keep=None if decay is None else log_keep(decay),
        log_momentum=None if momentum is None else log_keep(-momentum),
        step=theta,
    )


def mask_gates(gates: Gates, real: mx.array) -> Gates:
    """Gates with ``theta = 0, alpha = 0, eta = 1`` where ``real`` (B, 1, 1, T) is false."""
    log_keep, log_momentum, step = (None if gate is None else mx.where(real, gate, 0) for gate in gates)
    return Gates(log_keep, log_momentum, step)


def coefficients(gates: Gates, real: mx.array | None = None) -> Coefficients:
    """The chunk's coefficients from gates (..., b) and, where slots are masked, ``real`` (..., b) bool."""
    size = gates.step.shape[-1]
    if gates.log_keep is None:
        fade = mx.broadcast_to(mx.tri(size, size, dtype=gates.step.dtype), (*gates.step.shape, size))
        weights, keep = mx.ones_like(gates.step), None
    else:
        fade, weights = pairwise_products(gates.log_keep), prefix_products(gates.log_keep)
        keep = mx.exp(gates.log_keep)[..., None]
    if gates.log_momentum is None:
        writes, momentum, momentum_writes, momentum_keep = fade, None, None, None
    else:
        carry, start = pairwise_products(gates.log_momentum), prefix_products(gates.log_momentum)
        received = fade if real is None else fade * real[..., None, :]
        writes, momentum = received @ carry, received @ start[..., None]
        momentum_writes, momentum_keep = carry[..., -1, :, None], start[..., -1:, None]
    return Coefficients(
        step=gates.step[..., None],
        keep=keep,
        writes=writes,
        weights=weights[..., None],
        momentum=momentum,
        last_writes=writes[..., -1, :, None],
        last_weights=weights[..., -1:, None],
        last_momentum=None if momentum is None else momentum[..., -1:, :],
        momentum_writes=momentum_writes,
        momentum_keep=momentum_keep,
    )


def bounded_step(config: MemoryConfig, step: mx.array, delta: mx.array, inputs: mx.array) -> mx.array:
    """``theta`` scaled so that no write exceeds the bound: ``|delta x^T|_F = |delta| |x|``.

    Shapes: step (..., T, 1); delta (..., T, d_out); inputs (..., T, d_in).
    """
    if config.write_bound is None:
        return step
    bound = config.write_bound**2
    size = (delta * delta).sum(-1, keepdims=True) * (inputs * inputs).sum(-1, keepdims=True)
    return step * config.write_bound * mx.rsqrt(mx.maximum(size, bound))
