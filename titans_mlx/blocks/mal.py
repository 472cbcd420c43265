"""MAL: a memory layer, then a sliding-window attention layer (paper section 4.3, eq. 29-31; Samba's order)."""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._check import check_type
from titans_mlx.attention import AttentionState
from titans_mlx.blocks.lmm import LMMBlock
from titans_mlx.blocks.parts import FeedForward, check_window_and_memory, make_attention
from titans_mlx.config import TitansConfig
from titans_mlx.memory import MemoryState, Observer


class MALState(NamedTuple):
    """What a MAL block carries: the memory and the attention's window."""

    memory: MemoryState | None
    attention: AttentionState | None


class MALBlock(nn.Module):
    """Memory and its MLP, then sliding-window attention and its MLP, each with its residual.

    The persistent tokens prefix the memory (eq. 29); the attention of eq. 31 has none.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.window_size = config.window_size
        self.memory_layer = LMMBlock(config)
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.attention = make_attention(config)
        self.mlp = FeedForward(config)

    def __call__(
        self, x: mx.array, state: MALState | None = None, observe: Observer | None = None
    ) -> tuple[mx.array, MALState]:
        """x (B, T, dim) and the state so far (None: at birth) -> (B, T, dim) and the state after x."""
        state = state or MALState(None, None)
        x, memory = self.memory_layer(x, state.memory, observe)
        y, attention = self.attention.sliding(self.norm(x), state.attention, window=self.window_size)
        return self.mlp(x + y), MALState(memory, attention)

    def check_state(self, state: MALState, batch_size: int, name: str) -> None:
        """Raise a ValueError unless ``state`` is this block's and of this batch size."""
        check_type(name, state, MALState)
        check_window_and_memory(name, self.attention, self.memory_layer, self.window_size, state, batch_size)
