"""The fast form for any depth: a chunk is a handful of matrix products, without the weights of any token.

Forward and backward of the memory run once per chunk, at the anchor. Queries then go through the memory layer by
layer with ``W_t`` implicit (paper eq. 16-18 and their dual form; coefficients in ``learner``):

    Y = a * (Z W^T) + c * (Z S^T) - ((Z X^T) * C diag(theta)) Delta

``Z`` are the activations of the queries, ``X`` and ``Delta`` the factors of the writes, rows are tokens (``writes``).
Where no sum of writes gives a token's weights, they are formed after all (``formed``). Equal to ``recurrent`` for every
configuration it accepts.
"""

import mlx.core as mx

from titans_mlx._compiled import compiled, wanted
from titans_mlx._split import joined, split
from titans_mlx.config import MemoryConfig
from titans_mlx.memory import objective, retention, structure
from titans_mlx.memory.formed import formed
from titans_mlx.memory.learner import Coefficients, Gates, bounded_step, chunk_coefficients
from titans_mlx.memory.omega import Written, widened, written
from titans_mlx.memory.state import MemoryState
from titans_mlx.memory.structure import Norm
from titans_mlx.memory.writes import FORMS, Arrays, Fast, Write


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
    birth: Arrays | None = None,
) -> tuple[mx.array, MemoryState]:
    """Absorb and read T tokens; arguments and result as in ``recurrent``, all rows at the same position.

    A call that begins in mid-chunk finishes that chunk with its anchor before it takes a new one.
    """
    length, size, phase = q.shape[2], config.chunk_size, state.position % config.chunk_size
    fast = _fast(state)
    head = min(length, (size - phase) % size)
    body = (length - head) // size * size
    spans = [(0, head, 1), (head, head + body, body // size), (head + body, length, 1)]
    spans, past = [span for span in spans if span[1] > span[0]], config.omega - 1
    writes, gates = written(config, state, k, v, gates)
    bounds = [0, *(stop for _, stop, _ in spans)]
    pieces = (split(q, bounds[1:-1], axis=2), writes.pieces(bounds, past), gates.pieces(bounds[1:-1]))
    reads = []
    for (start, _, count), *piece in zip(spans, *pieces, strict=True):
        read, fast = _chunks(config, fast, *piece, norm, birth, count, fresh=start >= head)
        reads.append(read)
    return joined(reads, 2), MemoryState(*fast, state.position + length, state.tails, writes.recent(past, length))


def chunked_slots(
    config: MemoryConfig,
    state: MemoryState,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    gates: Gates,
    norm: Norm | None,
    lengths: mx.array,
    birth: Arrays | None = None,
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
    writes, gates = written(config, state, k, v, gates)
    past = config.omega - 1
    seen = mx.arange(-past, count * size)[None, :] - phase[:, None]
    known = (seen >= -past) & (seen < lengths[:, None])
    seen = mx.clip(seen + past, 0, length + past - 1)
    # A slot that counts for nothing still holds a token: zeros are where a loss may have no slope.
    share = None if writes.share is None else _gather(writes.share, seen, known)
    there = Written(_gather(writes.k, seen), _gather(writes.v, seen), share)
    source, real = mx.clip(seen[:, past:] - past, 0, length - 1), known[:, past:]
    real = real & (mx.arange(count * size)[None, :] >= phase[:, None])
    moved = Gates(*[None if g is None else _gather(g.swapaxes(2, 3), source, real).swapaxes(2, 3) for g in gates])
    if gates.threshold is not None:
        moved = moved._replace(threshold=_gather(gates.threshold.swapaxes(2, 3), source).swapaxes(2, 3))
    fast = _fast(state)
    chunks = chunk_coefficients(config, moved, count, _shapes(fast), real.reshape(-1, 1, 1, count, size))
    bounds = list(range(0, count * size + 1, size))
    columns = (split(_gather(q, source, real), count, axis=2), there.pieces(bounds, past), chunks)
    reads = []
    for chunk, (chunk_q, (chunk_k, chunk_v, share), co) in enumerate(zip(*columns, strict=True)):
        co = widened(co, share)
        due = real[:, chunk * size : (chunk + 1) * size].any(-1) & (begins | (chunk > 0))
        anchor = tuple(mx.where(_per_row(due), w, a) for w, a in zip(fast.weights, fast.anchor, strict=True))
        read, fast = chunk_step(config, fast._replace(anchor=anchor), chunk_q, chunk_k, chunk_v, co, norm, birth)
        reads.append(read)
    back = mx.clip(mx.arange(length)[None, :] + phase[:, None], 0, count * size - 1)
    y = _gather(joined(reads, 2), back, mx.arange(length)[None, :] < lengths[:, None])
    return y, MemoryState(*fast, state.position + lengths, state.tails, writes.recent(past, lengths))


def chunk_step(
    config: MemoryConfig,
    fast: Fast,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    co: tuple[Coefficients, ...],
    norm: Norm | None,
    birth: Arrays | None,
) -> tuple[mx.array, Fast]:
    """One chunk, compiled where that is wanted: whole chunks and single tokens, so that few shapes are ever traced."""
    if wanted() and q.shape[2] in (1, config.chunk_size):
        return compiled(plain_step, config, fast, q, k, v, co, norm, birth)
    return plain_step(config, fast, q, k, v, co, norm, birth)


def plain_step(
    config: MemoryConfig,
    fast: Fast,
    q: mx.array,
    k: mx.array,
    v: mx.array,
    co: tuple[Coefficients, ...],
    norm: Norm | None,
    birth: Arrays | None,
) -> tuple[mx.array, Fast]:
    """One chunk: write all its keys with gradients at the anchor, read each query after its own token's write.

    Args:
        config: the memory's configuration.
        fast: weights, momentum and anchor at the chunk's start.
        q: (B, H, b, d).
        k, v: (B, H, b, d), with the Omega rule those of ``omega - 1`` tokens more in front.
        co: coefficients of each memory layer, (B, H, ...), or of one for all.
        norm: slow LayerNorm parameters when ``config.norm``.
        birth: the weights that others fade to, (1, H, d_out, d_in) each; None: they fade to 0.

    Returns:
        Reads (B, H, b, d) and the fast weights after the chunk, the anchor unchanged.
    """
    co *= config.depth // len(co)
    anchor = retention.weights(config, fast.anchor)
    output, trace = structure.forward(config, structure.with_weights(anchor), k, norm, slopes=True)
    error = objective.error(config, output, v, co[0].threshold)
    deltas = structure.backward(config, anchor, trace, error, norm)
    writes = [
        Write(bounded_step(config, layer.step, delta, inputs), delta, inputs)
        for layer, delta, inputs in zip(co, deltas, trace.inputs, strict=True)
    ]

    if config.forms_weights:
        return formed(config, fast, q, co, writes, norm)
    read, update = FORMS[config.decay_per]
    if birth is not None:
        # What fades is the difference to birth; all else of the rule is as it is.
        fast = fast._replace(weights=tuple(w - w0 for w, w0 in zip(fast.weights, birth, strict=True)))

    def linear(layer: int, z: mx.array) -> mx.array:
        y = read(z, fast, layer, co[layer], writes[layer])
        return y if birth is None else y + z @ birth[layer].swapaxes(-1, -2)

    reads, _ = structure.forward(config, linear, q, norm)
    updated = [update(fast, layer, co[layer], writes[layer]) for layer in range(config.depth)]
    weights = tuple(w if birth is None else w + birth[layer] for layer, (w, _) in enumerate(updated))
    momentum = None if fast.momentum is None else tuple(m for _, m in updated)
    return reads, Fast(weights, momentum, fast.anchor)


def _chunks(
    config: MemoryConfig,
    fast: Fast,
    q: mx.array,
    writes: Written,
    gates: Gates,
    norm: Norm | None,
    birth: Arrays | None,
    count: int,
    fresh: bool,
) -> tuple[mx.array, Fast]:
    """``count`` chunks of equal length; ``fresh``: each takes its anchor at its start."""
    bounds = list(range(0, q.shape[2] + 1, q.shape[2] // count))
    columns = (split(q, count, axis=2), writes.pieces(bounds, config.omega - 1))
    reads = []
    for chunk_q, (k, v, share), co in zip(
        *columns, chunk_coefficients(config, gates, count, _shapes(fast)), strict=True
    ):
        if fresh:
            fast = fast._replace(anchor=fast.weights)
        read, fast = chunk_step(config, fast, chunk_q, k, v, widened(co, share), norm, birth)
        reads.append(read)
    return joined(reads, 2), fast


def _shapes(fast: Fast) -> list[tuple[int, int]]:
    """``(d_in, d_out)`` of each memory layer."""
    return [(w.shape[-1], w.shape[-2]) for w in fast.weights]


def _gather(x: mx.array, source: mx.array, real: mx.array | None = None) -> mx.array:
    """Tokens of x (B, H, T, d), moved per row to slots (B, S); with ``real`` zeros where a slot is not real."""
    moved = mx.take_along_axis(x, source[:, None, :, None], axis=2)
    return moved if real is None else mx.where(real[:, None, :, None], moved, 0)


def _per_row(rows: mx.array) -> mx.array:
    return rows.reshape(-1, 1, 1, 1)
