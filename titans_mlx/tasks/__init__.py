"""Data with a known answer: seeded, vectorised NumPy, each task with a worked example in its docstring."""

from titans_mlx.tasks.batch import Batch, Seed, as_rng
from titans_mlx.tasks.copying import CopyTask, InductionTask
from titans_mlx.tasks.mqar import BASED_TEST, BASED_TRAIN, ZOOLOGY_FIGURE_2, MQARTask
from titans_mlx.tasks.needle import NeedleTask
from titans_mlx.tasks.rebinding import RebindingTask
from titans_mlx.tasks.recall import SETTINGS, Context, RecallTask
from titans_mlx.tasks.text import AnomalyTask, TextTask
from titans_mlx.tasks.tracking import TrackingTask
from titans_mlx.tasks.world import WorldTask

__all__ = [
    "BASED_TEST",
    "BASED_TRAIN",
    "SETTINGS",
    "ZOOLOGY_FIGURE_2",
    "AnomalyTask",
    "Batch",
    "Context",
    "CopyTask",
    "InductionTask",
    "MQARTask",
    "NeedleTask",
    "RebindingTask",
    "RecallTask",
    "Seed",
    "TextTask",
    "TrackingTask",
    "WorldTask",
    "as_rng",
]
