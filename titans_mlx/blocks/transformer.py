"""The baselines: the same block with attention alone, over everything before or over a sliding window."""

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._check import check_type
from titans_mlx.attention import AttentionState
from titans_mlx.blocks.parts import FeedForward, make_attention, persistent_tokens
from titans_mlx.config import TitansConfig
from titans_mlx.memory import Observer


class TransformerBlock(nn.Module):
    """``x + attention([P | norm(x)])``, then the MLP; full causal, or sliding when the variant says so."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.window_size = config.window_size if config.variant == "sliding_window" else None
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.persistent = persistent_tokens(config)
        self.attention = make_attention(config)
        self.mlp = FeedForward(config)

    def __call__(
        self, x: mx.array, state: AttentionState | None = None, observe: Observer | None = None
    ) -> tuple[mx.array, AttentionState]:
        """x (B, T, dim) and the state so far (None: at birth) -> (B, T, dim) and the state after x."""
        n = self.norm(x)
        if self.window_size is None:
            y, state = self.attention.full(n, state, persistent=self.persistent)
        else:
            y, state = self.attention.sliding(n, state, window=self.window_size, persistent=self.persistent)
        return self.mlp(x + y), state

    def check_state(self, state: AttentionState, batch_size: int, name: str) -> None:
        """Raise a ValueError unless ``state`` is this block's and of this batch size."""
        check_type(name, state, AttentionState)
        reach = None if self.window_size is None else self.window_size - 1
        self.attention.check_state(state, AttentionState, batch_size, reach, name)
