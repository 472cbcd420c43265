"""Recall at many distances from one reading of each sequence.

The state is a value: at each distance a copy of the cache answers the queries, and the original reads on.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral

import mlx.core as mx
import numpy as np

from titans_mlx._check import check_count
from titans_mlx.claims.training import asked_logits
from titans_mlx.memory import MemoryState, NeuralMemory
from titans_mlx.memory.projections import Inputs
from titans_mlx.model import Cache, Titans
from titans_mlx.tasks.recall import RecallTask


@dataclass
class Recall:
    """What one reading gave at one distance.

    Attributes:
        distance: filler words between the pairs and the first query.
        correct: (N, Q) bool.
        seconds: time to read everything up to the queries, over all N sequences.
        peak_bytes: the most memory in use up to here, asking at the nearer distances included.
        filler_step: largest step size theta of any memory on the filler read so far; None without a memory.
    """

    distance: int
    correct: np.ndarray
    seconds: float
    peak_bytes: int
    filler_step: float | None


@dataclass
class LargestStep:
    """An observer that keeps the largest theta it was shown."""

    value: float | None = None
    pending: list[mx.array] = field(default_factory=list)

    def __call__(self, memory: NeuralMemory, state: MemoryState, inputs: Inputs) -> None:
        self.pending.append(inputs.gates.step.max())

    def settle(self) -> None:
        """Take in what was shown; called where everything is evaluated anyway."""
        for step in self.pending:
            self.value = max(step.item(), self.value or 0.0)
        self.pending.clear()


def recall_by_distance(
    model: Titans,
    task: RecallTask,
    distances: list[int],
    sequences: int,
    seed: int,
    piece: int = 1024,
) -> list[Recall]:
    """Read ``sequences`` sequences side by side and ask at each distance.

    Args:
        model: a trained model over the task's vocabulary.
        task: where the tokens come from.
        distances: increasing.
        sequences: N.
        seed: of the tokens.
        piece: tokens read at a time; memory in use does not grow with the distance.

    Raises:
        ValueError: if the distances do not increase, or ``sequences`` or ``piece`` is below 1.
    """
    check_distances(distances)
    check_count("sequences", sequences)
    check_count("piece", piece)
    rng = np.random.default_rng(seed)
    context = task.context(sequences, rng)
    queries = task.queries(context.keys, context.values, rng)
    cache, largest = model.make_cache(), LargestStep()
    mx.reset_peak_memory()
    started = time.perf_counter()
    _read(model, context.tokens, cache)
    at, asking, results = 0, 0.0, []
    for distance in distances:
        while at < distance:
            count = min(piece, distance - at)
            _read(model, task.filler(sequences, count, rng), cache, largest)
            at += count
        largest.settle()
        seconds, peak = time.perf_counter() - started - asking, mx.get_peak_memory()
        before = time.perf_counter()
        correct = _ask(model, list(cache), queries.tokens, queries.positions, queries.answers)
        asking += time.perf_counter() - before
        results.append(Recall(distance, correct, seconds, peak, largest.value))
    return results


def check_distances(distances: Sequence[int]) -> None:
    """Require one or more whole distances >= 0 that increase."""
    whole = all(isinstance(d, Integral) for d in distances)
    if not distances or not whole or list(distances) != sorted(set(distances)) or min(distances) < 0:
        raise ValueError(f"distances must be one or more integers, >= 0, that increase, got {distances}")


def _read(model: Titans, tokens: np.ndarray, cache: Cache, observe: LargestStep | None = None) -> None:
    hidden = model.hidden(mx.array(tokens), cache, observe)
    mx.eval(hidden, cache, [] if observe is None else observe.pending)


def _ask(model: Titans, cache: Cache, tokens: np.ndarray, positions: np.ndarray, answers: np.ndarray) -> np.ndarray:
    return np.array(mx.argmax(asked_logits(model, mx.array(tokens), mx.array(positions), cache), axis=-1)) == answers
