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


def running_products(log_factors: mx.array) -> mx.array:
    """``prod_{s<j<=t} exp(log_j)`` for t = 1 ... b (rows) and s = 0 ... b (columns), (..., b) -> (..., b, b + 1).

    Zero above the diagonal ``s = t``; the first column holds the products from the start. Each entry's logarithm is
    summed on its own: a difference of two running sums loses every digit after one hard gate.
    """
    size = log_factors.shape[-1]
    after = mx.tri(size, size + 1, dtype=log_factors.dtype)
    until = mx.tri(size, size + 1, 1, dtype=log_factors.dtype)
    return exp(mx.cumsum(log_factors[..., :, None] * after, axis=-2)) * until
