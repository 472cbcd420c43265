"""A memory alone: pairs written with gates that stand still, then read; nothing around it, nothing trained."""

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from titans_mlx.claims.base import Row
from titans_mlx.claims.statistics import accuracy_interval
from titans_mlx.config import MemoryConfig
from titans_mlx.memory import NeuralMemory, retention, structure
from titans_mlx.memory.learner import Gates, implicit_step
from titans_mlx.memory.state import MemoryState

BIRTH = 0.001
"""Of an alpha that is not used: one per head would be too many."""


class Still(NamedTuple):
    """Gates that are the same at every token.

    Attributes:
        theta: step size, at least 0.
        eta: share of past surprise that is carried, in (0, 1).
        alpha: share of the old weights that is forgotten, in [0, 1).
        threshold: of the objective ``huber``, above 0.
        share: by which a token counts in later writes of the Omega rule, in [0, 1].
    """

    theta: float = 0.1
    eta: float = 0.5
    alpha: float = 0.0
    threshold: float = 1.0
    share: float = 0.5


class Stored(NamedTuple):
    """A memory that has read, its state, and its weights now and at birth, (B, 1, d_out, d_in) per layer."""

    memory: NeuralMemory
    state: MemoryState
    weights: tuple[mx.array, ...]
    born: tuple[mx.array, ...]


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors (..., d) of length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def random_pairs(seed: tuple[int, ...], count: int, pairs: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Random unit keys and values (count, pairs, width)."""
    rng = np.random.default_rng(seed)
    return unit(rng.normal(size=(count, pairs, width))), unit(rng.normal(size=(count, pairs, width)))


def store(config: MemoryConfig, keys: np.ndarray, values: np.ndarray, gates: Still, seed: int = 0) -> Stored:
    """A new memory of one head after it has written keys and values (B, T, d), token by token.

    Args:
        config: of the memory; its projections, convolutions and what its gates are born with are not used.
        keys: (B, T, d), of any length.
        values: (B, T, d).
        gates: for every token.
        seed: of the weights at birth.
    """
    count, _, width = keys.shape
    mx.random.seed(seed)
    memory = NeuralMemory(width, 1, config.replace(decay_init=BIRTH), readout=False)
    k, v = (mx.array(x[:, None].astype(np.float32)) for x in (keys, values))
    k = structure.features(config, k)
    born = memory.init_state(count)
    _, state = memory.run(born, k, k, v, _gates(config, gates, k, width))
    return Stored(memory, state, *(retention.weights(config, held.weights) for held in (state, born)))


def read(stored: Stored, keys: np.ndarray) -> np.ndarray:
    """What a memory gives for keys (B, T, d): (B, T, d)."""
    q = structure.features(stored.memory.config, mx.array(keys[:, None].astype(np.float32)))
    return np.array(stored.memory.retrieve(q, stored.state.weights))


def recalled(stored: Stored, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which keys (B, T, d) give what is nearest, of all values (B, N, d), to the one in their place, by inner product.

    A memory that has diverged gives no answer.
    """
    given = read(stored, keys)
    finite = np.isfinite(given).all(-1)
    scores = np.where(finite[..., None], given, 0) @ values.swapaxes(-1, -2)
    return finite & (scores.argmax(-1) == np.arange(keys.shape[1]))


def recall_curve(
    config: MemoryConfig, gates: Still, counts: Sequence[int], width: int = 16, sequences: int = 16
) -> list[Row]:
    """Recall against the number of pairs stored, each written once: a row per count.

    An answer is looked for among as many values as the largest count has, whatever is stored: chance is the same.

    Returns:
        Rows of ``pairs``, ``accuracy`` with its 95 % interval over sequences (``low``, ``high``), ``chance``, ``seeds``
        (1) and ``answers``.
    """
    rows = []
    keys, values = random_pairs((0,), sequences, max(counts), width)
    for pairs in counts:
        asked = keys[:, :pairs]
        right = recalled(store(config, asked, values[:, :pairs], gates), asked, values)
        low, high = accuracy_interval([right])
        row = {"pairs": pairs, "accuracy": float(right.mean()), "low": low, "high": high}
        rows.append(row | {"chance": 1 / max(counts), "seeds": 1, "answers": right.size})
    return rows


def _gates(config: MemoryConfig, gates: Still, k: mx.array, width: int) -> Gates:
    count, _, length, _ = k.shape
    shape = (count, 1, config.gate_layers, length)
    channels = retention.channels(config, structure.widths(config, width))
    rows = config.gate_layers if config.decay_per == "head" else sum(channels)
    made = Gates(
        log_keep=None if config.decay == "none" else mx.full((count, 1, rows, length), float(np.log1p(-gates.alpha))),
        log_momentum=None if config.momentum == "none" else mx.full(shape, float(np.log(gates.eta))),
        step=mx.full(shape, gates.theta),
        threshold=mx.full((count, 1, 1, length), gates.threshold) if config.objective == "huber" else None,
        share=mx.full((count, 1, 1, length), gates.share) if config.omega > 1 else None,
    )
    return made._replace(step=implicit_step(made.step, k)) if config.implicit_step else made
