"""What can be changed of a trained model when it is tested: its gates, its chunk, its persistent tokens, its memory."""

import math
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from titans_mlx.blocks import LMMBlock, MACBlock, MAGBlock, MALBlock
from titans_mlx.config import TitansConfig
from titans_mlx.memory import MemoryState, NeuralMemory
from titans_mlx.memory.learner import Gates
from titans_mlx.model import Titans

FACTORS = ("alpha", "eta", "theta")
CLOSED = {"alpha": 0.0, "theta": 0.0}
"""The change by which no token is written or forgotten; momentum of earlier ones goes on."""
STILL = {**CLOSED, "eta": 0.0}
"""The change by which a memory with momentum stands still: that of persistent tokens, read at birth, ends as well."""
COUNTS = ("chunk_size", "reset_every")
HIGHEST = 1 - 1e-6
LEAST_LOG = -80.0
LONG, PIECE = 4096, 1024
"""Sequences longer than this, in tokens, are read in pieces of so many."""


def check_change(change: dict[str, Any]) -> None:
    """Require a change as :func:`changed` and :func:`read` know it."""
    for name, value in change.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in FACTORS:
            if not (number and 0 <= value < math.inf):
                raise ValueError(f"{name} must be a finite factor >= 0, got {value!r}")
        elif name in COUNTS:
            if not (isinstance(value, int) and number and value >= 1):
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
        elif name == "kept":
            if not (number and 0 < value <= 1):
                raise ValueError(f"kept must be a share above 0 and at most 1, got {value!r}")
        elif name != "persistent":
            raise ValueError(f"change must be of {[*FACTORS, *COUNTS, 'kept', 'persistent']}, got {name!r}")
        elif value is not False:
            raise ValueError(f"persistent must be False in a change, got {value!r}")


def changed(model: Titans, change: dict[str, Any]) -> Titans:
    """A model with the same weights and some of these changes; without any, the model itself.

    Args:
        model: trained; left as it is.
        change: ``alpha``, ``eta``, ``theta``: factors on the gates while reading, which stay in their ranges;
            ``chunk_size`` of the memory; ``persistent``: False takes the persistent tokens away. ``reset_every`` is for
            :func:`read`, ``kept`` for :func:`read_thinned`.

    Raises:
        ValueError: if there is no such change, or the model has no memory, or not the gate, that it is of.
    """
    check_change(change)
    reading = {"reset_every", "kept"}
    if not change.keys() - reading:
        return model
    config = model.config
    gates = _gates(config)
    for name in change.keys() - {"persistent"} - reading:
        if not gates[name]:
            raise ValueError(
                f"{name} must be left out for a {config.variant} that has no such thing, got {change[name]!r}"
            )
    if "chunk_size" in change:
        config = config.replace(memory=config.memory.replace(chunk_size=change["chunk_size"]))
    if "persistent" in change:
        config = config.replace(num_persistent=0)
    other = Titans(config)
    known = {name for name, _ in tree_flatten(other.parameters())}
    other.load_weights([(name, array) for name, array in tree_flatten(model.parameters()) if name in known])
    turn(other, {name: change[name] for name in FACTORS if name in change})
    return other


def turn(model: nn.Module, factors: dict[str, float]) -> None:
    """Put factors on the gates of every memory in a model's layers, in the place of those before; none: as trained."""
    for memory in memories(model):
        memory.change_gates = partial(scaled, max_step=memory.config.max_step, **factors) if factors else None


def _gates(config: TitansConfig) -> dict[str, bool]:
    """What a model has of all that can be changed in its memory."""
    memory, has = config.memory, config.variant not in ("transformer", "sliding_window")
    return {
        "alpha": has and memory.decay != "none",
        "eta": has and memory.momentum != "none",
        "theta": has,
        "chunk_size": has,
    }


def scaled(gates: Gates, max_step: float, alpha: float = 1.0, eta: float = 1.0, theta: float = 1.0) -> Gates:
    """Gates times factors: alpha and eta stay below 1, theta at most ``max_step``."""
    log_keep, log_momentum, step, *others = gates
    if log_keep is not None and alpha != 1:
        log_keep = mx.log1p(-mx.minimum(-mx.expm1(log_keep) * alpha, HIGHEST))
    if log_momentum is not None and eta != 1:
        log_momentum = mx.log(mx.clip(mx.exp(log_momentum) * eta, mx.exp(LEAST_LOG), HIGHEST))
    return Gates(log_keep, log_momentum, step if theta == 1 else mx.minimum(step * theta, max_step), *others)


def memories(model: nn.Module) -> list[NeuralMemory]:
    """The memories of a model that has ``layers``, block by block."""
    return [found[0] for found in map(_memory, model.layers) if found is not None]


def read(model: Titans, tokens: mx.array, reset_every: int | None = None) -> mx.array:
    """The model's last hidden vectors (B, T, dim) over tokens (B, T), its memories born anew every so many tokens.

    Attention keeps what it has seen, and positions go on. Long sequences are read in pieces, which changes nothing but
    the memory that it takes.
    """
    length = tokens.shape[1]
    if reset_every is None and length <= LONG:
        return model.hidden(tokens)
    cache, outputs = model.make_cache(), []
    for start in range(0, length, reset_every or PIECE):
        if start and reset_every is not None:
            cache = reborn(model, cache)
        outputs.append(model.hidden(tokens[:, start : start + (reset_every or PIECE)], cache))
        if length > LONG:
            mx.eval(outputs[-1], cache)
    return mx.concatenate(outputs, axis=1)


def read_thinned(model: Titans, tokens: mx.array, start: int, share: float) -> mx.array:
    """The model's last hidden vectors (B, T, dim) over tokens (B, T), its memories thinned out before token ``start``.

    Of every layer of every head the largest ``share`` of the weights stays, the others become 0. From ``start`` on
    nothing is written, which would fill them again.

    Raises:
        ValueError: if the model is MAC, which reads the weights of the segment's start as well.
    """
    if model.config.variant == "mac":
        raise ValueError(f"kept must be left out for mac, which holds weights of its segment's start, got {share}")
    cache = model.make_cache()
    before = model.hidden(tokens[:, :start], cache)
    cache = [_with_memory(state, _thinned(_memory_of(state), share)) for state in cache]
    return mx.concatenate([before, changed(model, CLOSED).hidden(tokens[:, start:], cache)], axis=1)


def _thinned(state: MemoryState, share: float) -> MemoryState:
    momentum = None if state.momentum is None else tuple(mx.zeros_like(weights) for weights in state.momentum)
    return state._replace(weights=tuple(_largest(weights, share) for weights in state.weights), momentum=momentum)


def _largest(weights: mx.array, share: float) -> mx.array:
    """The largest of the weights (B, H, d_out, d_in) by absolute value, per row and head, 0 in place of the rest."""
    size = mx.abs(weights).reshape(*weights.shape[:2], -1)
    count = max(1, round(share * size.shape[-1]))
    least = mx.sort(size, axis=-1)[..., -count][..., None, None]
    return mx.where(mx.abs(weights) >= least, weights, 0.0)


def reborn(model: Titans, states: list[Any]) -> list[Any]:
    """Block states with every memory at birth; attention keeps what it has seen, and positions go on."""
    return [_reborn(layer, state) for layer, state in zip(model.layers, states, strict=True)]


def _memory(layer: nn.Module) -> tuple[NeuralMemory, mx.array | None] | None:
    """A block's memory, and the persistent tokens that it absorbs at birth."""
    if isinstance(layer, MALBlock):
        layer = layer.memory_layer
    if isinstance(layer, LMMBlock | MAGBlock):
        return layer.memory, layer.persistent
    return (layer.memory, None) if isinstance(layer, MACBlock) else None


def _reborn(layer: nn.Module, state: Any) -> Any:
    """A block's state with its memory at birth, tails of convolutions included, which would tell of what was read."""
    found = _memory(layer)
    if found is None:
        return state
    old = _memory_of(state)
    born = found[0].init_state(old.batch_size, found[1])._replace(position=old.position)
    if isinstance(layer, MACBlock):
        return layer.init_state(old.batch_size)._replace(memory=born, segment=state.segment, offset=state.offset)
    return _with_memory(state, born)


def _memory_of(state: Any) -> MemoryState:
    """The memory's part of a block's state."""
    return state if isinstance(state, MemoryState) else state.memory


def _with_memory(state: Any, memory: MemoryState) -> Any:
    return memory if isinstance(state, MemoryState) else state._replace(memory=memory)
