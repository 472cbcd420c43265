"""Where MAC's attention looks: at persistent tokens, at what the memory retrieved, at the segment itself."""

from typing import Any

import mlx.core as mx
import numpy as np

from titans_mlx._check import check_count
from titans_mlx.blocks.mac import MACBlock, MACState
from titans_mlx.model import Titans
from titans_mlx.softmax import segment_mask, width

PARTS = ("persistent", "retrieved", "segment")


def attention_maps(model: Titans, tokens: mx.array, block: int = 1) -> list[np.ndarray]:
    """Attention weights of one block over ``[persistent | h | segment]`` (eq. 22-23), a map per segment.

    Args:
        model: a MAC.
        tokens: (B, T) int, read from the start.
        block: which, from 1.

    Returns:
        For each segment (B, H, S, P + 2 S) float32, S its tokens; rows sum to 1.

    Raises:
        ValueError: if the model is no MAC or has no such block, or as for a call of the model.
    """
    if model.config.variant != "mac":
        raise ValueError(f"model must be a MAC, got {model.config.variant!r}")
    check_count("block", block)
    if block > len(model.layers):
        raise ValueError(f"block must be at most {len(model.layers)}, got {block}")
    model.check_tokens("tokens", tokens)
    x = model.embedding(tokens)
    for layer in model.layers[: block - 1]:
        x, _ = layer(x)
    layer, state, maps = model.layers[block - 1], None, []
    for start in range(0, tokens.shape[1], layer.segment_size):
        piece = x[:, start : start + layer.segment_size]
        state = layer.init_state(tokens.shape[0]) if state is None else state
        maps.append(np.array(_map(layer, piece, state)))
        _, state = layer(piece, state)
    return maps


def map_rows(weights: np.ndarray, words: list[str], persistent: int) -> list[dict[str, Any]]:
    """One head's map of a segment as a tidy table: a line per row and column that it may see.

    Args:
        weights: (S, P + 2 S).
        words: the S tokens as read, for people.
        persistent: P.

    Returns:
        Dicts of ``row`` and ``column`` (from 0), their ``token`` and ``seen`` (the column's), ``part`` (persistent,
        retrieved or segment) and ``weight``.

    Raises:
        ValueError: if there are not S words, or P is not that of the weights.
    """
    if len(words) != len(weights):
        raise ValueError(f"words must name the {len(weights)} tokens of the segment, got {len(words)}")
    check_count("persistent", persistent, 0)
    if persistent != weights.shape[1] - 2 * len(words):
        raise ValueError(f"persistent must be P of weights (S, P + 2 S) = {weights.shape}, got {persistent}")
    names = [f"p{index + 1}" for index in range(persistent)]
    columns = [(PARTS[0], place, name) for place, name in enumerate(names)]
    columns += [(part, place, word) for part in PARTS[1:] for place, word in enumerate(words)]
    return [
        {"row": row, "token": words[row], "part": part, "column": place, "seen": seen, "weight": float(weight)}
        for row, weights_of_row in enumerate(weights)
        for (part, place, seen), weight in zip(columns, weights_of_row, strict=True)
        if part == PARTS[0] or place <= row
    ]


def _map(layer: MACBlock, x: mx.array, state: MACState) -> mx.array:
    """Of a segment x (B, S, dim) that begins at ``state``."""
    n = layer.norm(x)
    queries, _ = layer.memory.query(n, state.query_tail)
    h = layer.context_norm(layer.memory.retrieve(queries, state.memory.weights)).astype(n.dtype)
    own, prefix = layer.attention.project_segments(n, 0, layer.segment_size), layer.attention.prefix(layer.persistent)
    _, seen = layer.attention.attend_segment(own, h, None, prefix)
    keys = [seen.h_keys, seen.x_keys]
    if prefix is not None:
        keys.insert(0, mx.broadcast_to(prefix.keys, (x.shape[0], *prefix.keys.shape[1:])))
    scores = own[0] @ mx.concatenate(keys, axis=2).swapaxes(-1, -2) * own[0].shape[-1] ** -0.5
    mask = segment_mask(0, x.shape[1], width(prefix))
    return mx.softmax(mx.where(mask, scores.astype(mx.float32), -mx.inf), axis=-1)
