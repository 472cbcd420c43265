"""Language: text and tokens, mlx-lm's edge, memories that last a session."""

from typing import Any

from titans_mlx.lm.generate import generate
from titans_mlx.lm.session import MemorySession
from titans_mlx.lm.tokenizer import byte_tokenizer
from titans_mlx.lm.tokens import prepare

__all__ = ["MemorySession", "as_model", "byte_tokenizer", "from_pretrained", "generate", "prepare", "save_pretrained"]

_OF_MLX_LM = ("as_model", "from_pretrained", "save_pretrained")


def __getattr__(name: str) -> Any:
    # When asked for: mlx_lm imports transformers, which takes longer than everything else together.
    if name in _OF_MLX_LM:
        from titans_mlx.lm import pretrained

        return getattr(pretrained, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
