"""The exact online form of the matrix memory: the chunk size changes the speed, never the result.

For ``f = W x`` the gradient at the weights just before each token (eq. 8-14, without the approximation of eq. 16)
couples the tokens of a chunk by a unit lower-triangular system. With ``C'``, ``a'``, ``c'`` the coefficients of the
token before (what token t sees of earlier writes):

    delta_t = 2 (a'_t W k_t + c'_t S k_t - v_t) - 2 sum_{i<t} C'[t, i] theta_i (k_i . k_t) delta_i

Its matrix depends on keys and gates alone, so all chunks are inverted at once and only two small products
per chunk wait for the chunk before.
"""

from typing import NamedTuple

import mlx.core as mx

from titans_mlx._split import joined, split
from titans_mlx.config import MemoryConfig
from titans_mlx.memory.learner import Coefficients, Gates, coefficients, unstack_fields
from titans_mlx.memory.state import MemoryState

SMALLEST_BLOCK = 4


def online(
    config: MemoryConfig,
    state: MemoryState,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    gates: Gates,
    lengths: mx.array | None = None,
    birth: tuple[mx.array] | None = None,
) -> tuple[mx.array, MemoryState]:
    """Absorb and read T tokens; arguments and result as in ``recurrent``.

    Rows may be at unlike positions; with ``lengths`` (B,) row r absorbs its first ``lengths[r]`` tokens only.
    """
    length = q.shape[2]
    real = None if lengths is None else mx.arange(length)[None, :] < lengths[:, None]
    if config.residual:
        v = v - k if config.objective == "l2" else v
    count = max(1, length // config.chunk_size)
    body = count * min(config.chunk_size, length)
    weights, momentum = state.weights[0], None if state.momentum is None else state.momentum[0]
    if birth is not None:
        # The same rule for the difference to birth: errors and reads without what W_0 gives.
        rest, weights = birth[0].swapaxes(-1, -2), weights - birth[0]
        v = v - k @ rest if config.objective == "l2" else v
    reads = []
    for (start, stop, chunks), piece in _cut([(0, body, count), (body, length, 1)], q, k, v, gates):
        here = None if real is None else real[:, start:stop]
        read, weights, momentum = _chunks(config, weights, momentum, *piece, here, chunks)
        reads.append(read)
    y = joined(reads, 2)
    if birth is not None:
        y, weights = y + q @ rest, weights + birth[0]
    absorbed = length if lengths is None else lengths
    after = MemoryState(
        weights=(weights,),
        momentum=None if momentum is None else (momentum,),
        anchor=None,
        position=state.position + absorbed,
        tails=state.tails,
    )
    return (y + q if config.residual else y), after


def _cut(
    spans: list[tuple[int, int, int]], q: mx.array, k: mx.array, v: mx.array, gates: Gates
) -> list[tuple[tuple[int, int, int], tuple[mx.array, mx.array, mx.array, Gates]]]:
    """The inputs of each span (start, stop, anything) that is not empty; the spans follow one another."""
    spans = [span for span in spans if span[1] > span[0]]
    cuts = [start for start, *_ in spans[1:]]
    pieces = [split(x, cuts, axis=2) for x in (q, k, v)]
    return list(zip(spans, zip(*pieces, gates.pieces(cuts), strict=True), strict=True))


def _chunks(
    config: MemoryConfig,
    weights: mx.array,
    momentum: mx.array | None,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    gates: Gates,
    real: mx.array | None,
    count: int,
) -> tuple[mx.array, mx.array, mx.array | None]:
    """``count`` chunks of equal length: systems and right-hand sides for all at once, then the chain of weights."""
    q, k, v = (x.reshape(*x.shape[:2], count, -1, x.shape[-1]) for x in (q, k, v))
    gates = gates.grid(count)
    co = coefficients(gates, None if real is None else real.reshape(-1, 1, 1, count, q.shape[3]))
    co = Coefficients(*[None if x is None else x.squeeze(2) for x in co])
    old_weights, old_momentum, deltas = [], [], []
    for link in unstack_fields(_links(config, co, gates, k, v), 2):
        old_weights.append(weights)
        delta = _plus(link.constant, link.from_weights, weights)
        if momentum is not None:
            old_momentum.append(momentum)
            delta = _plus(delta, link.from_momentum, momentum)
        deltas.append(delta)
        written = delta.swapaxes(-1, -2)
        kept = link.last_weights * weights
        if momentum is not None:
            kept = kept + link.last_momentum * momentum
            momentum = mx.addmm(link.momentum_keep * momentum, written, link.into_momentum)
        weights = mx.addmm(kept, written, link.into_weights)
    scores = (q @ k.swapaxes(-1, -2)) * co.writes * -co.step.swapaxes(-1, -2)
    reads = scores @ mx.stack(deltas, axis=2)
    reads = _plus(reads, co.weights * q, mx.stack(old_weights, axis=2))
    if momentum is not None:
        reads = _plus(reads, co.momentum * q, mx.stack(old_momentum, axis=2))
    return reads.flatten(2, 3), weights, momentum


class Link(NamedTuple):
    """What one chunk needs when its turn in the chain comes; each (B, H, ...).

    ``Delta = constant + from_weights W^T + from_momentum S^T``, and ``Delta^T into_weights`` enters ``W``.
    """

    constant: mx.array
    from_weights: mx.array | None
    from_momentum: mx.array | None
    into_weights: mx.array
    into_momentum: mx.array | None
    last_weights: mx.array
    last_momentum: mx.array | None
    momentum_keep: mx.array | None


def _plus(x: mx.array, rows: mx.array | None, weights: mx.array) -> mx.array:
    """``x + rows W^T``; no rows are zeros."""
    return x if rows is None else mx.addmm(x, rows, weights.swapaxes(-1, -2))


def _links(config: MemoryConfig, co: Coefficients, gates: Gates, k: mx.array, v: mx.array) -> Link:
    """The links of all chunks (B, H, count, ...): their systems are solved before any old weights are known."""
    return Link(
        *_solve(config, co, gates, k, v),
        into_weights=k * (-co.last_writes * co.step),
        into_momentum=None if co.momentum_writes is None else k * (-co.momentum_writes * co.step),
        last_weights=co.last_weights,
        last_momentum=co.last_momentum,
        momentum_keep=co.momentum_keep,
    )


def _solve(
    config: MemoryConfig, co: Coefficients, gates: Gates, k: mx.array, v: mx.array
) -> tuple[mx.array, mx.array | None, mx.array | None]:
    """``Delta = constant + F_W W^T + F_S S^T`` for every chunk, each (..., b, d)."""
    if config.objective == "dot":
        return -v, None, None
    factor = 2.0
    if config.decay_first and gates.log_keep is not None:
        factor = 2.0 * mx.exp(gates.log_keep.squeeze(2)[..., None])
    coupling = factor * _row_before(co.writes, 0) * (k @ k.swapaxes(-1, -2)) * co.step.swapaxes(-1, -2)
    inverse = unit_triangular_inverse(coupling)
    from_weights = inverse @ (factor * _row_before(co.weights, 1) * k)
    from_momentum = None
    if co.momentum is not None:
        from_momentum = inverse @ (factor * _row_before(co.momentum, 0) * k)
    return inverse @ (-2 * v), from_weights, from_momentum


def _row_before(x: mx.array, first: float) -> mx.array:
    """Rows (axis -2) shifted down by one; the first row is ``first``."""
    head = mx.full((*x.shape[:-2], 1, x.shape[-1]), first, dtype=x.dtype)
    return mx.concatenate([head, x[..., :-1, :]], axis=-2)


@mx.custom_function
def unit_triangular_inverse(strict: mx.array) -> mx.array:
    """``(I + N)^-1`` for strictly lower-triangular ``N`` (..., b, b), by matrix products alone.

    Blocks of four rows are inverted exactly and merged by
    ``inv [[P, 0], [Q, R]] = [[P^-1, 0], [-R^-1 Q P^-1, R^-1]]``. Doubling ``(I - N)(I + N^2)...`` on a whole chunk
    overflows for alike keys, and MLX's triangular solvers have no gradient.
    """
    size = strict.shape[-1]
    padded = SMALLEST_BLOCK
    while padded < size:
        padded *= 2
    lead = [(0, 0)] * (strict.ndim - 2)
    n = mx.pad(strict, [*lead, (0, padded - size), (0, padded - size)])
    block = _diagonal_blocks(n, SMALLEST_BLOCK)
    eye = mx.eye(SMALLEST_BLOCK, dtype=n.dtype)
    inverse = (eye - block) @ (eye + block @ block)
    width = SMALLEST_BLOCK
    while width < padded:
        p, r = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        q = _diagonal_blocks(n, 2 * width)[..., width:, :width]
        top = mx.concatenate([p, mx.zeros_like(p)], axis=-1)
        bottom = mx.concatenate([-(r @ q @ p), r], axis=-1)
        inverse = mx.concatenate([top, bottom], axis=-2)
        width *= 2
    return inverse[..., 0, :size, :size]


@unit_triangular_inverse.vjp
def _unit_triangular_inverse_vjp(_: mx.array, cotangent: mx.array, inverse: mx.array) -> mx.array:
    """``-A^T g A^T`` for ``A = (I + N)^-1``: half the time of going back through the blocks."""
    transposed = inverse.swapaxes(-1, -2)
    return -mx.tril(transposed @ cotangent @ transposed, -1)


def _diagonal_blocks(x: mx.array, width: int) -> mx.array:
    """Square blocks on the diagonal, (..., b, b) -> (..., b / width, width, width)."""
    count = x.shape[-1] // width
    grid = x.reshape(*x.shape[:-2], count, width, count, width)
    return mx.moveaxis(mx.diagonal(grid, axis1=-4, axis2=-2), -1, -3)
