"""MAG: sliding-window attention and memory side by side, one gating the other (paper section 4.2, eq. 26-28)."""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._check import check_type
from titans_mlx._cpu import silu
from titans_mlx.attention import AttentionState
from titans_mlx.blocks.parts import FeedForward, check_window_and_memory, make_attention, persistent_tokens
from titans_mlx.config import TitansConfig
from titans_mlx.memory import MemoryState, NeuralMemory, Observer


class MAGState(NamedTuple):
    """What a MAG block carries: the attention's window and the memory."""

    attention: AttentionState | None
    memory: MemoryState


class MAGBlock(nn.Module):
    """``x + W_o(norm(SWA([P | x])) * silu(norm(M([P | x]))))``, then the MLP.

    Both branches read the same prefixed sequence; each is normalised with a learned vector before the gate.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.window_size = config.window_size
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.persistent = persistent_tokens(config)
        self.attention = make_attention(config)
        self.memory = NeuralMemory(config.dim, config.num_heads, config.memory, readout=False)
        self.attention_norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.memory_norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.o_proj = nn.Linear(config.dim, config.dim, bias=False)
        self.mlp = FeedForward(config)

    def __call__(
        self, x: mx.array, state: MAGState | None = None, observe: Observer | None = None
    ) -> tuple[mx.array, MAGState]:
        """x (B, T, dim) and the state so far (None: at birth) -> (B, T, dim) and the state after x."""
        state = state or MAGState(None, self.memory.init_state(x.shape[0], self.persistent))
        n = self.norm(x)
        y, attention = self.attention.sliding(n, state.attention, window=self.window_size, persistent=self.persistent)
        reads, memory = self.memory.absorb(n, state.memory, observe=observe)
        gated = self.attention_norm(y) * silu(self.memory_norm(reads).astype(n.dtype))
        return self.mlp(x + self.o_proj(gated)), MAGState(attention, memory)

    def check_state(self, state: MAGState, batch_size: int, name: str) -> None:
        """Raise a ValueError unless ``state`` is this block's and of this batch size."""
        check_type(name, state, MAGState)
        check_window_and_memory(name, self.attention, self.memory, self.window_size, state, batch_size)
