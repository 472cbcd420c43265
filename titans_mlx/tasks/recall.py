"""Far-pointer retrieval: pairs written early, filler, then a key; the answer is the value of its pair."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from titans_mlx._check import check_count, set_count
from titans_mlx.tasks.batch import Batch, Seed, as_rng, draw_distinct


class Context(NamedTuple):
    """The pairs as read, and as known.

    Attributes:
        tokens: (B, ``context_length``) int32.
        keys: (B, ``num_pairs``) int32 token ids, in the order written.
        values: (B, ``num_pairs``) int32 token ids; ``values[b, i]`` belongs to ``keys[b, i]``.
    """

    tokens: np.ndarray
    keys: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class RecallTask:
    """Recall over a distance.

    A sequence is ``context | filler | queries``. The context is ``num_pairs`` pairs ``key value``, the keys
    distinct within a row, the values drawn with replacement. Filler words are drawn uniformly. The queries
    are ``num_queries`` of the stored keys in random order, each followed by its value, and the model is
    asked at each of these keys.

    The *distance* of a sequence is the number of filler words between the last token of the context (the
    last pair's value) and the first query key; nothing else is called distance. ``length``, the number of
    tokens read, is ``context_length + distance + 2 num_queries - 1``: the last query's value is a target,
    never read.

    Token ids are keys, then values, then filler words, each group contiguous from id 0.

    An example: three keys, three values, two filler words; two pairs, three words of filler, two queries.

    >>> task = RecallTask(num_keys=3, num_values=3, num_filler=2, num_pairs=2, num_queries=2)
    >>> batch = task.sample(1, length=10, seed=8)
    >>> print(task.spell(batch.tokens[0]))
    k1 v0 k2 v2 f1 f1 f0 k2 v2 k1
    >>> print(task.spell(batch.answers[0]), "at", batch.positions[0])
    v2 v0 at [7 9]
    >>> task.distance(length=10), round(task.chance, 3)
    (3, 0.333)

    Attributes:
        num_keys: key ids to draw from; at least ``num_pairs``.
        num_values: value ids to draw from; at least 2.
        num_filler: filler words to draw from.
        num_pairs: pairs stored in each sequence.
        num_queries: stored keys asked for in each sequence; at most ``num_pairs``.
        noise: filler words scattered at random before and between the pairs (never after the last one).
    """

    num_keys: int = 50
    num_values: int = 50
    num_filler: int = 30
    num_pairs: int = 8
    num_queries: int = 8
    noise: int = 0

    def __post_init__(self) -> None:
        for name in ("num_keys", "num_filler", "num_pairs", "num_queries"):
            set_count(self, name, 1)
        set_count(self, "num_values", 2)
        set_count(self, "noise", 0)
        if self.num_keys < self.num_pairs:
            raise ValueError(
                f"num_keys must be at least num_pairs={self.num_pairs} (distinct keys), got {self.num_keys}"
            )
        if self.num_queries > self.num_pairs:
            raise ValueError(f"num_queries must be at most num_pairs={self.num_pairs}, got {self.num_queries}")

    @property
    def vocab_size(self) -> int:
        """Number of token ids: keys, values and filler words."""
        return self.num_keys + self.num_values + self.num_filler

    @property
    def chance(self) -> float:
        """Accuracy of a guess among all values; one among the stored values only is right more often."""
        return 1 / self.num_values

    @property
    def context_length(self) -> int:
        """Tokens from the first to the last pair's value, noise included."""
        return 2 * self.num_pairs + self.noise

    @property
    def query_length(self) -> int:
        """Tokens from the first to the last query key."""
        return 2 * self.num_queries - 1

    def distance(self, length: int) -> int:
        """Filler words between context and queries in a sequence of ``length`` tokens.

        Raises:
            ValueError: ``length`` does not hold the context and the queries.
        """
        check_count("length", length, self.context_length + self.query_length)
        return int(length) - self.context_length - self.query_length

    def length(self, distance: int) -> int:
        """Tokens in a sequence with ``distance`` filler words between context and queries.

        Raises:
            ValueError: ``distance`` is negative.
        """
        check_count("distance", distance, 0)
        return self.context_length + int(distance) + self.query_length

    def sample(self, batch: int, length: int, seed: Seed) -> Batch:
        """Whole sequences of exactly ``length`` tokens, for training.

        Targets are the next tokens everywhere; the mask is 1 at the ``num_queries`` query keys.
        A (seed, step) pair is a good seed: it makes a batch a pure function of the step.

        Raises:
            ValueError: ``batch`` < 1, ``length`` too short for context and queries, or a bad ``seed``.
        """
        rng = as_rng(seed)
        distance = self.distance(length)
        context = self.context(batch, rng)
        filler = self.filler(batch, distance, rng)
        queries = self.queries(context.keys, context.values, rng)
        tokens = np.concatenate([context.tokens, filler, queries.tokens], axis=1)
        targets = np.concatenate([tokens[:, 1:], queries.targets[:, -1:]], axis=1)
        mask = np.zeros(tokens.shape, dtype=np.float32)
        mask[:, -self.query_length :] = queries.mask
        return Batch(tokens, targets, mask)

    def context(self, batch: int, seed: Seed) -> Context:
        """The first piece of a stream. Draw all pieces of one stream from one generator.

        Raises:
            ValueError: ``batch`` < 1 or a bad ``seed``.
        """
        check_count("batch", batch, 1)
        rng = as_rng(seed)
        keys = draw_distinct(rng, batch, self.num_keys, self.num_pairs)
        values = rng.integers(self.num_values, size=(batch, self.num_pairs), dtype=np.int32) + self.num_keys
        starts = self._pair_starts(batch, rng)
        tokens = self.filler(batch, self.context_length, rng)
        np.put_along_axis(tokens, starts, keys, axis=1)
        np.put_along_axis(tokens, starts + 1, values, axis=1)
        return Context(tokens, keys, values)

    def filler(self, batch: int, count: int, seed: Seed) -> np.ndarray:
        """(batch, count) int32 filler words: a stream's next piece, to be drawn as often as wanted.

        Raises:
            ValueError: ``batch`` < 1, ``count`` < 0 or a bad ``seed``.
        """
        check_count("batch", batch, 1)
        check_count("count", count, 0)
        first = self.num_keys + self.num_values
        return as_rng(seed).integers(first, self.vocab_size, size=(batch, count), dtype=np.int32)

    def queries(self, keys: np.ndarray, values: np.ndarray, seed: Seed) -> Batch:
        """A stream's last piece: (B, ``query_length``) tokens ``k v k v ... k``, the mask 1 at each key.

        Args:
            keys: (B, ``num_pairs``) token ids of :meth:`context`.
            values: (B, ``num_pairs``) token ids of :meth:`context`.
            seed: seed or generator of the order in which keys are asked.

        Raises:
            ValueError: ``keys`` or ``values`` of another shape, or a bad ``seed``.
        """
        for name, array in (("keys", keys), ("values", values)):
            if array.ndim != 2 or array.shape != (len(keys), self.num_pairs):
                raise ValueError(f"{name} must have shape (B, {self.num_pairs}), got {array.shape}")
        order = draw_distinct(as_rng(seed), len(keys), self.num_pairs, self.num_queries)
        spoken = np.empty((len(keys), 2 * self.num_queries), dtype=np.int32)
        spoken[:, 0::2] = np.take_along_axis(keys, order, axis=1)
        spoken[:, 1::2] = np.take_along_axis(values, order, axis=1)
        mask = np.zeros((len(keys), self.query_length), dtype=np.float32)
        mask[:, 0::2] = 1
        return Batch(spoken[:, :-1], spoken[:, 1:], mask)

    def move_pair(self, tokens: np.ndarray, place: int) -> np.ndarray:
        """Sequences (B, T) whose first pair, the needle, begins ``place`` tokens later; those it passes move up.

        Raises:
            ValueError: if there is noise, or ``place`` is not between 0 and the queries.
        """
        if self.noise:
            raise ValueError(f"noise must be 0 for a pair to be moved, got {self.noise}")
        check_count("place", place, 0)
        last = self.context_length - 2 + self.distance(tokens.shape[1])
        if place > last:
            raise ValueError(f"place must be at most {last}, where the queries begin, got {place}")
        end = place + 2
        return np.concatenate([tokens[:, 2:end], tokens[:, :2], tokens[:, end:]], axis=1)

    def spell(self, tokens: np.ndarray) -> str:
        """One row of token ids as words: ``k0`` a key, ``v0`` a value, ``f0`` a filler word."""
        ids = np.arange(self.vocab_size)
        firsts = np.array([0, self.num_keys, self.num_keys + self.num_values])
        group = np.searchsorted(firsts, ids, side="right") - 1
        names = [f"{'kvf'[g]}{i - firsts[g]}" for g, i in zip(group, ids, strict=True)]
        return " ".join(names[token] for token in tokens)

    def _pair_starts(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        """(batch, num_pairs): where each pair begins; pairs and noise words in random order, a pair last."""
        is_pair = np.ones((batch, self.num_pairs + self.noise), dtype=bool)
        if self.noise:
            slots = draw_distinct(rng, batch, self.num_pairs + self.noise - 1, self.noise)
            np.put_along_axis(is_pair, slots, False, axis=1)
        ends = np.cumsum(1 + is_pair, axis=1)
        return ends[is_pair].reshape(batch, self.num_pairs) - 2


SETTINGS: dict[str, RecallTask] = {"few": RecallTask(num_filler=30), "many": RecallTask(num_filler=1000)}
"""The two settings of the recall claim, by how many filler words there are."""
