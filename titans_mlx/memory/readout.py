"""What is done with what a memory gave: a norm, a gate, a projection."""

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._cpu import silu

READ_NORM_EPS = 1e-5


class ReadOut(nn.Module):
    """Per-head RMS norm with a learned gain, gated by a linear layer (SiLU), then the output projection."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.gain = mx.ones((num_heads, dim // num_heads))
        self.gate_proj = nn.Linear(dim, dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)

    def __call__(self, x: mx.array, reads: mx.array) -> mx.array:
        """x and reads (B, T, dim) -> (B, T, dim)."""
        heads = reads.reshape(*reads.shape[:-1], *self.gain.shape)
        heads = mx.fast.rms_norm(heads, None, READ_NORM_EPS) * self.gain
        return self.o_proj(heads.reshape(reads.shape).astype(x.dtype) * silu(self.gate_proj(x)))
