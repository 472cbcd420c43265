"""Copying and induction through distractors."""

from dataclasses import dataclass

import numpy as np

from titans_mlx._check import check_count, set_count
from titans_mlx.tasks.batch import Batch, Seed, as_rng, draw_distinct


@dataclass(frozen=True)
class CopyTask:
    """``start x_1 ... x_n  distractors  start x_1 ... x_{n-1}``: asked for ``x_1 ... x_n`` at the last n tokens.

    The items are distinct, so that each names the next. Ids are symbols, distractor words, then the start sign.

    An example: three items of five symbols, two distractors.

    >>> task = CopyTask(num_symbols=5, num_words=2, num_items=3, num_distractors=2)
    >>> batch = task.sample(1, seed=0)
    >>> print(batch.tokens[0])
    [7 2 4 3 5 5 7 2 4]
    >>> print(batch.answers[0])
    [2 4 3]

    Attributes:
        num_symbols: to draw items from; more than ``num_items`` where distractors are symbols too.
        num_words: distractor words to draw from.
        num_items: to be copied.
        num_distractors: between the items and their copy.
        alike: distractors are symbols that are not among the items, in place of words of their own.
    """

    num_symbols: int = 50
    num_words: int = 30
    num_items: int = 8
    num_distractors: int = 16
    alike: bool = False

    def __post_init__(self) -> None:
        for name, least in (("num_words", 1), ("num_items", 1), ("num_distractors", 0)):
            set_count(self, name, least)
        set_count(self, "num_symbols", max(2, self.num_items + bool(self.alike)))

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.num_symbols + self.num_words + 1

    @property
    def chance(self) -> float:
        """Accuracy of a guess among all symbols."""
        return 1 / self.num_symbols

    @property
    def length(self) -> int:
        """Tokens in a sequence."""
        return 2 * self.num_items + self.num_distractors + 1

    def sample(self, batch: int, seed: Seed) -> Batch:
        """Sequences of ``length`` tokens.

        Raises:
            ValueError: ``batch`` < 1 or a bad ``seed``.
        """
        check_count("batch", batch)
        rng = as_rng(seed)
        symbols = draw_distinct(rng, batch, self.num_symbols, self.num_symbols)
        items, others = symbols[:, : self.num_items], symbols[:, self.num_items :]
        shape = (batch, self.num_distractors)
        if self.alike:
            between = np.take_along_axis(others, rng.integers(others.shape[1], size=shape), axis=1)
        else:
            between = rng.integers(self.num_symbols, self.num_symbols + self.num_words, size=shape, dtype=np.int32)
        start = np.full((batch, 1), self.vocab_size - 1, dtype=np.int32)
        tokens = np.concatenate([start, items, between, start, items], axis=1)
        mask = np.zeros((batch, self.length), dtype=np.float32)
        mask[:, -self.num_items :] = 1
        return Batch(tokens[:, :-1], tokens[:, 1:], mask)


@dataclass(frozen=True)
class InductionTask:
    """Random symbols, among them a sign once; the sign at the end asks for the symbol that followed it.

    Ids are symbols, then the sign.

    An example: five symbols, six of them and the sign, then the sign again.

    >>> batch = InductionTask(num_symbols=5, num_distractors=6).sample(1, seed=1)
    >>> print(batch.tokens[0], batch.answers[0])
    [2 5 3 4 0 0 4 5] [3]

    Attributes:
        num_symbols: to draw from.
        num_distractors: symbols read, of which one is the answer.
    """

    num_symbols: int = 50
    num_distractors: int = 32

    def __post_init__(self) -> None:
        set_count(self, "num_symbols", 2)
        set_count(self, "num_distractors", 1)

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.num_symbols + 1

    @property
    def chance(self) -> float:
        """Accuracy of a guess among all symbols."""
        return 1 / self.num_symbols

    @property
    def length(self) -> int:
        """Tokens in a sequence."""
        return self.num_distractors + 2

    def sample(self, batch: int, seed: Seed) -> Batch:
        """Sequences of ``length`` tokens, asked at the last.

        Raises:
            ValueError: ``batch`` < 1 or a bad ``seed``.
        """
        check_count("batch", batch)
        rng = as_rng(seed)
        tokens = rng.integers(self.num_symbols, size=(batch, self.length + 1), dtype=np.int32)
        place = rng.integers(self.num_distractors, size=(batch, 1))
        tokens[:, -1:] = np.take_along_axis(tokens, place + 1, axis=1)
        np.put_along_axis(tokens, place, np.int32(self.num_symbols), axis=1)
        tokens[:, -2] = self.num_symbols
        mask = np.zeros((batch, self.length), dtype=np.float32)
        mask[:, -1] = 1
        return Batch(tokens[:, :-1], tokens[:, 1:], mask)
