"""How memory joins attention (paper section 4): one file, one figure. A block maps ``(x, state)`` to ``(y, state)``."""

import mlx.nn as nn

from titans_mlx.blocks.lmm import LMMBlock
from titans_mlx.blocks.mac import MACBlock
from titans_mlx.blocks.mag import MAGBlock
from titans_mlx.blocks.mal import MALBlock
from titans_mlx.blocks.transformer import TransformerBlock

BLOCKS: dict[str, type[nn.Module]] = {
    "lmm": LMMBlock,
    "mac": MACBlock,
    "mag": MAGBlock,
    "mal": MALBlock,
    "transformer": TransformerBlock,
    "sliding_window": TransformerBlock,
}

__all__ = ["BLOCKS", "LMMBlock", "MACBlock", "MAGBlock", "MALBlock", "TransformerBlock"]
