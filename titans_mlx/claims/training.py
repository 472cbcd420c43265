"""Training a model on recall at mixed lengths, with an equal number of tokens at every step."""

import dataclasses
from collections.abc import Callable, Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from titans_mlx.memory import MemoryState, NeuralMemory, Observer
from titans_mlx.memory.projections import Inputs
from titans_mlx.model import Cache, Titans
from titans_mlx.tasks.recall import RecallTask

TRAIN, VALIDATE = 0, 1
"""First part of a batch's seed, so that no training batch is ever validated on."""


def recall_batches(
    task: RecallTask,
    lengths: Sequence[int],
    seed: int,
    pairs: Sequence[int] = (),
    tokens: int = 2048,
) -> Callable[[int], tuple[np.ndarray, ...]]:
    """Step -> (tokens, positions, answers), as many sequences of a random length as ``tokens`` allow.

    ``pairs``: how many pairs a batch may have, those taken that fit its length; none given: the task's own number.

    Raises:
        ValueError: if a length holds none of the numbers of pairs.
    """
    tasks = [dataclasses.replace(task, num_pairs=n, num_queries=n) for n in pairs] or [task]
    for length in lengths:
        min(tasks, key=lambda t: t.length(0)).distance(length)

    def batch(step: int) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng((TRAIN, seed, step))
        length = int(rng.choice(lengths))
        fitting = [t for t in tasks if t.length(0) <= length]
        chosen = fitting[rng.integers(len(fitting))]
        drawn = chosen.sample(max(1, tokens // length), length, (TRAIN, seed, step, length))
        return drawn.tokens, drawn.positions, drawn.answers

    return batch


def recall_loss(write_cost: float) -> Callable[..., tuple[mx.array, dict[str, mx.array]]]:
    """Cross-entropy of the answers, plus ``write_cost`` times the sum over memories of their mean step size.

    The write cost is not part of Titans. It asks a memory not to write what it need not.
    """

    def loss(
        model: Titans, tokens: mx.array, positions: mx.array, answers: mx.array
    ) -> tuple[mx.array, dict[str, mx.array]]:
        steps: dict[int, list[mx.array]] = {}

        def observe(memory: NeuralMemory, state: MemoryState, inputs: Inputs) -> None:
            steps.setdefault(id(memory), []).append(inputs.gates.step)

        logits = asked_logits(model, tokens, positions, observe=observe).astype(mx.float32)
        entropy = nn.losses.cross_entropy(logits, answers, reduction="mean")
        accuracy = (mx.argmax(logits, axis=-1) == answers).astype(mx.float32).mean()
        if write_cost:
            # MAC shows its memory one segment at a time: a memory's mean is over all it was shown.
            entropy += write_cost * sum(mx.concatenate(shown, axis=-1).mean() for shown in steps.values())
        return entropy, {"accuracy": accuracy}

    return loss


def asked_logits(
    model: Titans,
    tokens: mx.array,
    positions: mx.array,
    cache: Cache | None = None,
    observe: Observer | None = None,
) -> mx.array:
    """Logits (B, Q, vocab_size) where a model is asked: tokens (B, T) and positions (B, Q) are int."""
    hidden = model.hidden(tokens, cache, observe)
    return model.logits(mx.take_along_axis(hidden, positions[:, :, None], axis=1))


def validation_accuracy(model: Titans, task: RecallTask, length: int, sequences: int, seed: int) -> float:
    """Accuracy on fresh sequences of one length."""
    batch = task.sample(sequences, length, (VALIDATE, seed, length))
    logits = asked_logits(model, mx.array(batch.tokens), mx.array(batch.positions))
    return float(np.mean(np.array(mx.argmax(logits, axis=-1)) == batch.answers))
