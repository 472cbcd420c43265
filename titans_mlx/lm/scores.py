"""How well a model predicts text: bits per byte, by position and by length."""

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from titans_mlx._check import check_count
from titans_mlx.model import Titans


def text_loss(model: Titans, tokens: mx.array, targets: mx.array, cache: list[Any] | None = None) -> mx.array:
    """Mean cross-entropy of the next token in nats, in float32: a ``loss_fn`` for the trainer; all arrays (B, T)."""
    hidden = model.hidden(tokens, cache)
    return nn.losses.cross_entropy(model.logits(hidden).astype(mx.float32), targets, reduction="mean")


def nats(
    model: Titans,
    tokens: np.ndarray,
    targets: np.ndarray,
    *,
    batch_size: int = 8,
    piece: int = 1024,
    forget: Callable[[list[Any]], list[Any]] | None = None,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """``-ln p`` of every target, each sequence read from birth, in pieces: memory does not grow with the length.

    Args:
        model: a trained model.
        tokens: (N, T) int ids.
        targets: (N, T) int ids, the tokens that follow.
        batch_size: sequences read side by side.
        piece: tokens read at a time; without ``forget`` it changes no result.
        forget: what becomes of the states (one per layer) between two pieces: for ablations.
        progress: called with the share of the work that is behind.

    Returns:
        (N, T) float32.

    Raises:
        ValueError: shapes differ, an id is not the model's, or a count is below 1.
    """
    check_count("batch_size", batch_size)
    check_count("piece", piece)
    if tokens.shape != targets.shape or tokens.ndim != 2:
        raise ValueError(f"tokens and targets must be (N, T) both, got shapes {tokens.shape} and {targets.shape}")
    out = np.zeros(tokens.shape, dtype=np.float32)
    for rows, columns, first in _pieces(*tokens.shape, batch_size, piece):
        if first:
            states: list[Any] = [None] * len(model.layers)
        elif forget is not None:
            states = forget(states)
        given, wanted = mx.array(tokens[rows, columns]), mx.array(targets[rows, columns])
        model.check_tokens("tokens", given)
        model.check_tokens("targets", wanted)
        logits = model.logits(model.hidden(given, states)).astype(mx.float32)
        losses = nn.losses.cross_entropy(logits, wanted)
        mx.eval(losses, states)
        out[rows, columns] = np.array(losses)
        if progress is not None:
            progress((rows.start * tokens.shape[1] + columns.stop * (rows.stop - rows.start)) / tokens.size)
    return out


def _pieces(count: int, length: int, batch_size: int, piece: int) -> Iterator[tuple[slice, slice, bool]]:
    for row in range(0, count, batch_size):
        rows = slice(row, min(row + batch_size, count))
        for column in range(0, length, piece):
            yield rows, slice(column, min(column + piece, length)), column == 0


def bits_per_byte(losses: np.ndarray, bytes_per_token: float = 1.0) -> float:
    """Mean of losses in nats per token as bits per byte of text."""
    return float(losses.mean() / np.log(2) / bytes_per_token)


def by_position(losses: np.ndarray, bytes_per_token: float = 1.0) -> list[dict[str, float]]:
    """Bits per byte in spans of positions that double: 1, 2, 3-4, 5-8, ... tokens from the start of (N, T) losses.

    Returns:
        Dicts of ``first`` and ``last`` position, counted from 1, and ``bits_per_byte``.
    """
    ends = [min(2**power, losses.shape[1]) for power in range(losses.shape[1].bit_length() + 1)]
    rows, begin = [], 0
    for end in dict.fromkeys(ends):
        rows.append(
            {"first": begin + 1, "last": end, "bits_per_byte": bits_per_byte(losses[:, begin:end], bytes_per_token)}
        )
        begin = end
    return rows


def by_length(losses: np.ndarray, bytes_per_token: float = 1.0) -> list[dict[str, float]]:
    """Bits per byte of the first 1, 2, 4, ... tokens of (N, T) losses, and of all: ``length``, ``bits_per_byte``."""
    lengths = dict.fromkeys([*[2**power for power in range(losses.shape[1].bit_length())], losses.shape[1]])
    return [
        {"length": length, "bits_per_byte": bits_per_byte(losses[:, :length], bytes_per_token)} for length in lengths
    ]
