"""The definition of the memory, one token at a time, as plain as it can be written.

Every fast form equals this one, and tests tie each to it. It takes its gradients from automatic differentiation and
shares with the fast forms only the memory's forward pass and the objective.
"""

import mlx.core as mx

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import objective, structure
from titans_mlx.memory.learner import Gates
from titans_mlx.memory.state import MemoryState, positions
from titans_mlx.memory.structure import Norm


def surprise(
    config: MemoryConfig,
    weights: tuple[mx.array, ...],
    norm: Norm | None,
    key: mx.array,
    value: mx.array,
    threshold: mx.array | None = None,
) -> list[mx.array]:
    """``u^l = d loss / d W^l`` of one token (eq. 12), each (B, H, d_out, d_in); key and value (B, H, 1, d)."""

    def loss(candidate: list[mx.array]) -> mx.array:
        output, _ = structure.forward(config, structure.with_weights(candidate), key, norm)
        return objective.loss(config, output, value, threshold).sum()

    return mx.grad(loss)(list(weights))


def recurrent(
    config: MemoryConfig,
    state: MemoryState,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    gates: Gates,
    norm: Norm | None = None,
    real: mx.array | None = None,
) -> tuple[mx.array, MemoryState]:
    """Absorb and read T tokens by the recurrence (eq. 13-15), reading after each token's own write.

    Args:
        config: the memory's configuration.
        state: where to start.
        q, k, v: (B, H, T, d), keys and queries already normalised.
        gates: (B, H, L, T) each, or (B, H, 1, T) for all memory layers.
        norm: slow LayerNorm parameters when ``config.norm``.
        real: (B, T) bool, False for slots that count for nothing; None: all real.

    Returns:
        Reads (B, H, T, d) and the state after the last token.
    """
    batch, _, length, _ = q.shape
    weights, momentum, anchor = state.weights, state.momentum, state.anchor
    position = positions(state, batch)
    reads = []
    for t in range(length):
        now = slice(t, t + 1)
        present = mx.ones((batch,), dtype=mx.bool_) if real is None else real[:, t]
        if config.update == "anchored":
            due = (present & (position % config.chunk_size == 0)).reshape(-1, 1, 1, 1)
            anchor = tuple(mx.where(due, w, a) for w, a in zip(weights, anchor, strict=True))
        new_weights, new_momentum = [], []
        at = _error_weights(config, weights, anchor, gates, t)
        threshold = None if gates.threshold is None else gates.threshold[:, :, 0, t, None, None]
        gradients = surprise(config, at, norm, k[:, :, now], v[:, :, now], threshold)
        for layer, gradient in enumerate(gradients):
            keep, carry, step = _gate(gates, layer, t)
            step = step * _bound(config, gradient)
            write = -step * gradient
            if momentum is not None:
                write = carry * momentum[layer] + write
                new_momentum.append(mx.where(_rows(present), write, momentum[layer]))
            new_weights.append(mx.where(_rows(present), keep * weights[layer] + write, weights[layer]))
        weights = tuple(new_weights)
        momentum = None if momentum is None else tuple(new_momentum)
        position = position + present.astype(mx.int32)
        reads.append(structure.forward(config, structure.with_weights(weights), q[:, :, now], norm)[0])
    moved = state.position + length if real is None and isinstance(state.position, int) else position
    return mx.concatenate(reads, axis=2), MemoryState(weights, momentum, anchor, moved, state.tails)


def _rows(present: mx.array) -> mx.array:
    return present.reshape(-1, 1, 1, 1)


def _gate(gates: Gates, layer: int, t: int) -> list[mx.array | float]:
    """``1 - alpha``, ``eta`` and ``theta`` of one layer and token, each (B, H, 1, 1)."""
    shared = gates[:3]
    keep, carry, step = (None if gate is None else gate[:, :, layer % gate.shape[2], t, None, None] for gate in shared)
    return [1.0 if keep is None else mx.exp(keep), 0.0 if carry is None else mx.exp(carry), step]


def _error_weights(
    config: MemoryConfig,
    weights: tuple[mx.array, ...],
    anchor: tuple[mx.array, ...] | None,
    gates: Gates,
    t: int,
) -> tuple[mx.array, ...]:
    """Where the gradient is taken: the anchor, the current weights, or the current weights after decay."""
    if config.update == "anchored":
        return anchor
    if config.decay_first:
        return tuple(_gate(gates, layer, t)[0] * w for layer, w in enumerate(weights))
    return weights


def _bound(config: MemoryConfig, gradient: mx.array) -> mx.array | float:
    if config.write_bound is None:
        return 1.0
    size = (gradient * gradient).sum((-1, -2), keepdims=True)
    return config.write_bound * mx.rsqrt(mx.maximum(size, config.write_bound**2))
