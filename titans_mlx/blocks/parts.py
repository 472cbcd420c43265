"""What the blocks have in common: persistent tokens, the attention a configuration asks for, the MLP."""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._cpu import silu
from titans_mlx.attention import Attention, AttentionState
from titans_mlx.config import TitansConfig


def persistent_tokens(config: TitansConfig) -> mx.array | None:
    """A block's own persistent tokens (P, dim) (paper section 3.3, eq. 19); None if P = 0.

    Born at the unit scale of a normalised input, in whose place they stand.
    """
    if config.num_persistent == 0:
        return None
    return mx.random.normal((config.num_persistent, config.dim))


def make_attention(config: TitansConfig) -> Attention:
    """Attention as configured, its short convolution included."""
    return Attention(
        config.dim,
        config.num_heads,
        rope_base=config.rope_base,
        conv_size=config.attention_conv_size,
        conv_birth=config.attention_conv_birth,
    )


def check_tokens_seen(name: str, seen: dict[str, int | mx.array]) -> None:
    """Require that the parts of a block's state have seen equally many tokens; rows of unlike positions pass."""
    counts = {part: count for part, count in seen.items() if isinstance(count, int)}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{name} must be of one moment: its parts must have seen equally many tokens, got {counts}")


def check_window_and_memory(
    name: str, attention: Attention, memory: nn.Module, window: int, state: NamedTuple, batch_size: int
) -> None:
    """Check a state of sliding attention (``.attention``) and of a memory (``.memory``), together of one moment."""
    attention.check_state(state.attention, AttentionState, batch_size, window - 1, f"{name}.attention")
    memory.check_state(state.memory, batch_size, f"{name}.memory")
    seen = 0 if state.attention is None else state.attention.offset
    check_tokens_seen(name, {"attention": seen, "memory": state.memory.position})


class FeedForward(nn.Module):
    """The pre-norm SwiGLU MLP after every mixer (Llama's, as in the NeurIPS version).

    ``x + W_down(silu(W_gate n) * W_up n)`` with ``n = RMSNorm(x)``; the identity when ``mlp_hidden`` is 0.
    """

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
        return x + self.down_proj(silu(self.gate_proj(n)) * self.up_proj(n))
