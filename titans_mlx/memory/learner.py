"""Choice 4, the learner: gradient step, momentum and decay as coefficients over a chunk.

Inside a chunk that starts from ``W`` and ``S``, with ``u_i`` the gradient of token i (paper eq. 16 and 18, momentum
and decay together, which the paper leaves out):

    W_t = a_t W + c_t S - sum_{i<=t} C[t, i] theta_i u_i        S_b = e_b S - sum_i E[b, i] theta_i u_i
    D[t, s] = prod_{s<j<=t} (1 - alpha_j)    E[s, i] = prod_{i<j<=s} eta_j    C = D diag(m) E
    a_t = D-product from the start           e_s = E-product from the start   c = D (m e)

``m`` is 0 on masked slots: there ``W`` receives no momentum, alpha and theta are 0 and eta is 1. With an alpha per
channel, ``D``, ``C``, ``a`` and ``c`` are one for each channel, and an axis in front of the tokens counts them.
"""

from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import mlx.core as mx

from titans_mlx._split import joined, split
from titans_mlx.config import MemoryConfig
from titans_mlx.memory.retention import by_layer, log_keep, running_products

GATES = ("decay", "momentum", "step", "threshold", "share")
"""The names of the gates' logits, in the order of :class:`Gates`."""
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_EPS = 1e-14

Fields = TypeVar("Fields", bound=tuple)


class Gates(NamedTuple):
    """The memory's gates per token, head and memory layer, each (B, H, L, T) float32; L is 1 where layers share them.

    Attributes:
        log_keep: ``log(1 - alpha)``, or None without decay; with an alpha per channel L counts the channels of one
            memory layer after the other.
        log_momentum: ``log(eta)``, or None without momentum.
        step: ``theta``.
        threshold: of the ``huber`` objective, L is always 1; or None.
        share: by which a token counts in later writes of the Omega rule, in (0, 1), L is always 1; or None.
    """

    log_keep: mx.array | None
    log_momentum: mx.array | None
    step: mx.array
    threshold: mx.array | None = None
    share: mx.array | None = None

    def pieces(self, cuts: list[int]) -> "list[Gates]":
        """The gates cut along the tokens, before each index in ``cuts``."""
        return _together([split(g, cuts, axis=-1) for g in self if g is not None], self)

    def grid(self, count: int) -> "Gates":
        """Tokens laid out as ``count`` chunks of equal length, (B, H, L, count, b)."""
        return Gates(*[None if g is None else g.reshape(*g.shape[:-1], count, -1) for g in self])


class Coefficients(NamedTuple):
    """How a chunk of b slots combines old weights, momentum and writes; leading axes are free.

    Those with "last" are what the weights and momentum at the chunk's end are made of.

    Attributes:
        step: ``theta`` (..., b, 1).
        writes: ``C`` (..., b, b).
        weights: ``a`` (..., b, 1).
        momentum: ``c`` (..., b, 1), or None without momentum.
        last_writes: ``C[b]`` (..., b, 1).
        last_weights: ``a_b`` (..., 1, 1).
        last_momentum: ``c_b`` (..., 1, 1), or None.
        momentum_writes: ``E[b]`` (..., b, 1), or None.
        momentum_keep: ``e_b`` (..., 1, 1), or None.
        threshold: of the objective (..., b, 1), or None.
        received: ``D diag(m) diag(theta)`` (..., b, b), or None but for orthogonal writes.
        carried: ``[e, E]`` (..., b, b + 1), likewise; the identity (b, b) without momentum.
    """

    step: mx.array
    writes: mx.array
    weights: mx.array
    momentum: mx.array | None
    last_writes: mx.array
    last_weights: mx.array
    last_momentum: mx.array | None
    momentum_writes: mx.array | None
    momentum_keep: mx.array | None
    threshold: mx.array | None = None
    received: mx.array | None = None
    carried: mx.array | None = None

    def chunks(self) -> "list[tuple[Coefficients, ...]]":
        """Of coefficients (B, H, L, count, ...): for each chunk, those of its L memory layers."""
        count = self.step.shape[3]
        flat = unstack_fields(self, 2, 3)
        return [tuple(flat[chunk::count]) for chunk in range(count)]


def unstack_fields(fields: Fields, axis: int, last: int | None = None) -> list[Fields]:
    """A named tuple per index of one axis that all its arrays share, or of all axes from ``axis`` to ``last``.

    By few splits: indexing one by one would cost a full-size gradient for every index.
    """
    columns: list[list[mx.array] | None] = [None] * len(fields)
    for places in _alike(fields):
        together = [fields[place] for place in places]
        packed = joined(together, -1)
        packed = packed if last is None else packed.flatten(axis, last)
        rows = [x.squeeze(axis) for x in split(packed, packed.shape[axis], axis=axis)]
        widths = list(accumulate(field.shape[-1] for field in together[:-1]))
        parts = zip(*[mx.split(row, widths, axis=-1) if widths else [row] for row in rows], strict=True)
        for place, part in zip(places, parts, strict=True):
            columns[place] = list(part)
    return _together([column for column in columns if column is not None], fields)


def _alike(fields: tuple[mx.array | None, ...]) -> list[list[int]]:
    """Places of arrays that may travel as one: columns of the same height; a wider array goes alone."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, field in enumerate(fields):
        if field is not None:
            groups.setdefault((field.shape[:-1], place if field.shape[-1] > 1 else None), []).append(place)
    return list(groups.values())


def _together(columns: list[list[mx.array]], like: Fields) -> list[Fields]:
    """Rows of a table of fields as named tuples like ``like``, whose None fields stay None."""
    rows = []
    for values in zip(*columns, strict=True):
        rest = iter(values)
        rows.append(type(like)(*[None if field is None else next(rest) for field in like]))
    return rows


def make_gates(config: MemoryConfig, logits: dict[str, mx.array], shape: tuple[int, int, int, int]) -> Gates:
    """Gates from logits by name, of ``shape`` (B, H, L, T) or as :class:`Gates` has it; None where there are none.

    ``alpha``, ``eta`` and the share are sigmoids, ``theta = max_step * sigmoid``, optionally times ``1 - eta``; the
    threshold of ``huber`` is a softplus.
    """
    decay, momentum, step, threshold, share = (logits.get(name) for name in GATES)
    theta = mx.full(shape, config.max_step) if step is None else config.max_step * mx.sigmoid(step)
    if config.normalized_step:
        theta = theta * mx.sigmoid(-momentum)
    return Gates(
        log_keep=None if decay is None else log_keep(decay),
        log_momentum=None if momentum is None else log_keep(-momentum),
        step=theta,
        threshold=None if threshold is None else mx.logaddexp(threshold, 0),
        share=None if share is None else mx.sigmoid(share),
    )


def implicit_step(step: mx.array, k: mx.array) -> mx.array:
    """``theta / (1 + 2 theta ||k||^2)``: the step that makes ``W_t = W_{t-1} - 2 theta (W_t k - v) k^T``.

    Shapes: step (B, H, L, T), k (B, H, T, d).
    """
    return step / (1 + 2 * step * (k * k).sum(-1)[:, :, None])


def mask_gates(gates: Gates, real: mx.array) -> Gates:
    """Gates with ``theta = 0, alpha = 0, eta = 1`` where ``real`` (B, 1, 1, T) is false."""
    masked = [None if gate is None else mx.where(real, gate, 0) for gate in gates[:3]]
    return Gates(*masked, *gates[3:])


def chunk_coefficients(
    config: MemoryConfig,
    gates: Gates,
    count: int,
    shapes: list[tuple[int, int]],
    real: mx.array | None = None,
) -> list[tuple[Coefficients, ...]]:
    """For each of ``count`` chunks of equal length the coefficients of its memory layers ``(d_in, d_out)``.

    Shapes: gates (B, H, L, T); ``real``, where slots are masked, (B, 1, 1, count, b) bool.
    """
    if config.decay_per == "head":
        return coefficients(gates.grid(count), real, config.orthogonal_writes).chunks()
    others = [None if gate is None else split(gate, gate.shape[2], axis=2) for gate in gates]
    layers = []
    for layer, keep in enumerate(by_layer(config, gates.log_keep, shapes)):
        shared = [None if gate is None else gate[layer % len(gate)] for gate in others[1:]]
        layers.append(unstack_fields(coefficients(Gates(keep, *shared).grid(count), real), 3))
    return [tuple(_without_channels(co) for co in chunk) for chunk in zip(*layers, strict=True)]


def _without_channels(co: Coefficients) -> Coefficients:
    """A layer's coefficients (B, H, channels, ...) without that axis where there is nothing for it to count."""
    alike = {name: getattr(co, name) for name in ("step", "momentum_writes", "momentum_keep", "threshold")}
    return co._replace(**{name: None if x is None else x.squeeze(2) for name, x in alike.items()})


def coefficients(gates: Gates, real: mx.array | None = None, apart: bool = False) -> Coefficients:
    """The chunk's coefficients from gates (..., b) and, where slots are masked, ``real`` (..., b) bool.

    ``apart`` keeps ``D`` and ``E`` beside their product.
    """
    size = gates.step.shape[-1]
    logs = [log for log in (gates.log_momentum, gates.log_keep) if log is not None]
    products = _all_running_products(logs)
    if gates.log_keep is not None:
        weights, fade = mx.split(products.pop(), [1], axis=-1)
    else:
        fade = mx.broadcast_to(mx.tri(size, size, dtype=gates.step.dtype), (*gates.step.shape, size))
        weights = mx.ones_like(gates.step)[..., None]
    received = fade if real is None else fade * real[..., None, :]
    if not products:
        writes, momentum, momentum_writes, momentum_keep = fade, None, None, None
    else:
        momentum, writes = mx.split(received @ products[0], [1], axis=-1)
        momentum_keep, momentum_writes = mx.split(products[0][..., -1:, :].swapaxes(-1, -2), [1], axis=-2)
    return Coefficients(
        step=gates.step[..., None],
        writes=writes,
        weights=weights,
        momentum=momentum,
        last_writes=writes[..., -1:, :].swapaxes(-1, -2),
        last_weights=weights[..., -1:, :],
        last_momentum=None if momentum is None else momentum[..., -1:, :],
        momentum_writes=momentum_writes,
        momentum_keep=momentum_keep,
        threshold=None if gates.threshold is None else mx.broadcast_to(gates.threshold, gates.step.shape)[..., None],
        received=received * gates.step[..., None, :] if apart else None,
        carried=(products[0] if gates.log_momentum is not None else _identity(gates.step)) if apart else None,
    )


def _identity(step: mx.array) -> mx.array:
    """(..., b, b) for gates (..., b)."""
    size = step.shape[-1]
    return mx.broadcast_to(mx.eye(size, dtype=step.dtype), (*step.shape, size))


def _all_running_products(logs: list[mx.array]) -> list[mx.array]:
    """Of several gates, as one where they are alike."""
    if len(logs) == 2 and logs[0].shape == logs[1].shape:
        return list(running_products(mx.stack(logs)))
    return [running_products(log) for log in logs]


def orthogonalised(x: mx.array) -> mx.array:
    """The nearest orthogonal matrix of each (..., m, n), about: singular values of 0.7 to 1.2 (Muon, Jordan 2024).

    Five steps of a Newton-Schulz iteration of degree five; a zero matrix stays one.
    """
    wide = x if x.shape[-2] <= x.shape[-1] else x.swapaxes(-1, -2)
    wide = wide * mx.rsqrt((wide * wide).sum((-1, -2), keepdims=True) + NEWTON_SCHULZ_EPS)
    a, b, c = NEWTON_SCHULZ
    for _ in range(5):
        square = wide @ wide.swapaxes(-1, -2)
        wide = a * wide + (b * square + c * (square @ square)) @ wide
    return wide if x.shape[-2] <= x.shape[-1] else wide.swapaxes(-1, -2)


def bounded_step(config: MemoryConfig, step: mx.array, delta: mx.array, inputs: mx.array) -> mx.array:
    """``theta`` scaled so that no write exceeds the bound: ``|delta x^T|_F = |delta| |x|``.

    Shapes: step (..., T, 1); delta (..., T, d_out); inputs (..., T, d_in).
    """
    if config.write_bound is None:
        return step
    bound = config.write_bound**2
    size = (delta * delta).sum(-1, keepdims=True) * (inputs * inputs).sum(-1, keepdims=True)
    return step * config.write_bound * mx.rsqrt(mx.maximum(size, bound))
