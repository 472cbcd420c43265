"""Text by its bytes: real prose, and sequences with a rhythm in which something now and then is out of place."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from titans_mlx._check import check_count, set_count
from titans_mlx._config import choose
from titans_mlx.tasks.batch import Batch, Seed, as_rng

Part = Literal["train", "validation", "test"]
SHARES: dict[Part, tuple[float, float]] = {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}
"""Where in the text each part begins and ends."""


@dataclass(frozen=True)
class TextTask:
    """Windows of a text, asked at every byte for the next one.

    Attributes:
        length: bytes read in a sequence.
        part: of the text, so that nothing tested was trained on.
        path: a text file; empty: the reference documentation that ships with Python, each paragraph once.
    """

    length: int = 256
    part: Part = "train"
    path: str = ""

    def __post_init__(self) -> None:
        set_count(self, "length", 1)
        choose("part", self.part, get_args(Part))
        if len(self._text()) <= self.length:
            raise ValueError(f"length must be below the {len(self._text())} bytes of the text, got {self.length}")

    @property
    def vocab_size(self) -> int:
        """Number of token ids: bytes."""
        return 256

    @property
    def chance(self) -> float:
        """Accuracy of always saying the commonest byte."""
        return float(np.bincount(self._text()).max() / len(self._text()))

    @property
    def origin(self) -> dict[str, str]:
        """The text by the start of its SHA-256: Python's documentation is another with another version."""
        return {"text_sha256": hashlib.sha256(_bytes(self.path).tobytes()).hexdigest()[:16]}

    def sample(self, batch: int, seed: Seed) -> Batch:
        """Windows of ``length`` bytes from anywhere in the part.

        Raises:
            ValueError: ``batch`` < 1 or a bad ``seed``.
        """
        check_count("batch", batch)
        text = self._text()
        starts = as_rng(seed).integers(len(text) - self.length, size=(batch, 1))
        tokens = text[starts + np.arange(self.length + 1)].astype(np.int32)
        return Batch(tokens[:, :-1], tokens[:, 1:], np.ones((batch, self.length), dtype=np.float32))

    def _text(self) -> np.ndarray:
        text = _bytes(self.path)
        first, last = (round(share * len(text)) for share in SHARES[self.part])
        return text[first:last]


@cache
def _bytes(path: str) -> np.ndarray:
    if path:
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise ValueError(f"path must be a text file that can be read, got {path!r}: {error.strerror}") from error
    else:
        from pydoc_data.topics import topics

        paragraphs = dict.fromkeys(part for topic in topics.values() for part in topic.split("\n\n"))
        text = "\n\n".join(paragraphs).encode()
    return np.frombuffer(text, dtype=np.uint8)


@dataclass(frozen=True)
class AnomalyTask:
    """A motif drawn anew for every sequence, repeated to its end; some tokens are replaced by others.

    Asked at every token but the first motif's for the next one. What is out of place is :meth:`anomalies`: it cannot be
    foreseen, and everything else can.

    >>> task = AnomalyTask(num_symbols=5, period=3, length=12, rate=0.2)
    >>> batch = task.sample(1, seed=1)
    >>> print(batch.tokens[0], np.flatnonzero(task.anomalies(batch.tokens)[0]))
    [2 4 0 2 0 0 2 4 0 2 4 4] [ 4 11]

    Attributes:
        num_symbols: to draw from.
        period: distinct symbols of a motif.
        length: tokens in a sequence; more than ``period``.
        rate: share of the tokens after the first motif that are replaced, above 0 and below 1.
    """

    num_symbols: int = 64
    period: int = 16
    length: int = 256
    rate: float = 0.05

    def __post_init__(self) -> None:
        set_count(self, "period", 1)
        set_count(self, "num_symbols", max(2, self.period))
        set_count(self, "length", self.period + 1)
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 < self.rate < 1:
            raise ValueError(f"rate must lie strictly between 0 and 1, got {self.rate!r}")

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.num_symbols

    @property
    def chance(self) -> float:
        """Accuracy of a guess among all symbols."""
        return 1 / self.num_symbols

    def sample(self, batch: int, seed: Seed) -> Batch:
        """Sequences of ``length`` tokens; the target of the last one is the next of the motif.

        Raises:
            ValueError: ``batch`` < 1 or a bad ``seed``.
        """
        check_count("batch", batch)
        rng = as_rng(seed)
        motif = np.argsort(rng.random((batch, self.num_symbols)), axis=1)[:, : self.period]
        whole = np.take(motif, np.arange(self.length + 1) % self.period, axis=1)
        struck = rng.random(whole.shape) < self.rate
        struck[:, : self.period] = struck[:, -1] = False
        other = (whole + rng.integers(1, self.num_symbols, size=whole.shape)) % self.num_symbols
        tokens = np.where(struck, other, whole).astype(np.int32)
        mask = np.ones((batch, self.length), dtype=np.float32)
        mask[:, : self.period - 1] = 0
        return Batch(tokens[:, :-1], tokens[:, 1:], mask)

    def anomalies(self, tokens: np.ndarray) -> np.ndarray:
        """Which of the tokens (B, T) of a sample are not the motif's: (B, T) bool."""
        return tokens != np.take(tokens, np.arange(tokens.shape[1]) % self.period, axis=1)
