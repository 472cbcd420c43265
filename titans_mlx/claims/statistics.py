"""Intervals that respect how samples hang together: answers in one sequence, sequences of one trained model."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from titans_mlx.claims.base import Row

RESAMPLES = 1000
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at 97.5 % with 1, 2, ... degrees of freedom."""


def accuracy_interval(correct: list[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean accuracy over trained models (training seeds).

    Student's t over the models' means, which a handful of seeds needs; never narrower than a bootstrap over sequences,
    which is all there is with one model. Where every answer is right, or every one wrong, both have no width: the far
    end is then Clopper and Pearson's for as many draws as there are models times sequences.

    Args:
        correct: per trained model, (N, Q) bool or float: N sequences with Q answers each, N the same for all and the
            same sequences for all.
        seed: of the resampling.

    Returns:
        Lower and upper end, shares between 0 and 1.

    Raises:
        ValueError: if there are no models, more than ten, or they were tested on unequal numbers of sequences.
    """
    if not 1 <= len(correct) <= len(T_QUANTILES) + 1:
        raise ValueError(f"correct must hold 1 to {len(T_QUANTILES) + 1} models, got {len(correct)}")
    if len({len(c) for c in correct}) != 1:
        raise ValueError(f"correct must hold equally many sequences per model, got {[len(c) for c in correct]}")
    means = np.stack([np.asarray(c, dtype=np.float64).mean(axis=1) for c in correct])
    models, sequences = means.shape
    low, high = np.quantile(_resampling(sequences, seed) @ means.mean(axis=0), [0.025, 0.975])
    if models > 1:
        centre, spread = means.mean(), means.mean(axis=1).std(ddof=1)
        half = T_QUANTILES[models - 2] * spread / np.sqrt(models)
        low, high = min(low, centre - half), max(high, centre + half)
    least = 0.025 ** (1 / means.size)
    if means.min() == 1:
        low = least
    if means.max() == 0:
        high = 1 - least
    return float(max(low, 0.0)), float(min(high, 1.0))


@cache
def _resampling(sequences: int, seed: int) -> np.ndarray:
    """Weights of the sequences in each resample, (RESAMPLES, sequences): judging asks for the same ones many times."""
    drawn = np.random.default_rng(seed).integers(sequences, size=(RESAMPLES, sequences))
    return np.stack([np.bincount(draw, minlength=sequences) for draw in drawn]) / sequences


def mean_interval(values: Sequence[float]) -> dict[str, float | None]:
    """``value``, the mean over trained models, and ``low`` and ``high``, its 95 % interval by Student's t.

    One model says nothing about others: both ends are then None.
    """
    mean = float(np.mean(values))
    if len(values) == 1:
        return {"value": mean, "low": None, "high": None}
    half = float(T_QUANTILES[len(values) - 2] * np.std(values, ddof=1) / len(values) ** 0.5)
    return {"value": mean, "low": mean - half, "high": mean + half}


def gain(first: Sequence[Row], second: Sequence[Row], column: str = "accuracy") -> dict[str, float | None]:
    """How much more ``column`` is in ``first`` than in ``second``, rows of one test each, trainings of a seed paired.

    Returns:
        As :func:`mean_interval` of the differences.
    """
    others = {row["seed"]: row[column] for row in second}
    return mean_interval([row[column] - others[row["seed"]] for row in first])


def surely(found: dict[str, float | None], least: float) -> bool:
    """Whether a mean is at least ``least``, above 0, and its interval all above 0."""
    return found["value"] >= least and found["low"] is not None and found["low"] > 0


def noise(parts: dict[str, tuple[Sequence[Row], list[Sequence[Row]]]], column: str) -> list[str]:
    """Of parts in which some rows have less of ``column`` than each of others, those that seeds do not tell from noise.

    Returns:
        A figure for people, to stand beside a verdict whose rule asks for means alone; nothing if all are told apart.
    """

    def told(less: Sequence[Row], others: list[Sequence[Row]]) -> bool:
        return all(surely(gain(more, less, column), 0) for more in others)

    named = [name for name, (less, others) in parts.items() if not told(less, others)]
    return [f"by less than the noise of seeds: {', '.join(named)}"] if named else []


def share(row: dict[str, Any]) -> str:
    """An accuracy with its interval, in per cent."""
    return f"{row['accuracy']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"
