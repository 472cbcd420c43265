"""Persistent memory: learned tokens that do not depend on the input (paper section 3.3, eq. 19)."""

import mlx.core as mx

from titans_mlx.config import TitansConfig


def persistent_tokens(config: TitansConfig) -> mx.array | None:
    """A block's own persistent tokens (P, dim) at birth, of the unit scale of a normalised input; None if P = 0."""
    if config.num_persistent == 0:
        return None
    return mx.random.normal((config.num_persistent, config.dim))
