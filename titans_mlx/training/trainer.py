"""The training loop: a compiled step, records, evaluations, checkpoints, and a stop on a loss not finite."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from titans_mlx.training.config import TrainConfig
from titans_mlx.training.optim import make_optimizer
from titans_mlx.training.run_folder import Record, RunFolder
from titans_mlx.training.step import LossFunction, make_step, share_state

Batches = Callable[[int], Sequence[mx.array | np.ndarray]]
Evaluate = Callable[[nn.Module], Mapping[str, Any]]
Progress = Callable[[int, Record], None]


class TrainingDiverged(RuntimeError):
    """The loss or the gradient's norm was not finite, or the loss above its limit.

    Attributes:
        step: where it happened.
        loss: the loss there.
        grad_norm: the norm of the gradient there, before clipping.
        last_finite: step and loss of the last one before, or None.
        checkpoint: path of the last checkpoint, or None.
    """

    def __init__(
        self,
        step: int,
        loss: float,
        grad_norm: float,
        last_finite: tuple[int, float] | None,
        checkpoint: Path | None,
    ) -> None:
        self.step, self.loss, self.grad_norm = step, loss, grad_norm
        self.last_finite, self.checkpoint = last_finite, checkpoint
        before = "no finite loss before it"
        if last_finite is not None:
            before = f"the last finite loss was {last_finite[1]:.6g} at step {last_finite[0]}"
        where = "there is no checkpoint" if checkpoint is None else f"the last checkpoint is {checkpoint}"
        super().__init__(
            f"training diverged at step {step}: loss {loss:g}, gradient norm {grad_norm:g}; {before}; {where}"
        )


@dataclass(frozen=True)
class TrainResult:
    """What a run gave, whether it was interrupted or not.

    Attributes:
        steps: updates made in all.
        records: everything recorded, in order, as in ``metrics.jsonl``; ``kind`` is ``train`` or ``eval``.
        resumed_from: step of the checkpoint this call began at, None for a fresh start.
        seconds: time trained, interruptions left out.
    """

    steps: int
    records: list[Record]
    resumed_from: int | None
    seconds: float

    @property
    def train_records(self) -> list[Record]:
        """Records of the loss."""
        return [record for record in self.records if record["kind"] == "train"]

    @property
    def eval_records(self) -> list[Record]:
        """Records of the evaluation hook."""
        return [record for record in self.records if record["kind"] == "eval"]


def train(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Batches,
    config: TrainConfig,
    run: RunFolder | None = None,
    evaluate: Evaluate | None = None,
    progress: Progress | None = None,
    group: mx.distributed.Group | None = None,
) -> TrainResult:
    """Train ``model`` in place, resuming where ``run`` has a checkpoint.

    MLX's random state of this thread is seeded from ``config.seed`` and stored in every checkpoint. If
    ``batches`` is a pure function of the step, a killed and resumed run gives the same numbers as one never
    killed.

    Args:
        model: its trainable parameters are updated; it is in training mode during steps, in evaluation mode
            for ``evaluate``, and left in the mode it came in.
        loss_fn: ``loss_fn(model, *batch)`` gives a scalar, or a scalar and a dict of scalar metrics to
            record; with ``config.truncate`` it is given ``cache=``, a list of block states, too.
        batches: step (1 ... ``config.steps``) -> tuple of arrays.
        config: the options.
        run: folder for records and checkpoints; None keeps all in memory.
        evaluate: ``evaluate(model)`` gives metrics to record.
        progress: called with the step and each record as it is made.
        group: the processes of a distributed run, all of which call this with equal arguments. Each computes its share
            of every batch's rows, and the update is that of one process with the whole batch, if the loss is a mean
            over equally many positions in every share. Process 0 alone writes to ``run``, evaluates and reports; the
            others begin with its parameters.

    Returns:
        The records of the whole run; of process 0 only.

    Raises:
        TrainingDiverged: loss or gradient norm not finite, or the loss above ``config.loss_limit``; ``model`` then
            holds the update of that step.
        ValueError: ``run`` belongs to another configuration or model, or ``batches`` gave no tuple.
    """
    mx.random.seed(config.seed)
    optimizer = make_optimizer(config, model)
    mx.eval(model.parameters(), optimizer.state)
    leads = group is None or group.rank() == 0
    session = _Session(model, optimizer, config, *((run, progress) if leads else (None, None)))
    first = session.begin() + 1
    if group is not None:
        first = share_state(model, optimizer, first, group)
    was_training = model.training
    advance, state = make_step(model, optimizer, loss_fn, config, group)
    try:
        for step in range(first, config.steps + 1):
            model.train()
            loss, metrics, norm = advance(*_arrays(batches(step), step))
            mx.eval(loss, metrics, norm, state)
            session.check(step, loss.item(), norm.item())
            if _due(step, config.log_every, config.steps):
                rate = optimizer.learning_rate.item()
                session.record(step, "train", {"loss": loss, "learning_rate": rate, "grad_norm": norm}, metrics)
            if leads and evaluate is not None and _due(step, config.eval_every, config.steps):
                model.eval()
                session.record(step, "eval", {}, evaluate(model))
            if _due(step, config.checkpoint_every, config.steps):
                session.save(step)
    finally:
        model.train(was_training)
    return TrainResult(config.steps, session.records, session.resumed_from, session.seconds)


@dataclass
class _Session:
    """The bookkeeping of one call of :func:`train`: records, clock, last finite loss, checkpoints."""

    model: nn.Module
    optimizer: optim.Optimizer
    config: TrainConfig
    run: RunFolder | None
    progress: Progress | None
    records: list[Record] = field(default_factory=list)
    resumed_from: int | None = None
    last_finite: tuple[int, float] | None = None
    checkpoint: Path | None = None
    _origin: float = 0.0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._origin

    def begin(self) -> int:
        """Open the run folder, go back to its last checkpoint, and return the steps already made."""
        self._origin = time.perf_counter()
        if self.run is None:
            return 0
        self.run.begin(self.config)
        self._origin -= self.run.provenance["seconds"]
        self.resumed_from, self.records = self.run.restore(self.model, self.optimizer)
        if self.resumed_from is None:
            # Without it a run killed early would begin again from whatever weights the caller then has.
            self.save(0)
            return 0
        self.checkpoint = self.run.checkpoints()[-1]
        losses = [(r["step"], r["loss"]) for r in self.records if r["kind"] == "train"]
        self.last_finite = losses[-1] if losses else None
        return self.resumed_from

    def check(self, step: int, loss: float, grad_norm: float) -> None:
        limit = math.inf if self.config.loss_limit is None else self.config.loss_limit
        if not (math.isfinite(loss) and math.isfinite(grad_norm)) or loss > limit:
            raise TrainingDiverged(step, loss, grad_norm, self.last_finite, self.checkpoint)
        self.last_finite = (step, loss)

    def record(self, step: int, kind: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
        head = {"step": step, "kind": kind}
        taken = (head | dict(ours) | {"seconds": 0}).keys() & theirs.keys()
        if taken:
            raise ValueError(f"metrics must not use the name {sorted(taken)[0]!r}: the trainer records it itself")
        record = _plain({**head, **ours, **theirs, "seconds": round(self.seconds, 3)})
        self.records.append(record)
        if self.run is not None:
            self.run.append(record)
        if self.progress is not None:
            self.progress(step, record)

    def save(self, step: int) -> None:
        if self.run is not None:
            self.checkpoint = self.run.save(self.model, self.optimizer, step, self.seconds)


def _due(step: int, every: int, last: int) -> bool:
    return step == last or (every > 0 and step % every == 0)


def _arrays(batch: Any, step: int) -> list[mx.array]:
    if not isinstance(batch, tuple | list):
        raise ValueError(f"batches must give a tuple of arrays, got {type(batch).__name__} at step {step}")
    return [array if isinstance(array, mx.array) else mx.array(array) for array in batch]


def _plain(value: Any) -> Any:
    """JSON values from numbers and arrays; what JSON cannot hold (NaN, infinity) becomes None."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, mx.array | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
