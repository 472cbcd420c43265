"""Titans: learning to memorize at test time, in MLX."""

from titans_mlx import _blas

_blas.load_openblas()

from titans_mlx.config import MemoryConfig, TitansConfig  # noqa: E402
from titans_mlx.memory import MemoryState, NeuralMemory  # noqa: E402
from titans_mlx.model import Titans  # noqa: E402

__version__ = "0.1.0"
__all__ = ["MemoryConfig", "MemoryState", "NeuralMemory", "Titans", "TitansConfig"]
