"""Sizes with names: the paper's, and two for a laptop."""

from functools import cache
from typing import Any

from titans_mlx._config import choose
from titans_mlx._random import random_state_kept
from titans_mlx.blocks import BLOCKS
from titans_mlx.config import TitansConfig, Variant
from titans_mlx.training.optim import count_parameters

_PAPER = {
    "vocab_size": 32_000,
    "num_heads": 16,
    "segment_size": 512,
    "window_size": 2048,
    "num_persistent": 128,
    "tie_embeddings": True,
}
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"vocab_size": 257, "dim": 64, "num_layers": 2, "num_heads": 2},
    "small": {
        "vocab_size": 257,
        "dim": 256,
        "num_layers": 6,
        "num_heads": 4,
        "segment_size": 128,
        "window_size": 128,
        "num_persistent": 8,
    },
    "170m": {**_PAPER, "dim": 768, "num_layers": 12},
    "340m": {**_PAPER, "dim": 1024, "num_layers": 24},
    "400m": {**_PAPER, "dim": 1024, "num_layers": 24, "tie_embeddings": False},
    "760m": {**_PAPER, "dim": 1536, "num_layers": 24},
}
"""Blocks, widths and heads of the paper's sizes are those of the NeurIPS version's Table 5, the segment, window and
persistent tokens those of its appendix E. Its labels of 340M and 760M are what a Transformer of these sizes counts. It
states nothing for 400M: here it is 340M with a head of its own."""


def preset(name: str, variant: Variant = "mac", **changes: Any) -> TitansConfig:
    """The configuration of a named size.

    Args:
        name: ``tiny`` and ``small`` read bytes and train on a laptop; ``170m``, ``340m``, ``400m`` and ``760m`` are the
            paper's labels. What a variant really counts is :func:`parameters` (a MAL block holds two sub-layers).
        variant: the block.
        changes: other fields of :class:`~titans_mlx.config.TitansConfig`.

    Raises:
        ValueError: no such preset, or a field with a value that is not allowed.
    """
    choose("name", name, tuple(PRESETS))
    return TitansConfig(**{**PRESETS[name], "variant": variant, **changes})


def parameters(config: TitansConfig) -> int:
    """How many parameters a model has, without building all of it: its blocks are alike."""
    ends = config.dim * (1 if config.tie_embeddings else 2)
    block = _counted(config.replace(num_layers=1, vocab_size=2))
    return config.num_layers * block + config.vocab_size * ends + config.dim


@cache
def _counted(config: TitansConfig) -> int:
    """Parameters of one block, built but not filled; the stream of random numbers stays where it is."""
    with random_state_kept():
        return count_parameters(BLOCKS[config.variant](config))
