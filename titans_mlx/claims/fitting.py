"""A training of a job: told of while it goes on and, where the job is to be stored, kept while it goes on."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import mlx.nn as nn

from titans_mlx.claims.base import Progress, Row
from titans_mlx.training import RunFolder, TrainConfig, TrainResult, train
from titans_mlx.training.step import LossFunction
from titans_mlx.training.trainer import Batches

CHECKPOINTS = 8


class _Kept:
    """Where trainings leave their checkpoints: the n-th of a name always in the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: Counter[str] = Counter()

    def run(self, name: str) -> RunFolder:
        self._taken[name] += 1
        return RunFolder(self.folder / f"{name}-{self._taken[name]}")


_kept: ContextVar[_Kept | None] = ContextVar("kept", default=None)


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Within it every training leaves checkpoints below ``folder``, and goes on from those it finds there.

    What is trained within must be the same, in the same order, whenever a folder is used again.
    """
    token = _kept.set(_Kept(folder))
    try:
        yield
    finally:
        _kept.reset(token)


def fit(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Batches,
    schedule: TrainConfig,
    what: str,
    progress: Progress | None,
) -> TrainResult:
    """Train ``model`` in place, see :func:`titans_mlx.training.train`.

    Args:
        model: has the initial parameters of the schedule's seed.
        loss_fn: the loss.
        batches: step -> arrays.
        schedule: the options, rates and seed.
        what: what is trained, for ``progress``.
        progress: told of the loss.
    """

    def report(step: int, record: Row) -> None:
        if progress is not None:
            progress(f"{what}, loss {record['loss']:.2f}", step / schedule.steps)

    kept = _kept.get()
    if kept is None:
        return train(model, loss_fn, batches, schedule, progress=report)
    name = f"rate-{schedule.learning_rate:g}-decay-{schedule.weight_decay:g}-seed-{schedule.seed}"
    often = dataclasses.replace(schedule, checkpoint_every=max(1, schedule.steps // CHECKPOINTS))
    return train(model, loss_fn, batches, often, run=kept.run(name), progress=report)
