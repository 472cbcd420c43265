"""A memory at work, token by token: how surprised it was, what its gates did, how far its weights moved.

For pictures and tests, not for speed: it runs the definition (``recurrent``) one token after the other.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import retention
from titans_mlx.memory.layer import NeuralMemory
from titans_mlx.memory.learner import Gates
from titans_mlx.memory.periods import renewed
from titans_mlx.memory.projections import Inputs
from titans_mlx.memory.recurrent import recurrent, surprise
from titans_mlx.memory.state import MemoryState


class Work(NamedTuple):
    """What a memory did at each token, every field (B, H, L, T) float32: rows, heads, memory layers, tokens.

    Attributes:
        surprise: ``||u_t||_F``, the norm of the gradient of eq. 12 before bound and step size.
        alpha: share of the old weights that is forgotten (eq. 13), the mean over channels that have their own; 0
            without decay.
        eta: share of past surprise that is carried (eq. 14); 0 without momentum.
        theta: share of momentary surprise that is written (eq. 14).
        movement: ``||W_t - W_0||_F``, ``W_0`` the weights of the state it began with.
        rank: effective rank of ``W_t - W_0``: how many directions of the memory are in use; None unless asked for.
    """

    surprise: np.ndarray
    alpha: np.ndarray
    eta: np.ndarray
    theta: np.ndarray
    movement: np.ndarray
    rank: np.ndarray | None = None


@dataclass
class Recorder:
    """An observer that keeps what each memory of a model absorbs, for :func:`trace`.

    A memory that is shown its tokens in pieces (MAC's segments) is kept as one sequence from its first state.

    Attributes:
        memories: in the order in which they first wrote.
        states: of each memory before its first write.
    """

    memories: list[NeuralMemory] = field(default_factory=list)
    states: list[MemoryState] = field(default_factory=list)
    pieces: list[list[Inputs]] = field(default_factory=list)

    def __call__(self, memory: NeuralMemory, state: MemoryState, inputs: Inputs) -> None:
        known = [index for index, other in enumerate(self.memories) if other is memory]
        if known:
            self.pieces[known[0]].append(inputs)
            return
        self.memories.append(memory)
        self.states.append(state)
        self.pieces.append([inputs])

    def traces(self, ranks: bool = False) -> list[Work]:
        """The work of each memory over everything it was shown; ``ranks`` as for :func:`trace`."""
        inputs = [_joined(pieces) for pieces in self.pieces]
        return [trace(*shown, ranks) for shown in zip(self.memories, self.states, inputs, strict=True)]


def trace(memory: NeuralMemory, state: MemoryState, inputs: Inputs, ranks: bool = False) -> Work:
    """What a memory does with ``inputs``, computed by the definition.

    Args:
        memory: whose configuration and norm hold.
        state: before the first token.
        inputs: what an observer was shown: q, k, v (B, H, T, d) and the gates (B, H, L, T).
        ranks: take the effective rank as well: a singular value decomposition for every token.

    Returns:
        :class:`Work` of the T tokens.

    Raises:
        ValueError: if ``state`` is of another configuration or batch size.
    """
    memory.check_state(state, inputs.q.shape[0])
    config, norm, first = memory.config, memory.norm, retention.weights(memory.config, state.weights)
    surprises, movements, used, born = [], [], [], memory.init_state(inputs.q.shape[0])
    for q, k, v, gates in _tokens(inputs):
        if config.reset_every:
            # Here already, since the first surprise of a period is one of the weights at birth.
            state = renewed(config, state, born, mx.ones(q.shape[0], dtype=mx.bool_))
        _, after = recurrent(config, state, q, k, v, gates, norm, born=born, birth=memory.birth)
        threshold = None if gates.threshold is None else gates.threshold[:, :, 0, :, None]
        point = retention.weights(config, _gradient_point(config, state, after, gates, memory.birth))
        gradients = surprise(config, point, norm, k, v, threshold)
        surprises.append(_norms(gradients))
        changes = [w - w0 for w, w0 in zip(retention.weights(config, after.weights), first, strict=True)]
        movements.append(_norms(changes))
        if ranks:
            used.append(np.stack([effective_rank(np.array(change)) for change in changes], axis=-1))
        state = after
        mx.eval(state, surprises[-1], movements[-1])
    gates = inputs.gates._replace(log_keep=_mean_log_keep(config, inputs.gates.log_keep, first))
    gates = Gates(*[None if g is None else _of_layers(g, config.depth) for g in gates])
    nothing = mx.zeros_like(gates.step)
    return Work(
        surprise=np.array(mx.stack(surprises, axis=-1)),
        alpha=np.array(nothing if gates.log_keep is None else -mx.expm1(gates.log_keep)),
        eta=np.array(nothing if gates.log_momentum is None else mx.exp(gates.log_momentum)),
        theta=np.array(gates.step),
        movement=np.array(mx.stack(movements, axis=-1)),
        rank=np.stack(used, axis=-1) if ranks else None,
    )


def effective_rank(weights: np.ndarray) -> np.ndarray:
    """``exp(entropy)`` of the singular values of (..., d_out, d_in), as shares of their sum: (...).

    From 1 (one direction) to the smaller width (all alike; Roy and Vetterli 2007); 0 for a matrix of zeros.
    """
    values = np.linalg.svd(weights.astype(np.float64), compute_uv=False)
    total = values.sum(-1, keepdims=True)
    shares = values / np.where(total > 0, total, 1)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(-1)
    return np.where(total[..., 0] > 0, np.exp(entropy), 0.0)


def trace_rows(works: list[Work], words: list[str], row: int = 0) -> list[dict[str, Any]]:
    """One row of a sequence as a tidy table: a line per memory, head, memory layer and token.

    Args:
        works: of each block's memory, as :meth:`Recorder.traces` gives them.
        words: the T tokens as read, for people.
        row: which of the B sequences.

    Returns:
        Dicts of ``position`` (from 0), ``token``, ``block``, ``head``, ``layer`` (from 1) and the fields of
        :class:`Work`.

    Raises:
        ValueError: if there are not T words, or not so many sequences.
    """
    table = []
    for block, work in enumerate(works, 1):
        count, heads, layers, length = work.theta.shape
        if row not in range(count):
            raise ValueError(f"row must be one of the {count} sequences traced, got {row!r}")
        if len(words) != length:
            raise ValueError(f"words must name the {length} tokens traced, got {len(words)}")
        for head, layer, position in np.ndindex(heads, layers, length):
            values = {
                name: float(array[row, head, layer, position])
                for name, array in work._asdict().items()
                if array is not None
            }
            place = {"position": position, "token": words[position]}
            table.append({**place, "block": block, "head": head + 1, "layer": layer + 1, **values})
    return table


def _tokens(inputs: Inputs) -> list[Inputs]:
    """The inputs of each token on its own."""
    length = inputs.q.shape[2]
    arrays = [mx.split(x, length, axis=2) for x in inputs[:3]]
    gates = inputs.gates.pieces(list(range(1, length)))
    return [Inputs(*token) for token in zip(*arrays, gates, strict=True)]


def _gradient_point(
    config: MemoryConfig,
    before: MemoryState,
    after: MemoryState,
    gates: Gates,
    birth: tuple[mx.array, ...] | None,
) -> tuple[mx.array, ...]:
    """The weights at which a token's gradient was taken."""
    if config.update == "anchored":
        return after.anchor
    if config.decay_first and gates.log_keep is not None:
        # Of one memory layer, as every online memory is.
        return (retention.faded(mx.exp(gates.log_keep)[:, :, 0, :, None], before.weights[0], birth and birth[0]),)
    return before.weights


def _norms(layers: list[mx.array]) -> mx.array:
    """Frobenius norms of arrays (B, H, d_out, d_in), one per memory layer: (B, H, L)."""
    return mx.stack([mx.sqrt((x * x).sum((-1, -2))) for x in layers], axis=-1)


def _mean_log_keep(config: MemoryConfig, log_keep: mx.array | None, weights: tuple[mx.array, ...]) -> mx.array | None:
    """Of each memory layer, where its channels have alphas of their own."""
    if config.decay_per == "head":
        return log_keep
    layers = retention.by_layer(config, log_keep, [(w.shape[-1], w.shape[-2]) for w in weights])
    return mx.log(mx.concatenate([mx.exp(layer).mean(2, keepdims=True) for layer in layers], axis=2))


def _of_layers(gate: mx.array, depth: int) -> mx.array:
    """A gate (B, H, L, T) for each memory layer, where one may serve them all."""
    return mx.broadcast_to(gate, (*gate.shape[:2], depth, gate.shape[3]))


def _joined(pieces: list[Inputs]) -> Inputs:
    """Pieces of a sequence as one."""
    q, k, v = (mx.concatenate(parts, axis=2) for parts in list(zip(*pieces, strict=True))[:3])
    gates = [
        None if parts[0] is None else mx.concatenate(parts, axis=-1)
        for parts in zip(*[piece.gates for piece in pieces], strict=True)
    ]
    return Inputs(q, k, v, Gates(*gates))
