"""Intervals that respect how samples hang together: answers in one sequence, sequences of one trained model."""

import numpy as np

RESAMPLES = 2000


def bootstrap_interval(correct: list[np.ndarray], seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Two-stage bootstrap of a mean accuracy: models (training seeds) are drawn again, then their sequences.

    Args:
        correct: per trained model, (N, Q) bool or float: N sequences with Q answers each.
        seed: of the resampling.
        level: coverage.

    Returns:
        Lower and upper end, shares between 0 and 1.
    """
    rng = np.random.default_rng(seed)
    per_sequence = [np.asarray(c, dtype=np.float64).mean(axis=1) for c in correct]
    draws = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        models = rng.integers(len(per_sequence), size=len(per_sequence))
        draws[i] = np.mean(
            [per_sequence[m][rng.integers(len(per_sequence[m]), size=len(per_sequence[m]))].mean() for m in models]
        )
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
