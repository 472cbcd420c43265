"""Rebinding: keys are stored, some are stored again with another value, and the last value counts."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from titans_mlx._check import check_count, set_count
from titans_mlx._config import choose
from titans_mlx.tasks.batch import Batch, Seed, as_rng, draw_distinct

Asked = Literal["all", "rebound", "kept"]


@dataclass(frozen=True)
class RebindingTask:
    """``filler | pairs | filler | rebound pairs | filler | queries``; every row rebinds other keys.

    The pairs are as in :class:`~titans_mlx.tasks.recall.RecallTask`, and so are the ids: keys, values, filler words.
    A rebound key gets a value other than its first one.

    An example: two pairs, of which one is rebound.

    >>> task = RebindingTask(num_keys=3, num_values=3, num_filler=1, num_pairs=2, num_rebound=1, gap=1, distance=2)
    >>> batch = task.sample(1, seed=5)
    >>> print(batch.tokens[0])
    [2 5 1 3 6 1 4 6 6 2 5 1]
    >>> print(batch.answers[0], "at", batch.positions[0])
    [5 4] at [ 9 11]

    Attributes:
        num_keys: key ids to draw from; at least ``num_pairs``.
        num_values: value ids to draw from; at least 2.
        num_filler: filler words to draw from.
        num_pairs: pairs stored first.
        num_rebound: of them, stored once more; at most ``num_pairs``.
        gap: filler words between the two.
        distance: filler words between the last value stored and the first query.
        lead: filler words of which a random number stands in front of the pairs, and the rest behind, before those of
            ``distance``: pairs then lie anywhere within a chunk.
        ask: ``all`` keys, the ``rebound`` ones or the ``kept`` ones.
    """

    num_keys: int = 50
    num_values: int = 50
    num_filler: int = 30
    num_pairs: int = 8
    num_rebound: int = 4
    gap: int = 8
    distance: int = 8
    lead: int = 0
    ask: Asked = "all"

    def __post_init__(self) -> None:
        for name, least in (("num_filler", 1), ("num_pairs", 1), ("num_values", 2)):
            set_count(self, name, least)
        for name in ("gap", "distance", "lead"):
            set_count(self, name, 0)
        set_count(self, "num_keys", self.num_pairs)
        set_count(self, "num_rebound", 0)
        choose("ask", self.ask, get_args(Asked))
        least, most = int(self.ask == "rebound"), self.num_pairs - (self.ask == "kept")
        if not least <= self.num_rebound <= most:
            raise ValueError(f"num_rebound must be {least} to {most} with ask={self.ask!r}, got {self.num_rebound}")

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.num_keys + self.num_values + self.num_filler

    @property
    def chance(self) -> float:
        """Accuracy of a guess among all values."""
        return 1 / self.num_values

    @property
    def num_queries(self) -> int:
        """Keys asked for in a sequence."""
        return {"all": self.num_pairs, "rebound": self.num_rebound, "kept": self.num_pairs - self.num_rebound}[self.ask]

    @property
    def length(self) -> int:
        """Tokens in a sequence."""
        written = 2 * (self.num_pairs + self.num_rebound) + self.gap
        return self.lead + written + self.distance + 2 * self.num_queries - 1

    def sample(self, batch: int, seed: Seed) -> Batch:
        """Sequences of ``length`` tokens, asked at the query keys.

        Raises:
            ValueError: ``batch`` < 1 or a bad ``seed``.
        """
        check_count("batch", batch)
        rng = as_rng(seed)
        keys = draw_distinct(rng, batch, self.num_keys, self.num_pairs)
        first = rng.integers(self.num_values, size=keys.shape)
        other = (first + rng.integers(1, self.num_values, size=keys.shape)) % self.num_values
        # The first of the keys, which are in random order already, are rebound; they are written in a new order.
        again = np.arange(self.num_pairs) < self.num_rebound
        last = np.where(again, other, first)
        order = draw_distinct(rng, batch, self.num_pairs, self.num_pairs)
        rebound = draw_distinct(rng, batch, self.num_rebound, self.num_rebound)
        places = np.flatnonzero({"all": again | ~again, "rebound": again, "kept": ~again}[self.ask])
        asked = places[draw_distinct(rng, batch, len(places), len(places))]
        queries = self._pairs(keys, last, asked)
        written = np.concatenate(
            [self._pairs(keys, first, order), self._filler(rng, batch, self.gap), self._pairs(keys, last, rebound)],
            axis=1,
        )
        around = self._filler(rng, batch, self.lead + written.shape[1] + self.distance)
        start = rng.integers(self.lead + 1, size=(batch, 1))
        np.put_along_axis(around, start + np.arange(written.shape[1]), written, axis=1)
        tokens = np.concatenate([around, queries], axis=1)
        mask = np.zeros((batch, self.length), dtype=np.float32)
        mask[:, self.length - queries.shape[1] + 1 :: 2] = 1
        return Batch(tokens[:, :-1], tokens[:, 1:], mask)

    def _pairs(self, keys: np.ndarray, values: np.ndarray, order: np.ndarray) -> np.ndarray:
        """(B, 2 n) int32 tokens ``k v k v ...`` of the pairs at ``order`` (B, n)."""
        chosen = [np.take_along_axis(x, order, axis=1) for x in (keys, values + self.num_keys)]
        return np.stack(chosen, axis=2).reshape(len(keys), -1).astype(np.int32)

    def _filler(self, rng: np.random.Generator, batch: int, count: int) -> np.ndarray:
        first = self.num_keys + self.num_values
        return rng.integers(first, self.vocab_size, size=(batch, count), dtype=np.int32)
