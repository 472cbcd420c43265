"""The definition of the memory, one token at a time, as plain as it can be written.

Every fast form equals this one, and tests tie each to it. It takes its gradients from automatic differentiation and
shares with the fast forms only the memory's forward pass, the objective, and the functions of what is held and written.
"""

import mlx.core as mx

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import objective, retention, structure
from titans_mlx.memory.learner import Gates, orthogonalised
from titans_mlx.memory.state import MemoryState, positions, where_rows
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
    born: MemoryState | None = None,
    birth: tuple[mx.array, ...] | None = None,
) -> tuple[mx.array, MemoryState]:
    """Absorb and read T tokens by the recurrence (eq. 13-15), reading after each token's own write.

    Args:
        config: the memory's configuration.
        state: where to start.
        q, k, v: (B, H, T, d), keys and queries already normalised.
        gates: (B, H, L, T) each, or (B, H, 1, T) for all memory layers.
        norm: slow LayerNorm parameters when ``config.norm``.
        real: (B, T) bool, False for slots that count for nothing; None: all real.
        born: the state at birth, where ``config.reset_every`` goes back to it.
        birth: ``W_0`` of each memory layer, (1, H, d_out, d_in), where weights fade to it (``config.decay_to``).

    Returns:
        Reads (B, H, T, d) and the state after the last token.
    """
    batch, _, length, _ = q.shape
    weights, momentum, anchor = state.weights, state.momentum, state.anchor
    position, recent = positions(state, batch), state.recent
    birth, reads = birth or (None,) * config.depth, []
    for t in range(length):
        now = slice(t, t + 1)
        present = mx.ones((batch,), dtype=mx.bool_) if real is None else real[:, t]
        if config.reset_every:
            anew = state._replace(weights=weights, momentum=momentum, anchor=anchor, recent=recent)
            due = present & (position % config.reset_every == 0) & (position > 0)
            anew = where_rows(due, born._replace(tails=state.tails), anew)
            weights, momentum, anchor, recent = anew.weights, anew.momentum, anew.anchor, anew.recent
        if config.update == "anchored":
            due = (present & (position % config.chunk_size == 0)).reshape(-1, 1, 1, 1)
            anchor = tuple(mx.where(due, w, a) for w, a in zip(weights, anchor, strict=True))
        new_weights, new_momentum = [], []
        at = _error_weights(config, weights, anchor, birth, gates, t)
        threshold = None if gates.threshold is None else gates.threshold[:, :, 0, t, None, None]
        at = retention.weights(config, at)
        gradients = _bounded(config, surprise(config, at, norm, k[:, :, now], v[:, :, now], threshold))
        for i in range(config.omega - 1):
            key, value, share = (x[:, :, i : i + 1] for x in recent)
            earlier = _bounded(config, surprise(config, at, norm, key, value))
            gradients = [sum_ + share * gradient for sum_, gradient in zip(gradients, earlier, strict=True)]
        for layer, gradient in enumerate(gradients):
            keep, carry, step = _gate(config, gates, layer, t, weights)
            write = -step * gradient
            if momentum is not None:
                write = carry * momentum[layer] + write
                new_momentum.append(mx.where(_rows(present), write, momentum[layer]))
            if config.orthogonal_writes:
                write = step * orthogonalised(write)
            kept = retention.faded(keep, weights[layer], birth[layer])
            new_weights.append(mx.where(_rows(present), kept + write, weights[layer]))
        weights = tuple(new_weights)
        momentum = None if momentum is None else tuple(new_momentum)
        position = position + present.astype(mx.int32)
        if recent:
            latest = (k[:, :, now], v[:, :, now], gates.share[:, :, 0, t, None, None])
            moved = [mx.concatenate([old[:, :, 1:], new], axis=2) for old, new in zip(recent, latest, strict=True)]
            recent = tuple(mx.where(_rows(present), new, old) for new, old in zip(moved, recent, strict=True))
        linear = structure.with_weights(retention.weights(config, weights))
        reads.append(structure.forward(config, linear, q[:, :, now], norm)[0])
    absorbed = state.position + length if real is None and isinstance(state.position, int) else position
    return mx.concatenate(reads, axis=2), MemoryState(weights, momentum, anchor, absorbed, state.tails, recent)


def _rows(present: mx.array) -> mx.array:
    return present.reshape(-1, 1, 1, 1)


def _gate(
    config: MemoryConfig, gates: Gates, layer: int, t: int, weights: tuple[mx.array, ...]
) -> list[mx.array | float]:
    """``1 - alpha``, ``eta`` and ``theta`` of one layer and token, each (B, H, 1, 1).

    With an alpha per channel the first is (B, H, d_out, 1) or (B, H, 1, d_in).
    """
    keep, carry, step = (
        None if gate is None else gate[:, :, layer % gate.shape[2], t, None, None] for gate in gates[:3]
    )
    if config.decay_per != "head":
        axis = {"row": -2, "column": -1}[config.decay_per]
        start = sum(w.shape[axis] for w in weights[:layer])
        own = gates.log_keep[:, :, start : start + weights[layer].shape[axis], t]
        keep = mx.expand_dims(own, -1 if axis == -2 else -2)
    return [1.0 if keep is None else mx.exp(keep), 0.0 if carry is None else mx.exp(carry), step]


def _error_weights(
    config: MemoryConfig,
    weights: tuple[mx.array, ...],
    anchor: tuple[mx.array, ...] | None,
    birth: tuple[mx.array | None, ...],
    gates: Gates,
    t: int,
) -> tuple[mx.array, ...]:
    """Where the gradient is taken: the anchor, the current weights, or the current weights after decay."""
    if config.update == "anchored":
        return anchor
    if config.decay_first:
        keeps = [_gate(config, gates, layer, t, weights)[0] for layer in range(config.depth)]
        return tuple(map(retention.faded, keeps, weights, birth))
    return weights


def _bounded(config: MemoryConfig, gradients: list[mx.array]) -> list[mx.array]:
    """Gradients of one token, each no larger than the bound."""
    if config.write_bound is None:
        return gradients
    sizes = [(gradient * gradient).sum((-1, -2), keepdims=True) for gradient in gradients]
    scales = [config.write_bound * mx.rsqrt(mx.maximum(size, config.write_bound**2)) for size in sizes]
    return [scale * gradient for scale, gradient in zip(scales, gradients, strict=True)]
