"""Choice 3, retention: how old weights fade.

Products of ``1 - alpha`` are carried as logarithms, and the logarithm comes from the gate's logit:
``1 - sigmoid`` would round a small alpha away.
"""

import math

import mlx.core as mx

from titans_mlx._cpu import exp
from titans_mlx.config import MemoryConfig


def log_keep(logit: mx.array) -> mx.array:
    """``log(1 - sigmoid(logit)) = -softplus(logit)``, any shape."""
    return -mx.logaddexp(logit, 0)


def birth_logits(config: MemoryConfig, num_heads: int) -> list[float]:
    """The decay logit of each head at birth (learned) or for good (fixed)."""
    init = config.decay_init if isinstance(config.decay_init, tuple) else (config.decay_init,) * num_heads
    if len(init) != num_heads:
        raise ValueError(f"decay_init must be one number or one per head ({num_heads}), got {len(init)} numbers")
    return [math.log(alpha / (1 - alpha)) for alpha in init]


def prefix_products(log_factors: mx.array) -> mx.array:
    """``prod_{j<=t} exp(log_j)`` along the last axis, (..., b) -> (..., b)."""
    return exp(mx.cumsum(log_factors, axis=-1))


def pairwise_products(log_factors: mx.array) -> mx.array:
    """Lower-triangular ``D[t, s] = prod_{s<j<=t} exp(log_j)``, (..., b) -> (..., b, b), ones on the diagonal.

    Each entry's logarithm is summed on its own: a difference of two running sums loses every digit
    after one hard gate.
    """
    size = log_factors.shape[-1]
    strictly_lower = mx.tri(size, size, -1, dtype=log_factors.dtype)
    lower = mx.tri(size, size, dtype=log_factors.dtype)
    return exp(mx.cumsum(log_factors[..., :, None] * strictly_lower, axis=-2)) * lower
