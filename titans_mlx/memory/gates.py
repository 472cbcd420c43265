"""The gates of a memory, from its inputs: how much is forgotten, carried and written at each token."""

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._joint import linears
from titans_mlx.config import MemoryConfig
from titans_mlx.memory import retention, structure
from titans_mlx.memory.learner import Gates, make_gates
from titans_mlx.memory.retention import birth_logits


class Gating(nn.Module):
    """The gates' projections, for a module with ``config``, ``dim`` and ``num_heads``."""

    config: MemoryConfig
    dim: int
    num_heads: int
    change_gates: Callable[[Gates], Gates] | None = None

    def _make_gates(self) -> None:
        config, count = self.config, self.num_heads * self.config.gate_layers
        decay = [logit for logit in birth_logits(config, self.num_heads) for _ in range(config.gate_layers)]
        if config.decay == "learned" and config.decay_per == "head":
            self.decay_gate = _gate(self.dim, decay)
        elif config.decay == "learned":
            self.decay_rank_gate = nn.Linear(self.dim, config.decay_rank, bias=False)
            channels = sum(retention.channels(config, structure.widths(config, self.dim // self.num_heads)))
            births = [logit for logit in birth_logits(config, self.num_heads) for _ in range(channels)]
            self.channel_decay_gate = _gate(config.decay_rank, births)
        if config.momentum == "learned":
            self.momentum_gate = _gate(self.dim, [_logit(config.momentum_init)] * count)
        if config.step_size == "learned":
            self.step_gate = _gate(self.dim, [_logit(config.step_init / config.max_step)] * count)
        if config.objective == "huber" and config.threshold == "learned":
            self.threshold_gate = _gate(self.dim, [_inverse_softplus(config.threshold_init)] * self.num_heads)
        if config.omega > 1:
            self.share_gate = _gate(self.dim, [0.0] * self.num_heads)

    def gates(self, x: mx.array, changed: bool = True) -> Gates:
        """The gates of x (B, T, dim), each (B, H, L, T) float32; L is 1 where memory layers share them.

        ``changed``: as ``change_gates`` makes them, where there is one.

        They see a token whose root mean square is above 1 at 1: gates saturated by the size of an input, not by its
        direction, let the outer gradient of a deep memory grow without end.
        """
        config, x = self.config, x.astype(mx.float32)
        x = x * mx.rsqrt(mx.maximum(1, (x * x).mean(-1, keepdims=True)))
        shape = (x.shape[0], self.num_heads, config.gate_layers, x.shape[1])
        logits = self._shared_by_channels(x, shape)
        if config.decay == "learned" and config.decay_per != "head":
            logits["decay"] = self._per_head("channel_decay", self.decay_rank_gate(x))
        elif config.decay == "fixed":
            per_head = mx.array(birth_logits(config, self.num_heads))
            logits["decay"] = mx.broadcast_to(per_head[None, :, None, None], shape)
        if config.objective == "huber" and config.threshold == "learned":
            logits["threshold"] = self._per_head("threshold", x)
        elif config.objective == "huber":
            birth = _inverse_softplus(config.threshold_init)
            logits["threshold"] = mx.full((shape[0], shape[1], 1, shape[3]), birth)
        if config.omega > 1:
            logits["share"] = self._per_head("share", x)
        gates = make_gates(config, logits, shape)
        return self.change_gates(gates) if changed and self.change_gates is not None else gates

    def _shared_by_channels(self, x: mx.array, shape: tuple[int, int, int, int]) -> dict[str, mx.array]:
        """Logits of ``shape`` by the gates that have one number for all channels, as one product."""
        scale = self.config.step_gate_scale
        together = (
            {1.0: ["decay", "momentum", "step"]} if scale == 1.0 else {1.0: ["decay", "momentum"], scale: ["step"]}
        )
        logits: dict[str, mx.array] = {}
        for factor, names in together.items():
            names = [name for name in names if f"{name}_gate" in self]
            if names:
                flat = linears(x if factor == 1.0 else x * factor, [self[f"{name}_gate"] for name in names])
                parts = mx.split(flat.astype(mx.float32).swapaxes(1, 2), len(names), axis=1)
                logits |= {name: part.reshape(shape) for name, part in zip(names, parts, strict=True)}
        return logits

    def _per_head(self, name: str, x: mx.array) -> mx.array:
        """Logits (B, H, ..., T) of a gate that the memory layers share or that counts channels."""
        flat = self[f"{name}_gate"](x).astype(mx.float32).swapaxes(1, 2)
        return flat.reshape(flat.shape[0], self.num_heads, -1, flat.shape[2])


def _gate(dim: int, bias: list[float]) -> nn.Linear:
    gate = nn.Linear(dim, len(bias))
    gate.bias = mx.array(bias)
    return gate


def _logit(p: float) -> float:
    return -math.log(1 / p - 1)


def _inverse_softplus(y: float) -> float:
    # As written it is exact for large values too.
    return y + math.log(-math.expm1(-y))
