"""What every task hands out, and the seeded draws they share."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Seed = int | Sequence[int] | np.random.Generator


class Batch(NamedTuple):
    """Sequences with known answers. Every row has the same number of answers.

    Attributes:
        tokens: (B, T) int32, what the model reads.
        targets: (B, T) int32, what it should say after each token; counts only where ``mask`` is 1.
        mask: (B, T) float32, 1 at the positions that are asked, 0 elsewhere.
    """

    tokens: np.ndarray
    targets: np.ndarray
    mask: np.ndarray

    @property
    def positions(self) -> np.ndarray:
        """(B, Q) int32: where each row is asked, so that a loss can skip all other logits."""
        return np.nonzero(self.mask)[1].reshape(len(self.mask), -1).astype(np.int32)

    @property
    def answers(self) -> np.ndarray:
        """(B, Q) int32: the targets at :attr:`positions`."""
        return np.take_along_axis(self.targets, self.positions, axis=1)


def as_rng(seed: Seed) -> np.random.Generator:
    """A generator from a seed; a generator is passed through, and its state moves on.

    Raises:
        ValueError: ``seed`` is neither a generator nor one or several integers >= 0.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    parts = list(seed) if isinstance(seed, Sequence) and not isinstance(seed, str) else [seed]
    if not parts or not all(isinstance(p, int | np.integer) and not isinstance(p, bool) and p >= 0 for p in parts):
        raise ValueError(f"seed must be an integer >= 0, a sequence of them, or a numpy Generator, got {seed!r}")
    return np.random.default_rng(parts)


def draw_distinct(rng: np.random.Generator, batch: int, population: int, size: int) -> np.ndarray:
    """(batch, size) int32: ``size`` distinct numbers below ``population`` per row, in random order."""
    rows = np.tile(np.arange(population, dtype=np.int32), (batch, 1))
    return rng.permuted(rows, axis=1)[:, :size]
