"""Choice 4, the learner: gradient step, momentum and decay as coefficients over a chunk.

Inside a chunk that starts from ``W`` and ``S``, with ``u_i`` the gradient of token i (paper eq. 16 and 18, momentum
and decay together, which the paper leaves out):

    W_t = a_t W + c_t S - sum_{i<=t} C[t, i] theta_i u_i        S_b = e_b S - sum_i E[b, i] theta_i u_i
    D[t, s] = prod_{s<j<=t} (1 - alpha_j)    E[s, i] = prod_{i<j<=s} eta_j    C = D diag(m) E
    a_t = D-product from the start           e_s = E-product from the start   c = D (m e)

``m`` is 0 on masked slots: there ``W`` receives no momentum, alpha and theta are 0 and eta is 1.
"""

from typing import NamedTuple

import mlx.core as mx

from titans_mlx.config import MemoryConfig
from titans_mlx.memory.retention import log_keep, pairwise_products, prefix_products


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

    def tokens(self, start: int, stop: int) -> "Gates":
        """The gates of tokens ``start`` to ``stop``."""
        return Gates(*[None if gate is None else gate[..., start:stop] for gate in self])


class Coefficients(NamedTuple):
    """How a chunk of b slots combines old weights, momentum and writes; leading axes are free.

    Attributes:
        writes: ``C`` (..., b, b).
        weights: ``a`` (..., b).
        momentum: ``c`` (..., b), or None without momentum.
        momentum_writes: last row of ``E`` (..., b), or None.
        momentum_keep: ``e_b`` (...), or None.
        step: ``theta`` (..., b).
        keep: ``1 - alpha`` (..., b), for an error measured after decay.
    """

    writes: mx.array
    weights: mx.array
    momentum: mx.array | None
    momentum_writes: mx.array | None
    momentum_keep: mx.array | None
    step: mx.array
    keep: mx.array

    def at(self, *index: int | slice) -> "Coefficients":
        """The coefficients of one memory layer or chunk (index into the leading axes)."""
        return Coefficients(*[None if field is None else field[index] for field in self])


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
        ones = mx.ones_like(gates.step)
        fade = mx.broadcast_to(mx.tri(size, size, dtype=ones.dtype), (*ones.shape, size))
        weights = keep = ones
    else:
        fade = pairwise_products(gates.log_keep)
        weights = prefix_products(gates.log_keep)
        keep = mx.exp(gates.log_keep)
    if gates.log_momentum is None:
        return Coefficients(fade, weights, None, None, None, gates.step, keep)
    carry = pairwise_products(gates.log_momentum)
    start = prefix_products(gates.log_momentum)
    received = fade if real is None else fade * real[..., None, :]
    return Coefficients(
        writes=received @ carry,
        weights=weights,
        momentum=(received @ start[..., None])[..., 0],
        momentum_writes=carry[..., -1, :],
        momentum_keep=start[..., -1],
        step=gates.step,
        keep=keep,
    )


def bounded_step(config: MemoryConfig, step: mx.array, delta: mx.array, inputs: mx.array) -> mx.array:
    """``theta`` scaled so that no write exceeds the bound: ``|delta x^T|_F = |delta| |x|``.

    Shapes: step (..., T); delta (..., T, d_out); inputs (..., T, d_in).
    """
    if config.write_bound is None:
        return step
    bound = config.write_bound**2
    size = (delta * delta).sum(-1) * (inputs * inputs).sum(-1)
    return step * config.write_bound * mx.rsqrt(mx.maximum(size, bound))
