"""Time series: generated ones, and the tables of the ETT data, cut into windows without a look at the future."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from titans_mlx._check import check_count, set_count
from titans_mlx._config import choose
from titans_mlx.tasks.batch import Seed, as_rng

Part = Literal["train", "validation", "test"]
GENERATED = ("seasonal", "regimes")
STEPS, CHANNELS, SEED = 14_400, 4, 0
"""Of generated series: as long as ETT's usual 20 months of hours."""
ETT_MONTH = 30 * 24
"""Hours."""


@dataclass(frozen=True)
class SeriesTask:
    """Windows of a table of series: ``lookback`` steps, then ``horizon`` more to be forecast, one channel each.

    The first 60 % are for training, then 20 % each for validation and test; of tables as long as ETT's hourly ones 12,
    4 and 4 months of 30 days, as usual, and the rest is not used. Every channel is brought to mean 0 and spread 1 by
    its training part. A window's forecast lies within its part; its past may reach into the part before, as usual for
    these data.

    Attributes:
        data: ``seasonal`` (a daily and a weekly rhythm that drift, a trend, noise), ``regimes`` (oscillations that
            switch between four rhythms without notice), or a CSV file: a header, a column of dates, a column a channel.
        lookback: steps seen.
        horizon: steps to forecast.
    """

    data: str = "seasonal"
    lookback: int = 336
    horizon: int = 96

    def __post_init__(self) -> None:
        set_count(self, "lookback", 1)
        set_count(self, "horizon", 1)
        for part in get_args(Part):
            self.windows(part)

    @property
    def channels(self) -> int:
        """Number of series."""
        return table(self.data).shape[1]

    def windows(self, part: Part) -> int:
        """How many windows of one channel a part has.

        Raises:
            ValueError: if there is no such part, or it holds no window.
        """
        choose("part", part, get_args(Part))
        first, last = self._span(part)
        count = last - first - self.horizon - (self.lookback if part == "train" else 0) + 1
        if count < 1:
            raise ValueError(
                f"lookback and horizon must fit the {part} part of {last - first} steps, got {self.lookback} and "
                f"{self.horizon}"
            )
        return count

    def cut(self, part: Part, starts: np.ndarray, channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Windows by number and channel, each (B,): the past (B, lookback) and the future (B, horizon), float32."""
        first, _ = self._span(part)
        begin = first + starts + (0 if part == "train" else -self.lookback)
        steps = begin[:, None] + np.arange(self.lookback + self.horizon)
        values = _scaled(self.data)[steps, channels[:, None]]
        return values[:, : self.lookback], values[:, self.lookback :]

    def sample(self, batch: int, seed: Seed, part: Part = "train") -> tuple[np.ndarray, np.ndarray]:
        """Random windows of random channels, as :meth:`cut` gives them.

        Raises:
            ValueError: ``batch`` < 1, a bad ``seed`` or ``part``.
        """
        check_count("batch", batch)
        rng = as_rng(seed)
        return self.cut(part, rng.integers(self.windows(part), size=batch), rng.integers(self.channels, size=batch))

    def _span(self, part: Part) -> tuple[int, int]:
        ends = dict(zip(get_args(Part), _ends(len(table(self.data))), strict=True))
        starts = dict(zip(get_args(Part), (0, *_ends(len(table(self.data)))), strict=False))
        return starts[part], ends[part]


def _ends(steps: int) -> tuple[int, int, int]:
    """Where training, validation and test end, see :class:`SeriesTask`."""
    if 20 * ETT_MONTH <= steps <= 25 * ETT_MONTH:
        return 12 * ETT_MONTH, 16 * ETT_MONTH, 20 * ETT_MONTH
    return steps * 6 // 10, steps * 8 // 10, steps


@cache
def _scaled(data: str) -> np.ndarray:
    values = table(data)
    trained = values[: _ends(len(values))[0]]
    return ((values - trained.mean(0)) / np.maximum(trained.std(0), 1e-8)).astype(np.float32)


@cache
def table(data: str) -> np.ndarray:
    """The series themselves, (steps, channels) float64.

    Raises:
        ValueError: if ``data`` is neither a name nor a file of finite numbers, as many in every line.
    """
    if data in GENERATED:
        return {"seasonal": _seasonal, "regimes": _regimes}[data](np.random.default_rng(SEED))
    try:
        lines = Path(data).read_text(encoding="utf-8").splitlines()
        values = np.array([[float(value) for value in line.split(",")[1:]] for line in lines[1:] if line])
        if values.size == 0 or not np.isfinite(values).all():
            raise ValueError("a number is missing or not finite")
        return values
    except (OSError, ValueError) as error:
        raise ValueError(
            f"data must be one of {list(GENERATED)} or a CSV file (dates, then numbers), got {data!r}: {error}"
        ) from error


def _seasonal(rng: np.random.Generator) -> np.ndarray:
    hours = np.arange(STEPS)[:, None]
    drift = np.cumsum(rng.normal(scale=0.002, size=(STEPS, CHANNELS)), axis=0)
    phases = rng.uniform(0, 2 * np.pi, size=(2, CHANNELS))
    size = 1 + np.cumsum(rng.normal(scale=0.003, size=(STEPS, CHANNELS)), axis=0)
    day = size * np.sin(2 * np.pi * hours / 24 + phases[0] + drift)
    week = 0.6 * np.sin(2 * np.pi * hours / 168 + phases[1])
    trend = np.cumsum(rng.normal(scale=0.01, size=(STEPS, CHANNELS)), axis=0)
    return day + week + trend + rng.normal(scale=0.3, size=(STEPS, CHANNELS))


def _regimes(rng: np.random.Generator) -> np.ndarray:
    """Four rhythms and sizes of one channel's own; each lasts 200 to 600 steps."""
    series = np.empty((STEPS, CHANNELS))
    for channel in range(CHANNELS):
        periods, sizes = rng.uniform(8, 60, size=4), rng.uniform(0.5, 2, size=4)
        place, angle = 0, 0.0
        while place < STEPS:
            kind, length = rng.integers(4), int(rng.integers(200, 600))
            steps = np.arange(1, min(length, STEPS - place) + 1)
            angles = angle + 2 * np.pi * steps / periods[kind]
            series[place : place + len(steps), channel] = sizes[kind] * np.sin(angles)
            place, angle = place + len(steps), float(angles[-1])
    return series + rng.normal(scale=0.1, size=series.shape)
