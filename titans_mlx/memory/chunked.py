"""The fast form for any depth: a chunk is a handful of matrix products, and no per-token weights are ever formed.

Forward and backward of the memory run once per chunk, at the anchor. Queries then go through the memory layer by
layer with ``W_t`` implicit (paper eq. 16-18 and their dual form; coefficients in ``learner``):

    Y = a * (Z W^T) + c * (Z S^T) - ((Z X^T) * C diag(theta)) Delta

``Z`` are the activations of the queries, ``X`` and ``Delta`` the factors of the writes, rows are tokens. Scalars per
token go to whichever side of a product is narrower. Equal to ``recurrent`` for every configuration it accepts.
"""

from typing import NamedTuple

import mlx.core as mx

from titans_mlx._compiled import compiled, wanted
from titans_mlx._split import split
from titans_mlx.config import MemoryConfig
from titans_mlx.memory import objective, structure
from titans_mlx.memory.learner import Coefficients, Gates, bounded_step, coefficients
from titans_mlx.memory.state import MemoryState
from titans_mlx.memory.structure import Norm

Arrays = tuple[mx.array, ...]


class Fast(NamedTuple):
    """The fast weights: what a chunk reads and replaces."""

    weights: Arrays
    momentum: Arrays | None
    anchor: Arrays


class Write(NamedTuple):
    """The rank-one writes ``theta delta x^T`` of a chunk at one memory layer.

    Shapes: step (B, H, b, 1), delta (B, H, b, d_out), inputs (B, H, b, d_in).
    """

    step: mx.array
    delta: mx.array
    inputs: mx.array


def _fast(state: MemoryState) -> Fast:
    return Fast(*(None if field is None else tuple(field) for field in (state.weights, state.momentum, state.anchor)))


def chunked(
    config: MemoryConfig,
    state: MemoryState,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    gates: Gates,
    norm: Norm | None = None,
) -> tuple[mx.array, MemoryState]:
    """Absorb and read T tokens; arguments and result as in ``recurrent``, all rows at the same position.

    A call that begins in mid-chunk finishes that chunk with its anchor before it takes a new one.
    """
    length, size, phase = q.shape[2], config.chunk_size, state.position % config.chunk_size
    fast = _fast(state)
    head = min(length, (size - phase) % size)
    body = (length - head) // size * size
    spans = [(0, head, 1), (head, head + body, body // size), (head + body, length, 1)]
    reads = []
    for (start, *_, count), piece in cut(spans, q, k, v, gates):
        read, fast = _chunks(config, fast, *piece, norm, count, fresh=start >= head)
        reads.append(read)
    return join(reads), MemoryState(*fast, state.position + length, state.tails)


def chunked_slots(
    config: MemoryConfig,
    state: MemoryState,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    gates: Gates,
    norm: Norm | None,
    lengths: mx.array,
) -> tuple[mx.array, MemoryState]:
    """As :func:`chunked` for rows of unlike position or length: row r absorbs its first ``lengths[r]`` tokens.

    Rows are moved behind ``position mod chunk_size`` masked slots, so that chunk boundaries fall together; a single
    token needs no such room.
    """
    length = q.shape[2]
    begins = state.position % config.chunk_size == 0
    size = config.chunk_size if length > 1 else 1
    phase = state.position % size
    count = -(-(length + size - 1) // size)
    source = mx.arange(count * size)[None, :] - phase[:, None]
    real = (source >= 0) & (source < lengths[:, None])
    source = mx.clip(source, 0, length - 1)
    columns = [split(_gather(x, source, real), count, axis=2) for x in (q, k, v)]
    moved = Gates(*[None if g is None else _gather(g.swapaxes(2, 3), source, real).swapaxes(2, 3) for g in gates])
    chunks = coefficients(moved.grid(count), real.reshape(-1, 1, 1, count, size)).chunks()
    fast = _fast(state)
    reads = []
    for chunk, (chunk_q, chunk_k, chunk_v, co) in enumerate(zip(*columns, chunks, strict=True)):
        due = real[:, chunk * size : (chunk + 1) * size].any(-1) & (begins | (chunk > 0))
        anchor = tuple(mx.where(_per_row(due), w, a) for w, a in zip(fast.weights, fast.anchor, strict=True))
        read, fast = chunk_step(config, fast._replace(anchor=anchor), chunk_q, chunk_k, chunk_v, co, norm)
        reads.append(read)
    back = mx.clip(mx.arange(length)[None, :] + phase[:, None], 0, count * size - 1)
    y = _gather(join(reads), back, mx.arange(length)[None, :] < lengths[:, None])
    return y, MemoryState(*fast, state.position + lengths, state.tails)


def chunk_step(
    config: MemoryConfig,
    fast: Fast,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    co: tuple[Coefficients, ...],
    norm: Norm | None,
) -> tuple[mx.array, Fast]:
    """One chunk, compiled where that is wanted: whole chunks and single tokens, so that few shapes are ever traced."""
    if wanted() and q.shape[2] in (1, config.chunk_size):
        return compiled(plain_step, config, fast, q, k, v, co, norm)
    return plain_step(config, fast, q, k, v, co, norm)


def plain_step(
    config: MemoryConfig,
    fast: Fast,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    co: tuple[Coefficients, ...],
    norm: Norm | None,
) -> tuple[mx.array, Fast]:
    """One chunk: write all its keys with gradients at the anchor, read each query after its own token's write.

    Args:
        config: the memory's configuration.
        fast: weights, momentum and anchor at the chunk's start.
        q, k, v: (B, H, b, d).
        co: coefficients of each memory layer, (B, H, ...), or of one for all.
        norm: slow LayerNorm parameters when ``config.norm``.

    Returns:
        Reads (B, H, b, d) and the fast weights after the chunk, the anchor unchanged.
    """
    co *= config.depth // len(co)
    output, trace = structure.forward(config, structure.with_weights(fast.anchor), k, norm, slopes=True)
    error = objective.error(config, output, v, co[0].threshold)
    deltas = structure.backward(config, fast.anchor, trace, error, norm)
    writes = [
        Write(bounded_step(config, layer.step, delta, inputs), delta, inputs)
        for layer, delta, inputs in zip(co, deltas, trace.inputs, strict=True)
    ]

    def linear(layer: int, z: mx.array) -> mx.array:
        return _read(z, fast, layer, co[layer], writes[layer])

    reads, _ = structure.forward(config, linear, q, norm)
    updated = [_update(fast, layer, co[layer], writes[layer]) for layer in range(config.depth)]
    momentum = None if fast.momentum is None else tuple(m for _, m in updated)
    return reads, Fast(tuple(w for w, _ in updated), momentum, fast.anchor)


def join(pieces: list[mx.array]) -> mx.array:
    """Pieces along the token axis as one array."""
    return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces, axis=2)


def cut(
    spans: list[tuple[int, int, int]], q: mx.array, k: mx.array, v: mx.array, gates: Gates
) -> list[tuple[tuple[int, int, int], tuple[mx.array, mx.array, mx.array, Gates]]]:
    """The inputs of each span (start, stop, anything) that is not empty; the spans follow one another."""
    spans = [span for span in spans if span[1] > span[0]]
    cuts = [start for start, *_ in spans[1:]]
    pieces = [split(x, cuts, axis=2) for x in (q, k, v)]
    return list(zip(spans, zip(*pieces, gates.pieces(cuts), strict=True), strict=True))


def _chunks(
    config: MemoryConfig,
    fast: Fast,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    gates: Gates,
    norm: Norm | None,
    count: int,
    fresh: bool,
) -> tuple[mx.array, Fast]:
    """``count`` chunks of equal length; ``fresh``: each takes its anchor at its start."""
    columns = [split(x, count, axis=2) for x in (q, k, v)]
    reads = []
    for chunk_q, chunk_k, chunk_v, co in zip(*columns, coefficients(gates.grid(count)).chunks(), strict=True):
        if fresh:
            fast = fast._replace(anchor=fast.weights)
        read, fast = chunk_step(config, fast, chunk_q, chunk_k, chunk_v, co, norm)
        reads.append(read)
    return join(reads), fast


def _read(z: mx.array, fast: Fast, layer: int, co: Coefficients, write: Write) -> mx.array:
    """Rows of ``z`` through ``W_t`` of their own token."""
    y = _scaled_product(co.weights, z, fast.weights[layer].swapaxes(-1, -2))
    if fast.momentum is not None:
        y = y + _scaled_product(co.momentum, z, fast.momentum[layer].swapaxes(-1, -2))
    scores = (z @ write.inputs.swapaxes(-1, -2)) * (co.writes * write.step.swapaxes(-1, -2))
    return mx.addmm(y, scores, write.delta, alpha=-1.0)


def _scaled_product(rows: mx.array, z: mx.array, matrix: mx.array) -> mx.array:
    """``diag(rows) z matrix``."""
    return (rows * z) @ matrix if z.shape[-1] <= matrix.shape[-1] else rows * (z @ matrix)


def _update(fast: Fast, layer: int, co: Coefficients, write: Write) -> tuple[mx.array, mx.array | None]:
    """``W_b`` and ``S_b`` of one memory layer."""

    def written(base: mx.array, rows: mx.array) -> mx.array:
        delta, inputs, rows = write.delta, write.inputs, rows * write.step
        if inputs.shape[-1] <= delta.shape[-1]:
            inputs = inputs * rows
        else:
            delta = delta * rows
        return mx.addmm(base, delta.swapaxes(-1, -2), inputs, alpha=-1.0)

    weights = co.last_weights * fast.weights[layer]
    if fast.momentum is None:
        return written(weights, co.last_writes), None
    old = fast.momentum[layer]
    weights = written(weights + co.last_momentum * old, co.last_writes)
    return weights, written(co.momentum_keep * old, co.momentum_writes)


def _gather(x: mx.array, source: mx.array, real: mx.array) -> mx.array:
    """Tokens of x (B, H, T, d), moved per row to slots (B, S); zeros where a slot is not real."""
    moved = mx.take_along_axis(x, source[:, None, :, None], axis=2)
    return mx.where(real[:, None, :, None], moved, 0)


def _per_row(rows: mx.array) -> mx.array:
    return rows.reshape(-1, 1, 1, 1)
