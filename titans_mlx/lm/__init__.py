"""Language: generation with mlx-lm's samplers."""

from titans_mlx.lm.generate import generate

__all__ = ["generate"]
