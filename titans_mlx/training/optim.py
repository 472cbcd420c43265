"""AdamW with bias correction, or Muon beside it; warm-up and cosine; the rule for what is decayed."""

import math
from collections.abc import Callable
from fnmatch import fnmatchcase

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten

from titans_mlx.training.config import TrainConfig

PROJECTIONS = "*_proj.weight"
"""What Muon orthogonalises: matrices between vectors of the model, not embeddings, gates, taps or memories."""


class _Muon(optim.Muon):
    """Muon with decoupled weight decay: MLX's own makes the decay orthogonal with the gradient, and drowns it."""

    def __init__(self, rate: Callable[[mx.array], mx.array], decay: float) -> None:
        super().__init__(rate, momentum=0.95, weight_decay=0.0)
        self.decay = decay

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        """As AdamW decays: a parameter loses the rate times the decay of itself, before its update."""
        kept = 1 - self.decay * self.learning_rate.astype(parameter.dtype)
        return super().apply_single(gradient, kept * parameter, state)


def learning_rate(config: TrainConfig, peak: float | None = None) -> Callable[[mx.array], mx.array]:
    """The rate as a function of how many updates have been made, which is what MLX's optimisers ask for.

    Step ``s = updates + 1`` of warm-up ``w`` and ``n`` steps in all uses ``peak * s / w`` while ``s <= w``,
    then ``peak * (m + (1 - m) (1 + cos(pi (s - w) / (n - w))) / 2)`` with ``m = min_lr_ratio``, so
    ``m * peak`` at ``s = n``. The peak is ``config.learning_rate`` unless given.
    """
    peak = config.learning_rate if peak is None else peak
    floor, span = config.min_lr_ratio, max(config.steps - config.warmup, 1)

    def rate(updates: mx.array) -> mx.array:
        step = updates.astype(mx.float32) + 1
        rise = step / max(config.warmup, 1)
        progress = mx.clip((step - config.warmup) / span, 0, 1)
        fall = floor + (1 - floor) * 0.5 * (1 + mx.cos(math.pi * progress))
        return peak * mx.where(step <= config.warmup, rise, fall)

    return rate


def decays(config: TrainConfig, name: str, parameter: mx.array) -> bool:
    """Whether weight decay acts on a parameter: matrices and larger, unless ``config.no_decay`` names it.

    Vectors, which biases and most gains are, are left alone: pulling a gate's bias to zero opens it.
    """
    return parameter.ndim >= 2 and not any(fnmatchcase(name, pattern) for pattern in config.no_decay)


def make_optimizer(config: TrainConfig, model: nn.Module) -> optim.MultiOptimizer:
    """The configured optimiser over the model's trainable parameters, its state formed (a compiled step needs it)."""
    rate = learning_rate(config)

    def adamw(weight_decay: float) -> optim.AdamW:
        return optim.AdamW(rate, list(config.betas), config.eps, weight_decay, bias_correction=True)

    decayed = {name for name, p in tree_flatten(model.trainable_parameters()) if decays(config, name, p)}
    optimizers, filters = [adamw(config.weight_decay), adamw(0.0)], [lambda name, _: name in decayed]
    if config.optimizer == "muon":
        rate_of_muon = learning_rate(config, config.muon_learning_rate)
        optimizers.append(_Muon(rate_of_muon, config.weight_decay))
        turned = {name for name in decayed if fnmatchcase(name, PROJECTIONS)}
        filters = [lambda name, _: name in decayed - turned, lambda name, _: name not in turned]
    optimizer = optim.MultiOptimizer(optimizers, filters)
    optimizer.init(model.trainable_parameters())
    return optimizer


def count_parameters(model: nn.Module, trainable: bool = False) -> int:
    """Number of scalars in the model's parameters, or in its trainable ones."""
    parameters = model.trainable_parameters() if trainable else model.parameters()
    return sum(array.size for _, array in tree_flatten(parameters))
