"""What one job of the recall claim does: choose from its grid, train with each seed, ask at every distance."""

from typing import Any

import mlx.core as mx

from titans_mlx.claims.base import Job, Progress, Row, part
from titans_mlx.claims.fitting import fit
from titans_mlx.claims.search import Trained, train_all
from titans_mlx.claims.streaming import recall_by_distance
from titans_mlx.claims.training import recall_batches, recall_loss, validation_accuracy
from titans_mlx.config import TitansConfig
from titans_mlx.model import Titans
from titans_mlx.tasks.recall import SETTINGS, RecallTask
from titans_mlx.training import TrainConfig, count_parameters

COMPILED_STEPS = 300
NEAR = 16_384
"""Up to this distance more sequences are read."""
OF_THE_RUN = ("learning_rate", "weight_decay", "seed", "log_every")
"""Options of the training that a job's settings hold elsewhere, or that change no number."""


def training_options(steps: int) -> dict[str, Any]:
    """How every model of a job is trained, apart from its entry of the grid and its seed."""
    options = TrainConfig(
        steps=steps,
        warmup=min(50, steps // 4),
        min_lr_ratio=0.0,
        # Tracing pays only over many steps; on a fresh machine it first builds its kernels, for about a minute.
        compile=steps >= COMPILED_STEPS,
    ).to_dict()
    return {name: value for name, value in options.items() if name not in OF_THE_RUN}


def train_config(options: dict[str, Any], entry: tuple[float, float], seed: int) -> TrainConfig:
    """One training of a job: its options, an entry of its grid, a seed."""
    rate, weight_decay = entry
    log_every = max(1, options["steps"] // 50)
    return TrainConfig(**options, learning_rate=rate, weight_decay=weight_decay, seed=seed, log_every=log_every)


def run_job(job: Job, progress: Progress | None = None) -> list[Row]:
    """Train over the grid and with every seed, test all; a row per seed and distance."""
    settings, task = job.settings, task_of(job)
    grid, seeds = settings["grid"], settings["seeds"]

    def train_one(entry: tuple[float, float], seed: int, progress: Progress | None) -> Trained:
        return _train_and_validate(settings, task, entry, seed, progress)

    trained, scores = train_all(grid, seeds, train_one, progress, parts=len(seeds))
    before, total = len(grid) + len(seeds) - 1, len(grid) + 2 * len(seeds) - 1
    rows = []
    for index, each in enumerate(trained, before):
        tested = _test(settings, task, each, part(progress, index, total))
        rows += [{**row, "grid_scores": scores} for row in tested]
    return rows


def _train_and_validate(
    settings: dict[str, Any],
    task: RecallTask,
    entry: tuple[float, float],
    seed: int,
    progress: Progress | None,
) -> Trained:
    config = TitansConfig.from_dict(settings["architecture"])
    model, seconds = train_model(settings, config, task, entry, seed, progress)
    validation = settings["validation"]
    accuracy = validation_accuracy(model, task, max(settings["lengths"]), validation["sequences"], validation["seed"])
    return Trained(model, tuple(entry), seed, seconds, accuracy)


def task_of(job: Job) -> RecallTask:
    """The task a job is about."""
    pairs = job.settings["num_pairs"]
    return RecallTask(num_filler=SETTINGS[job.settings["setting"]].num_filler, num_pairs=pairs, num_queries=pairs)


def train_model(
    settings: dict[str, Any],
    config: TitansConfig,
    task: RecallTask,
    entry: tuple[float, float],
    seed: int,
    progress: Progress | None = None,
) -> tuple[Titans, float]:
    """A model trained at an entry of the grid, and the seconds it took."""
    mx.random.seed(seed)
    model = Titans(config)

    batches = recall_batches(task, settings["lengths"], seed, settings["train_pairs"], settings["tokens_per_step"])
    schedule = train_config(settings["training"], entry, seed)
    what = f"{settings['model']}: training"
    result = fit(model, recall_loss(settings["write_cost"]), batches, schedule, what, progress)
    return model, result.seconds


def _test(settings: dict[str, Any], task: RecallTask, trained: Trained, progress: Progress | None) -> list[Row]:
    """A row per distance."""
    common = {
        **{name: settings[name] for name in ("setting", "model", "option")},
        "seed": trained.seed,
        "chance": task.chance,
        "parameters": count_parameters(trained.model),
        "learning_rate": trained.entry[0],
        "weight_decay": trained.entry[1],
        "trained_length": max(settings["lengths"]),
        "train_seconds": round(trained.seconds, 1),
        "validation_accuracy": trained.validation,
    }
    near = [d for d in settings["distances"] if d <= NEAR]
    far = [d for d in settings["distances"] if d > NEAR]
    rows = []
    for distances, count in ((near, settings["near_sequences"]), (far, settings["far_sequences"])):
        if not distances:
            continue
        if progress is not None:
            progress(f"{settings['model']}: reading {distances[-1]:,} tokens", 0.0)
        test = settings["test"]
        for result in recall_by_distance(trained.model, task, distances, count, test["seed"], test["piece"]):
            rows.append(
                {
                    **common,
                    "distance": result.distance,
                    "accuracy": float(result.correct.mean()),
                    "sequences": count,
                    "queries": task.num_queries,
                    "correct": result.correct.sum(axis=1).tolist(),
                    "seconds_per_sequence": result.seconds / count,
                    "peak_bytes": result.peak_bytes,
                    "filler_step": result.filler_step,
                }
            )
    return rows
