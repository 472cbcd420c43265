"""Intervals that respect how samples hang together: answers in one sequence, sequences of one trained model."""

import numpy as np

RESAMPLES = 1000


def bootstrap_interval(correct: list[np.ndarray], seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Two-stage bootstrap of a mean accuracy: models (training seeds) are drawn again, then their sequences.

    Args:
        correct: per trained model, (N, Q) bool or float: N sequences with Q answers each, N the same for all.
        seed: of the resampling.
        level: coverage.

    Returns:
        Lower and upper end, shares between 0 and 1.

    Raises:
        ValueError: if the models were tested on unequal numbers of sequences.
    """
    if len({len(c) for c in correct}) != 1:
        raise ValueError(f"correct must hold equally many sequences per model, got {[len(c) for c in correct]}")
    rng = np.random.default_rng(seed)
    means = np.stack([np.asarray(c, dtype=np.float64).mean(axis=1) for c in correct])
    models, sequences = means.shape
    draws = np.zeros(RESAMPLES)
    for _ in range(models):
        model = rng.integers(models, size=(RESAMPLES, 1))
        draws += means[model, rng.integers(sequences, size=(RESAMPLES, sequences))].mean(axis=1) / models
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
