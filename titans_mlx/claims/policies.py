"""When a memory may write: at every n-th token, or where it is surprised enough."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np

from titans_mlx._check import check_count
from titans_mlx.claims.interventions import changed, memories
from titans_mlx.memory import MemoryState, NeuralMemory
from titans_mlx.memory.learner import Gates
from titans_mlx.memory.projections import Inputs
from titans_mlx.memory.trace import trace
from titans_mlx.model import Titans

Policy = Callable[[int, np.ndarray], np.ndarray]
"""Position and surprise (B,) of a token -> which rows may write it, (B,) bool."""
SEARCHED = 12
"""Halvings of the interval in which a threshold is searched."""


def delayed(every: int) -> Policy:
    """Write at every n-th token: delayed refresh.

    Raises:
        ValueError: if ``every`` is below 1.
    """
    check_count("every", every)
    return lambda position, surprise: np.full(surprise.shape, position % every == every - 1)


def triggered(threshold: float) -> Policy:
    """Write where the surprise is above a threshold."""
    return lambda position, surprise: surprise > threshold


def read_sparingly(model: Titans, tokens: np.ndarray, policy: Policy) -> tuple[mx.array, np.ndarray, np.ndarray]:
    """Read token by token, theta closed where the policy says so; momentum and decay go on.

    Args:
        model: of one block with a memory.
        tokens: (B, T) int.
        policy: asked at every token.

    Returns:
        The last hidden vectors (B, T, dim), which tokens were written (B, T) bool, and the surprise (B, T): the norm of
        the gradient over all heads and memory layers.

    Raises:
        ValueError: if the model has not one memory.
    """
    reader = changed(model, {"theta": 1.0})
    if len(model.layers) != 1 or len(memories(reader)) != 1:
        raise ValueError(f"model must have one block with a memory, got {len(model.layers)} blocks")
    (memory,) = memories(reader)
    cache, hidden, wrote, felt = reader.make_cache(), [], [], []
    for position in range(tokens.shape[1]):
        token = mx.array(tokens[:, position : position + 1])
        memory.change_gates = None
        surprise = _surprise(reader, token, list(cache))
        may = policy(position, surprise)
        open_rows = mx.array(may.reshape(-1, 1, 1, 1))
        memory.change_gates = lambda gates, rows=open_rows: _closed(gates, rows)
        hidden.append(reader.hidden(token, cache))
        mx.eval(hidden[-1], cache)
        wrote.append(may)
        felt.append(surprise)
    return mx.concatenate(hidden, axis=1), np.stack(wrote, axis=1), np.stack(felt, axis=1)


def _closed(gates: Gates, rows: mx.array) -> Gates:
    """Gates that write only where ``rows`` (B, 1, 1, 1) is true, now or with a later token."""
    share = None if gates.share is None else mx.where(rows, gates.share, 0)
    return gates._replace(step=mx.where(rows, gates.step, 0), share=share)


def _surprise(model: Titans, token: mx.array, cache: list) -> np.ndarray:
    """Of one token (B, 1), (B,): what its memory would feel if it wrote it."""
    found: list[np.ndarray] = []

    def observe(memory: NeuralMemory, state: MemoryState, inputs: Inputs) -> None:
        found.append(trace(memory, state, inputs).surprise)

    model.hidden(token, cache, observe)
    return np.sqrt((found[0] ** 2).sum((1, 2, 3)))


def threshold_for(model: Titans, tokens: np.ndarray, share: float) -> float:
    """The surprise above which a share of the tokens (B, T) is written, when only those are.

    Raises:
        ValueError: if ``share`` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie strictly between 0 and 1, got {share!r}")
    _, _, felt = read_sparingly(model, tokens, delayed(1))
    # What has not been written surprises again: the threshold for a share lies above the quantile of full writing.
    low, high = 0.0, 4 * float(felt.max())
    for _ in range(SEARCHED):
        middle = (low + high) / 2
        _, wrote, _ = read_sparingly(model, tokens, triggered(middle))
        low, high = (middle, high) if wrote.mean() > share else (low, middle)
    return high
