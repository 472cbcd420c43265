"""Titans: learning to memorize at test time, in MLX."""

from titans_mlx import _blas

_blas.load_openblas()

from titans_mlx.config import MemoryConfig, TitansConfig
from titans_mlx.memory import MemoryState, NeuralMemory
from titans_mlx.model import Titans
from titans_mlx.presets import preset

__version__ = "0.1.0"
__all__ = ["MemoryConfig", "MemoryState", "NeuralMemory", "Titans", "TitansConfig", "preset"]
