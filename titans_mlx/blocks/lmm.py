"""LMM: the memory alone is the token mixer (paper section 4.3, "LMM")."""

import mlx.core as mx
import mlx.nn as nn

from titans_mlx.blocks.parts import FeedForward, persistent_tokens
from titans_mlx.config import TitansConfig
from titans_mlx.memory import MemoryState, NeuralMemory, Observer


class LMMBlock(nn.Module):
    """``x + M([P | norm(x)])``, then the MLP. The persistent tokens P are absorbed once, at birth (eq. 19)."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.persistent = persistent_tokens(config)
        self.memory = NeuralMemory(config.dim, config.num_heads, config.memory)
        self.mlp = FeedForward(config)

    def __call__(
        self, x: mx.array, state: MemoryState | None = None, observe: Observer | None = None
    ) -> tuple[mx.array, MemoryState]:
        """x (B, T, dim) and the state so far (None: at birth) -> (B, T, dim) and the state after x."""
        state = state or self.memory.init_state(x.shape[0], self.persistent)
        y, state = self.memory.mix(self.norm(x), state, observe)
        return self.mlp(x + y), state

    def check_state(self, state: MemoryState, batch_size: int, name: str) -> None:
        """Raise a ValueError unless ``state`` is this block's and of this batch size."""
        self.memory.check_state(state, batch_size, name)
