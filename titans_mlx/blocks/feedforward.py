"""The pre-norm SwiGLU MLP that follows every mixer (Llama's, as the NeurIPS version of the paper uses)."""

import mlx.core as mx
import mlx.nn as nn

from titans_mlx.config import TitansConfig


class FeedForward(nn.Module):
    """``x + W_down(silu(W_gate n) * W_up n)`` with ``n = RMSNorm(x)``; the identity when ``mlp_hidden`` is 0."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        if config.mlp_hidden:
            self.norm = nn.RMSNorm(config.dim, config.norm_eps)
            self.gate_proj = nn.Linear(config.dim, config.mlp_hidden, bias=False)
            self.up_proj = nn.Linear(config.dim, config.mlp_hidden, bias=False)
            self.down_proj = nn.Linear(config.mlp_hidden, config.dim, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        """x (B, T, dim) -> (B, T, dim)."""
        if "norm" not in self:
            return x
        n = self.norm(x)
        return x + self.down_proj(nn.silu(self.gate_proj(n)) * self.up_proj(n))
