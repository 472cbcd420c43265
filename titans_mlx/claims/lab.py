"""Most claims are of one kind: models trained on mixed tasks, then tested on others, whole or changed.

A job's settings say all of it as JSON values. A task is a dict of its fields and its ``kind``, a name of ``TASKS``;
recall has a ``distance`` besides.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from titans_mlx._check import check_count
from titans_mlx._config import choose
from titans_mlx.claims.base import Job, Progress, Row, job_id
from titans_mlx.claims.fitting import fit
from titans_mlx.claims.interventions import FACTORS, STILL, changed, check_change, memories, read, read_thinned, turn
from titans_mlx.claims.judging import TEST_ROWS
from titans_mlx.claims.recall_runs import train_config, training_options
from titans_mlx.claims.search import Trained, train_all
from titans_mlx.claims.training import TRAIN, VALIDATE, recall_loss
from titans_mlx.config import TitansConfig
from titans_mlx.model import Titans
from titans_mlx.tasks import (
    AnomalyTask,
    Batch,
    CopyTask,
    InductionTask,
    MQARTask,
    NeedleTask,
    RebindingTask,
    RecallTask,
    Seed,
    TextTask,
    TrackingTask,
    WorldTask,
)
from titans_mlx.training import count_parameters

CONTROL = "no memory"
"""A model trained and tested with a memory that stands still: equal in parameters and tokens, it writes nothing."""
TEST = 2
"""First part of a test batch's seed; those of training and validation are others."""
HOW_TRAINED = """
AdamW, weight decay 0.1, batches of 2,048 tokens, the rate falling to 0 as a cosine after 50 steps of warm-up. A rate
of 0.002 and, unless that one validates at 100 %, of 0.004 is tried with the first of three seeds, on 64 validation
sequences of the last training task; the better one serves all seeds. The same test sequences (64, where no other
number is given) for every model and seed, drawn apart from training and validation. Intervals: Student's t over seeds,
or a bootstrap over sequences where that is wider.
"""
"""Part of every protocol here."""


@dataclass(frozen=True)
class FixedRecall:
    """Recall at one distance, as the other tasks are: of one length."""

    task: RecallTask
    distance: int

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.task.vocab_size

    @property
    def chance(self) -> float:
        """Accuracy of a guess among all values."""
        return self.task.chance

    @property
    def length(self) -> int:
        """Tokens in a sequence."""
        return self.task.length(self.distance)

    def sample(self, batch: int, seed: Seed) -> Batch:
        """Sequences of ``length`` tokens."""
        return self.task.sample(batch, self.length, seed)


def _recall(distance: int = 0, **fields: Any) -> FixedRecall:
    return FixedRecall(RecallTask(**fields), distance)


TASKS: dict[str, Callable[..., Any]] = {
    "recall": _recall,
    "mqar": MQARTask,
    "rebinding": RebindingTask,
    "copy": CopyTask,
    "induction": InductionTask,
    "tracking": TrackingTask,
    "text": TextTask,
    "anomalies": AnomalyTask,
    "needle": NeedleTask,
    "world": WorldTask,
}


def make_task(fields: dict[str, Any]) -> Any:
    """The task that a dict describes: with ``vocab_size``, ``chance``, ``length`` and ``sample(batch, seed)``.

    Raises:
        ValueError: if its kind is unknown, or a field has a value that is not allowed.
    """
    rest = dict(fields)
    kind = rest.pop("kind", None)
    choose("kind", kind, tuple(TASKS))
    try:
        return TASKS[kind](**rest)
    except TypeError as error:
        raise ValueError(f"{kind} must have fields that there are, got {rest}: {error}") from error


def lab_job(
    model: str,
    architecture: TitansConfig,
    train: Sequence[dict[str, Any]],
    tests: Sequence[dict[str, Any]],
    *,
    option: str = "paper",
    label: str = "",
    seeds: Sequence[int] = (0, 1, 2),
    grid: Sequence[tuple[float, float]] = ((2e-3, 0.1), (4e-3, 0.1)),
    steps: int = 400,
    tokens_per_step: int = 2048,
    sequences: int = 64,
    validate: dict[str, Any] | None = None,
    train_change: dict[str, Any] | None = None,
) -> Job:
    """One model, its entry of the grid chosen once, trained and tested with each seed.

    Args:
        model: its name, for people.
        architecture: the model.
        train: tasks, one drawn per step.
        tests: each a dict of ``task``, ``change`` (of the trained model, see ``interventions``; none if left out),
            ``sequences`` (those of the job if left out), and whatever else is to stand in its row (``x``, ...).
        option: what sets this training apart from others of the same model.
        label: in front of the id.
        seeds: of parameters and training batches.
        grid: learning rate and weight decay; the entry best on validation sequences of the last training task is kept,
            the earlier one if they are equal.
        steps: of training.
        tokens_per_step: as many sequences of the step's task as they hold.
        sequences: of each test, the same for every model and seed.
        validate: the task of validation, where that is not the last one of training.
        train_change: factors on the gates during training and validation, taken away before the tests.

    Raises:
        ValueError: if anything of this has a value that is not allowed.
    """
    for name, values in (("train", train), ("tests", tests), ("seeds", seeds), ("grid", grid)):
        if not values:
            raise ValueError(f"{name} must have at least one entry, got {values!r}")
    for name, value in (("steps", steps), ("tokens_per_step", tokens_per_step), ("sequences", sequences)):
        check_count(name, value)
    for task in [*train, *[test["task"] for test in tests], *([validate] if validate else [])]:
        if make_task(task).vocab_size > architecture.vocab_size:
            raise ValueError(f"vocab_size must hold the {make_task(task).vocab_size} ids of {task}")
    for change in (*[test.get("change", {}) for test in tests], train_change or {}):
        check_change(change)
    if train_change and not train_change.keys() <= set(FACTORS):
        raise ValueError(f"train_change must be of {list(FACTORS)}, got {train_change}")
    settings = {
        "model": model,
        "option": option,
        "architecture": architecture.to_dict(),
        "train": list(train),
        "tests": list(tests),
        "seeds": list(seeds),
        "grid": [list(entry) for entry in grid],
        "tokens_per_step": tokens_per_step,
        "sequences": sequences,
        "training": training_options(steps),
        **({"validate": validate} if validate else {}),
        **({"train_change": train_change} if train_change else {}),
    }
    for entry, seed in [*product(grid, seeds[:1]), *product(grid[:1], seeds)]:
        train_config(settings["training"], entry, seed)
    return Job(job_id(label, model, "" if option == "paper" else option), settings)


def control_job(
    architecture: TitansConfig, train: Sequence[dict[str, Any]], tests: Sequence[dict[str, Any]], **options: Any
) -> Job:
    """The no-memory control: as :func:`lab_job`, but nothing is written, neither in training nor in the tests."""
    still = [{**test, "change": {**test.get("change", {}), **STILL}} for test in tests]
    return lab_job(CONTROL, architecture, train, still, train_change=STILL, **options)


def run_lab(job: Job, progress: Progress | None = None) -> list[Row]:
    """Train over the grid with the first seed, then with the others at its best entry; test all.

    Returns:
        A row per seed and test: the test's own columns, ``accuracy`` and ``correct`` (answers right, per sequence),
        and what the training and the test took.
    """
    settings = job.settings

    trained, scores = train_models(settings, progress)
    return [{**row, "grid_scores": scores} for each in trained for row in test_model(settings, each)]


def train_models(settings: dict[str, Any], progress: Progress | None = None) -> tuple[list[Trained], list[Row]]:
    """A job's models, one per seed, and the validation scores of its grid."""

    def train_one(entry: tuple[float, float], seed: int, progress: Progress | None) -> Trained:
        return train_model(settings, entry, seed, progress)

    return train_all(settings["grid"], settings["seeds"], train_one, progress)


def train_model(
    settings: dict[str, Any],
    entry: tuple[float, float],
    seed: int,
    progress: Progress | None = None,
    backbone: Titans | None = None,
) -> Trained:
    """A job's model at one entry of its grid with one seed.

    Of a ``backbone``, trained before, the memories alone are trained, further, and all else stays as it is.
    """
    tasks = [make_task(fields) for fields in settings["train"]]

    def batches(step: int) -> tuple[np.ndarray, ...]:
        chosen = tasks[np.random.default_rng((TRAIN, seed, step)).integers(len(tasks))]
        count = max(1, settings["tokens_per_step"] // chosen.length)
        drawn = chosen.sample(count, (TRAIN, seed, step, chosen.length))
        return drawn.tokens, drawn.positions, drawn.answers

    mx.random.seed(seed)
    born = backbone or Titans(TitansConfig.from_dict(settings["architecture"]))
    model = changed(born, settings.get("train_change", {}))
    if backbone is not None:
        model.freeze()
        for memory in memories(model):
            memory.unfreeze()
    schedule = train_config(settings["training"], entry, seed)
    result = fit(model, recall_loss(0.0), batches, schedule, f"{settings['model']}: training", progress)
    validation = make_task(settings.get("validate", settings["train"][-1]))
    correct = answered(model, validation.sample(64, (VALIDATE, 0)), {})
    turn(model, {})
    return Trained(model, entry, seed, result.seconds, float(correct.mean()))


def test_model(settings: dict[str, Any], trained: Trained) -> list[Row]:
    """A row per test of a job's settings."""
    model, rows = trained.model, []
    for test in settings["tests"]:
        task, change = make_task(test["task"]), test.get("change", {})
        batch = task.sample(test.get("sequences", settings["sequences"]), (TEST, task.length))
        mx.reset_peak_memory()
        started = time.perf_counter()
        correct, nats = answers(model, batch, change)
        rows.append(
            {
                **{name: settings[name] for name in ("model", "option")},
                **{name: value for name, value in test.items() if name not in ("task", "change", "sequences")},
                "accuracy": float(correct.mean()),
                # JSON has no NaN.
                "nats": float(nats.mean()) if np.isfinite(nats).all() else None,
                "correct": correct.sum(axis=1).tolist(),
                "queries": correct.shape[1],
                "sequences": correct.shape[0],
                "length": task.length,
                "chance": task.chance,
                **getattr(task, "origin", {}),
                "parameters": count_parameters(model),
                "seed": trained.seed,
                "learning_rate": trained.entry[0],
                "weight_decay": trained.entry[1],
                "validation_accuracy": trained.validation,
                "train_seconds": round(trained.seconds, 1),
                "trained_length": max(make_task(fields).length for fields in settings["train"]),
                "seconds_per_sequence": (time.perf_counter() - started) / correct.shape[0],
                "peak_bytes": mx.get_peak_memory(),
            }
        )
    return rows


def answered(model: Titans, batch: Batch, change: dict[str, Any]) -> np.ndarray:
    """Which answers (B, Q) a model, changed or not, gives rightly."""
    return answers(model, batch, change)[0]


def answers(model: Titans, batch: Batch, change: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`answered`, and the negative log-likelihood (B, Q) of each right answer, in nats."""
    reader = changed(model, change)
    right, nats = [], []
    for start in range(0, len(batch.tokens), TEST_ROWS):
        rows = slice(start, start + TEST_ROWS)
        tokens = mx.array(batch.tokens[rows])
        if "kept" in change:
            hidden = read_thinned(reader, tokens, int(batch.positions.min()), change["kept"])
        else:
            hidden = read(reader, tokens, change.get("reset_every"))
        asked = mx.take_along_axis(hidden, mx.array(batch.positions[rows])[:, :, None], axis=1)
        logits = reader.logits(asked).astype(mx.float32)
        nats.append(np.array(nn.losses.cross_entropy(logits, mx.array(batch.answers[rows]))))
        right.append(np.array(mx.argmax(logits, axis=-1)) == batch.answers[rows])
    return np.concatenate(right), np.concatenate(nats)
