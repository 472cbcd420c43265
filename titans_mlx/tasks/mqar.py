"""Multi-query associative recall (MQAR) in its published setting: Zoology, Arora et al., ICLR 2024."""

from dataclasses import dataclass

import numpy as np

from titans_mlx._check import check_count, set_count
from titans_mlx.tasks.batch import Batch, Seed, as_rng, draw_distinct


@dataclass(frozen=True)
class MQARTask:
    """Pairs first, then every key once more among filler; the answer is asked for at the key and never read.

    As in the authors' generator: keys are drawn without replacement from ids 1 ... ``vocab_size // 2 - 1``,
    values without replacement from the upper half. The rest is slots of two tokens. Slot ``s = 0, 1, ...`` is
    drawn with weight ``(s + 1) ** (power_a - 1)``, without replacement, and asks for a key at its first
    token, so most queries come soon and some late. All other tokens are filler, drawn from the whole
    vocabulary (a filler token may equal a key or value).

    An example, with filler left at 0: the pairs 8 -> 15 and 1 -> 14, then 8 is asked, then 1.

    >>> task = MQARTask(length=16, num_pairs=2, vocab_size=20, random_filler=False)
    >>> batch = task.sample(1, seed=3)
    >>> print(batch.tokens[0])
    [ 8 15  1 14  0  0  8  0  0  0  1  0  0  0  0  0]
    >>> print(batch.targets[0])
    [ 0  0  0  0  0  0 15  0  0  0 14  0  0  0  0  0]

    Attributes:
        length: tokens in a sequence; even, at least ``4 num_pairs``.
        num_pairs: pairs stored, and queries asked.
        vocab_size: number of token ids; more than ``length``.
        power_a: exponent of the gap distribution plus one; 1 is uniform, the published value is 0.01.
        random_filler: filler from the whole vocabulary (published), or id 0 throughout.
        spare_keys: random filler is never one of its sequence's keys. As published, three sequences in 100 with four
            pairs have such a token; with a small vocabulary most do, as if a key were bound anew.
    """

    length: int = 64
    num_pairs: int = 4
    vocab_size: int = 8192
    power_a: float = 0.01
    random_filler: bool = True
    spare_keys: bool = False

    def __post_init__(self) -> None:
        set_count(self, "num_pairs", 1)
        set_count(self, "length", 4 * self.num_pairs)
        if self.length % 2:
            raise ValueError(f"length must be even, got {self.length}")
        set_count(self, "vocab_size", self.length + 1)
        if not isinstance(self.power_a, int | float) or not np.isfinite(self.power_a):
            raise ValueError(f"power_a must be a finite number, got {self.power_a!r}")

    @property
    def chance(self) -> float:
        """Accuracy of a guess among all values."""
        return 1 / (self.vocab_size - self.vocab_size // 2)

    def sample(self, batch: int, seed: Seed) -> Batch:
        """(batch, length) tokens, answers as targets at the query keys (0 elsewhere), the mask 1 there.

        Raises:
            ValueError: ``batch`` < 1 or a bad ``seed``.
        """
        check_count("batch", batch, 1)
        rng = as_rng(seed)
        half, written = self.vocab_size // 2, 2 * self.num_pairs
        keys = draw_distinct(rng, batch, half - 1, self.num_pairs) + 1
        values = draw_distinct(rng, batch, self.vocab_size - half, self.num_pairs) + half
        asked = written + 2 * self._slots(batch, rng)
        shape = (batch, self.length)
        filler = self._filler(shape, keys, rng) if self.random_filler else 0
        tokens = np.zeros(shape, dtype=np.int32) + filler
        tokens[:, 0:written:2], tokens[:, 1:written:2] = keys, values
        np.put_along_axis(tokens, asked, keys, axis=1)
        targets, mask = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.float32)
        np.put_along_axis(targets, asked, values, axis=1)
        np.put_along_axis(mask, asked, np.float32(1), axis=1)
        return Batch(tokens, targets, mask)

    def _filler(self, shape: tuple[int, int], keys: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not self.spare_keys:
            return rng.integers(self.vocab_size, size=shape, dtype=np.int32)
        filler = rng.integers(self.vocab_size - self.num_pairs, size=shape, dtype=np.int32)
        # The n-th id that is no key: each key at or below it, from the smallest on, moves it up by one.
        for key in np.sort(keys, axis=1).T:
            filler += filler >= key[:, None]
        return filler

    def _slots(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        """(batch, num_pairs): distinct slots, drawn one after another in proportion to their weights.

        The race of exponential clocks gives the same law as drawing one by one, all rows at once.
        """
        weights = np.arange(1, self.length // 2 - self.num_pairs + 1, dtype=np.float64) ** (self.power_a - 1)
        arrivals = rng.exponential(size=(batch, len(weights))) / weights
        return np.argsort(arrivals, axis=1)[:, : self.num_pairs]


def _tasks(*settings: tuple[int, int]) -> tuple[MQARTask, ...]:
    return tuple(MQARTask(length=length, num_pairs=pairs) for length, pairs in settings)


ZOOLOGY_FIGURE_2 = _tasks((64, 4), (128, 8), (256, 16), (512, 64))
"""Figure 2 of Zoology: 100,000 training and 3,000 test examples of each."""

BASED_TRAIN = dict(
    zip(_tasks((64, 4), (128, 8), (256, 16), (256, 32), (256, 64)), (100_000, *[20_000] * 4), strict=True)
)
"""Training mixture of the Based setting: task -> number of examples."""

BASED_TEST = dict.fromkeys(_tasks((64, 4), (64, 8), (64, 16), (128, 32), (256, 64), (512, 128), (1024, 256)), 1_000)
"""Test sets of the Based setting: task -> number of examples."""
