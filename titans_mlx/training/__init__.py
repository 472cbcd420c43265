"""Training: options, the loop, run folders that survive being killed."""

from titans_mlx.training.checkpoint import load_checkpoint, load_parameters, save_checkpoint
from titans_mlx.training.config import TrainConfig
from titans_mlx.training.losses import answer_loss, masked_cross_entropy
from titans_mlx.training.optim import count_parameters, learning_rate, make_optimizer
from titans_mlx.training.provenance import provenance, source_hash
from titans_mlx.training.run_folder import RunFolder
from titans_mlx.training.trainer import TrainingDiverged, TrainResult, train

__all__ = [
    "RunFolder",
    "TrainConfig",
    "TrainResult",
    "TrainingDiverged",
    "answer_loss",
    "count_parameters",
    "learning_rate",
    "load_checkpoint",
    "load_parameters",
    "make_optimizer",
    "masked_cross_entropy",
    "provenance",
    "save_checkpoint",
    "source_hash",
    "train",
]
