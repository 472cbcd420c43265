"""Losses over the positions that are asked."""

import mlx.core as mx
import mlx.nn as nn


def masked_cross_entropy(logits: mx.array, targets: mx.array, mask: mx.array) -> tuple[mx.array, mx.array]:
    """Mean cross-entropy and accuracy over the positions where ``mask`` is 1, in float32.

    Args:
        logits: (B, T, vocab), any float dtype.
        targets: (B, T) int.
        mask: (B, T) float, at least one of them 1.

    Returns:
        Two scalars: loss in nats, share of answers that are right.

    Raises:
        ValueError: shapes of ``logits``, ``targets`` and ``mask`` do not agree.
    """
    if logits.ndim != 3 or not logits.shape[:2] == targets.shape == mask.shape:
        raise ValueError(
            f"logits must be (B, T, vocab), targets and mask (B, T), "
            f"got {logits.shape}, {targets.shape} and {mask.shape}"
        )
    count = mask.sum()
    losses = nn.losses.cross_entropy(logits.astype(mx.float32), targets)
    right = (mx.argmax(logits, axis=-1) == targets).astype(mx.float32)
    return (losses * mask).sum() / count, (right * mask).sum() / count


def answer_loss(
    model: nn.Module, tokens: mx.array, targets: mx.array, mask: mx.array
) -> tuple[mx.array, dict[str, mx.array]]:
    """A ``loss_fn`` for the trainer over a task's :class:`~titans_mlx.tasks.Batch`: loss and ``accuracy``."""
    loss, accuracy = masked_cross_entropy(model(tokens), targets, mask)
    return loss, {"accuracy": accuracy}
