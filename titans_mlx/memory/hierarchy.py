"""One coarse memory and several fine ones that read the same tokens (TNT)."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._check import check_finite, check_sequence, check_type
from titans_mlx.config import MemoryConfig
from titans_mlx.memory.layer import NeuralMemory
from titans_mlx.memory.readout import ReadOut
from titans_mlx.memory.state import MemoryState


class CoarseAndFine(nn.Module):
    """The sum of what several memories read, normed, gated and projected as one memory's read is.

    TNT has a coarse memory of large chunks, which sees all of a sequence, and fine ones of small chunks that begin
    anew every ``reset_every`` tokens and so run side by side. Theirs read with queries projected onto the span of the
    keys; these read with plain ones.

    Args:
        dim: width of inputs and outputs, a multiple of ``num_heads``.
        num_heads: heads of each memory.
        configs: of each memory; :func:`titans_mlx.memory.recipes.tnt` gives TNT's.

    Raises:
        ValueError: if there is no configuration, one is no :class:`MemoryConfig`, or ``num_heads`` does not divide
            ``dim``.
    """

    def __init__(self, dim: int, num_heads: int, configs: Sequence[MemoryConfig]) -> None:
        super().__init__()
        if not isinstance(configs, Sequence) or not configs:
            raise ValueError(f"configs must hold at least one configuration, got {configs!r}")
        self.dim = dim
        for config in configs:
            check_type("configs", config, MemoryConfig)
        self.memories = [NeuralMemory(dim, num_heads, config, readout=False) for config in configs]
        self.readout = ReadOut(dim, num_heads)

    def __call__(
        self, x: mx.array, states: Sequence[MemoryState] | None = None
    ) -> tuple[mx.array, tuple[MemoryState, ...]]:
        """Absorb and read x (B, T, dim) float: y (B, T, dim) in x's dtype, and a state for each memory.

        Raises:
            ValueError: if x or a state has the wrong shape or dtype, or x has a NaN or infinity.
        """
        check_sequence("x", x, self.dim)
        check_finite("x", x)
        if states is None:
            states = [memory.init_state(x.shape[0]) for memory in self.memories]
        given = len(states) if isinstance(states, Sequence) else type(states).__name__
        if given != len(self.memories):
            raise ValueError(f"states must hold one per memory, {len(self.memories)}, got {given}")
        reads, after = [], []
        for index, (memory, state) in enumerate(zip(self.memories, states, strict=True)):
            memory.check_state(state, x.shape[0], f"states[{index}]")
            read, state = memory.absorb(x, state)
            reads.append(read)
            after.append(state)
        return self.readout(x, sum(reads)).astype(x.dtype), tuple(after)
