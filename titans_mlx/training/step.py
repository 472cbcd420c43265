"""One update: the gradient of a batch, whole or in parts, here or on several machines; clipped; applied."""

import math
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map, tree_map_with_path

from titans_mlx._random import set_random_state
from titans_mlx.training.config import TrainConfig

Loss = mx.array | tuple[mx.array, dict[str, mx.array]]
LossFunction = Callable[..., Loss]
Metrics = dict[str, mx.array]

FLOAT32 = ("*initial_weights_*", "*_gate.*")
"""What is never rounded to a smaller dtype: a memory's gates move its weights at every token."""


def make_step(
    model: nn.Module,
    optimizer: optim.Optimizer,
    loss_fn: LossFunction,
    config: TrainConfig,
    group: mx.distributed.Group | None = None,
) -> tuple[Callable[..., tuple[mx.array, Metrics, mx.array]], list[Any]]:
    """One update as a function of a batch, and the state that it reads and writes.

    With ``group`` each process takes its share of the batch's rows, and gradients, loss and metrics are averaged.
    """
    limit = math.inf if config.clip is None else config.clip
    state = [model.state, optimizer.state, mx.random.state]
    whole = config.accumulate == 1 and not config.truncate and group is None
    gradient = _gradient(model, loss_fn, config)

    def update(gradients: Any) -> mx.array:
        gradients, norm = optim.clip_grad_norm(gradients, limit)
        optimizer.update(model, gradients)
        return norm

    def advance(*batch: mx.array) -> tuple[mx.array, Metrics, mx.array]:
        (loss, (metrics, _)), gradients = gradient(*batch)
        return loss, metrics, update(gradients)

    compiled = partial(mx.compile, inputs=state, outputs=state) if config.compile else lambda function: function
    if whole:
        return compiled(advance), state
    # Pieces of a sequence begin at unlike positions, each of which would be traced.
    part = gradient if config.truncate else compiled(gradient)
    apply = compiled(update)

    def advance_in_parts(*batch: mx.array) -> tuple[mx.array, Metrics, mx.array]:
        sums = None
        for weight, rows in _rows(batch, config.accumulate, group):
            for share, outcome in _through(part, rows, config.truncate, len(model.layers) if config.truncate else 0):
                scaled = tree_map(lambda x, scale=weight * share: x * scale, outcome)
                sums = scaled if sums is None else tree_map(mx.add, sums, scaled)
                mx.eval(sums)
        loss, metrics, gradients = sums
        if group is not None:
            gradients = nn.average_gradients(gradients, group)
            loss, metrics = tree_map(lambda x: mx.distributed.all_sum(x, group=group) / group.size(), (loss, metrics))
        return loss, metrics, apply(gradients)

    return advance_in_parts, state


def _gradient(model: nn.Module, loss_fn: LossFunction, config: TrainConfig) -> Callable[..., Any]:
    """``((loss, (metrics, states)), gradients)`` of a batch, from states where given."""

    def outcome(model: nn.Module, *batch: mx.array, states: list[Any] | None = None) -> Any:
        if config.dtype != "float32":
            model.update(_rounded(model.trainable_parameters(), getattr(mx, config.dtype)))
        states = None if states is None else list(states)
        found = loss_fn(model, *batch) if states is None else loss_fn(model, *batch, cache=states)
        loss, metrics = found if isinstance(found, tuple) else (found, {})
        return loss, (metrics, states)

    value_and_grad = partial(nn.value_and_grad(model, outcome), model)
    if config.dtype == "float32":
        return value_and_grad

    def of_rounded(*arguments: Any, **states: Any) -> Any:
        kept = model.trainable_parameters()
        try:
            return value_and_grad(*arguments, **states)
        finally:
            model.update(kept)

    return of_rounded


def _rounded(parameters: Any, dtype: mx.Dtype) -> Any:
    def cast(name: str, parameter: mx.array) -> mx.array:
        kept = any(fnmatchcase(name, pattern) for pattern in FLOAT32)
        return parameter if kept else parameter.astype(dtype)

    return tree_map_with_path(cast, parameters)


def _rows(
    batch: Sequence[mx.array], parts: int, group: mx.distributed.Group | None
) -> Iterator[tuple[float, list[mx.array]]]:
    """This process's rows in equal parts, each with its weight in the process's mean."""
    size, rank = (1, 0) if group is None else (group.size(), group.rank())
    count = len(batch[0])
    if count % (size * parts):
        raise ValueError(f"a batch must have a multiple of processes * accumulate = {size} * {parts} rows, got {count}")
    own = count // size
    for first in range(rank * own, (rank + 1) * own, own // parts):
        yield 1 / parts, [array[first : first + own // parts] for array in batch]


def _through(
    part: Callable[..., Any], batch: list[mx.array], truncate: int, layers: int
) -> Iterator[tuple[float, tuple[mx.array, Metrics, Any]]]:
    """A part's pieces in time, each with its share of the tokens and its loss, metrics and gradients."""
    if not truncate:
        (loss, (metrics, _)), gradients = part(*batch)
        yield 1.0, (loss, metrics, gradients)
        return
    length, states = batch[0].shape[1], [None] * layers
    for first in range(0, length, truncate):
        piece = [array[:, first : first + truncate] for array in batch]
        (loss, (metrics, states)), gradients = part(*piece, states=states)
        mx.eval(states)
        yield piece[0].shape[1] / length, (loss, metrics, gradients)


def share_state(model: nn.Module, optimizer: optim.Optimizer, step: int, group: mx.distributed.Group) -> int:
    """Give every process the parameters, optimiser state, random state and step of process 0; returns the step."""
    leads = group.rank() == 0

    def of_first(array: mx.array) -> mx.array:
        return mx.distributed.all_sum(array if leads else mx.zeros_like(array), group=group)

    def shared(tree: Any) -> Any:
        return tree_map(lambda leaf: of_first(leaf) if isinstance(leaf, mx.array) else leaf, tree)

    model.update(shared(model.parameters()))
    optimizer.state = shared(optimizer.state)
    random, first = of_first(mx.random.state[0]), of_first(mx.array(step))
    mx.eval(model.parameters(), optimizer.state, random, first)
    set_random_state(random)
    return first.item()
