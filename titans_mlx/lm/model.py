"""A Titans model as mlx-lm loads, caches and converts it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import BaseModelArgs

from titans_mlx.config import TitansConfig
from titans_mlx.lm import cache as caches
from titans_mlx.memory import Observer
from titans_mlx.model import Cache, Titans

MODEL_TYPE = "titans"
GATES = (
    "decay_gate",
    "decay_rank_gate",
    "channel_decay_gate",
    "momentum_gate",
    "step_gate",
    "threshold_gate",
    "share_gate",
)
"""A memory's gates: their logits move its weights at every token, so they keep full precision."""


@dataclass
class ModelArgs(BaseModelArgs):
    """What mlx-lm reads from ``config.json``: the fields of a :class:`TitansConfig` beside ``model_type``."""

    model_type: str = MODEL_TYPE
    titans: TitansConfig = field(default_factory=TitansConfig)

    @classmethod
    def from_dict(cls, params: dict[str, Any]) -> "ModelArgs":
        """From the whole of ``config.json``; what is no field of the configuration is ignored."""
        return cls(params.get("model_type", MODEL_TYPE), TitansConfig.from_dict(params))


class Model(Titans):
    """:class:`~titans_mlx.model.Titans` under mlx-lm's names; takes mlx-lm's caches as well as its own.

    ``rows_alone``, an attribute, makes the rows of a batch run one by one: each is then bit for bit what it is alone,
    whoever else is in the batch. False by default: rows at one position share their products, whose rounding depends on
    how many they are.

    Args:
        args: a :class:`ModelArgs`.
    """

    rows_alone: bool = False

    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args.titans)
        self.args = args
        self.model_type = args.model_type

    def make_cache(self) -> list[Any]:
        """An empty cache of mlx-lm's own classes (``ArraysCache``, ``KVCache``), one entry per layer."""
        return caches.make_cache(self.config)

    def __call__(self, tokens: mx.array, cache: list[Any] | None = None) -> mx.array:
        """Logits (B, T, vocab_size) of tokens (B, T); ``cache`` is mlx-lm's or a list of block states.

        With mlx-lm's the ids are not looked at, which would wait for the token before.
        """
        if caches.is_mlx_lm(cache):
            return self._under_mlx_lm(tokens, cache, self.logits)
        return super().__call__(tokens, cache)

    def hidden(self, tokens: mx.array, cache: list[Any] | None = None, observe: Observer | None = None) -> mx.array:
        """As :meth:`Titans.hidden`, with mlx-lm's caches too."""
        if caches.is_mlx_lm(cache):
            return self._under_mlx_lm(tokens, cache, lambda hidden: hidden, observe)
        return super().hidden(tokens, [None] * len(self.layers) if cache is None else cache, observe)

    def _under_mlx_lm(
        self,
        tokens: mx.array,
        cache: list[Any],
        after: Callable[[mx.array], mx.array],
        observe: Observer | None = None,
    ) -> mx.array:
        forward = super().hidden

        def run(ids: mx.array, states: list[Any]) -> mx.array:
            return after(forward(ids, states, observe))

        return caches.run(self.config, cache, tokens, run, self.rows_alone)

    def check_cache(self, cache: Cache | list[Any], batch_size: int) -> None:
        """Raise a ValueError unless ``cache`` is this model's; mlx-lm's own are of as many layers."""
        if not caches.is_mlx_lm(cache):
            super().check_cache(cache, batch_size)
        elif len(cache) != len(self.layers):
            raise ValueError(f"cache must have an entry for each of {len(self.layers)} layers, got {len(cache)}")

    @property
    def quant_predicate(self) -> Any:
        """Quantise everything but the memory's gates; its initial weights are no linear layers and stay as they are."""

        def predicate(path: str, module: nn.Module) -> bool:
            return not path.endswith(GATES)

        return predicate

    @property
    def cast_predicate(self) -> Any:
        """Whether ``convert --dtype`` may change a parameter: not the memory's gates nor its initial weights."""

        def predicate(path: str) -> bool:
            return "initial_weights" not in path and not any(gate in path for gate in GATES)

        return predicate
