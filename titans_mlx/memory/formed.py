"""A chunk whose weights are formed for every token: for retentions and writes that no weighted sum of writes expresses.

Gradients are still taken at the anchor, all at once. What a state holds is then a running sum, formed for each token,
and the weights are a function of it: exact for every chunk, and at chunk 1 the rule as published. It costs
``b d_out d_in`` numbers a chunk and layer, where the other forms never hold a token's weights.

Miras (section 5.4) applies its functions at a chunk's end only, and is linear within: for ``kl`` that takes logarithms
of sums that may be negative, and for ``lq`` a token reads weights that are not yet divided. Here nothing waits.
"""

import mlx.core as mx

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import retention, structure
from titans_mlx.memory.learner import Coefficients, orthogonalised
from titans_mlx.memory.structure import Norm
from titans_mlx.memory.writes import Fast, Write


def formed(
    config: MemoryConfig,
    fast: Fast,
    q: mx.array,
    co: tuple[Coefficients, ...],
    writes: list[Write],
    norm: Norm | None,
) -> tuple[mx.array, Fast]:
    """Reads (B, H, b, d) of queries like them, and the fast weights after the chunk, the anchor unchanged."""
    form = _orthogonal if config.orthogonal_writes else _summed
    layers = [form(fast, layer, co[layer], write) for layer, write in enumerate(writes)]

    def linear(layer: int, z: mx.array) -> mx.array:
        return retention.product(config, layers[layer][0], z)

    reads, _ = structure.forward(config, linear, q, norm)
    weights = tuple(_last(held) for held, _ in layers)
    momentum = None if fast.momentum is None else tuple(carried for _, carried in layers)
    return reads, Fast(weights, momentum, fast.anchor)


def _summed(fast: Fast, layer: int, co: Coefficients, write: Write) -> tuple[mx.array, mx.array | None]:
    """What is held after every token, (B, H, b, d_out, d_in), and the momentum after the last."""
    gradients = _gradients(write)
    held = _combined(co.weights, fast.weights[layer][:, :, None]) - _combined(co.writes, gradients)
    if fast.momentum is None:
        return held, None
    old = fast.momentum[layer]
    held = held + _combined(co.momentum, old[:, :, None])
    return held, co.momentum_keep * old - _combined(co.momentum_writes.swapaxes(-1, -2), gradients)[:, :, 0]


def _orthogonal(fast: Fast, layer: int, co: Coefficients, write: Write) -> tuple[mx.array, mx.array | None]:
    """As :func:`_summed`, each token's write its momentum made orthogonal, times its theta."""
    sources = -_gradients(write)
    if fast.momentum is not None:
        sources = mx.concatenate([fast.momentum[layer][:, :, None], sources], axis=2)
    momentum = _combined(co.carried, sources)
    held = _combined(co.weights, fast.weights[layer][:, :, None]) + _combined(co.received, orthogonalised(momentum))
    return held, None if fast.momentum is None else _last(momentum)


def _last(per_token: mx.array) -> mx.array:
    """The last token's matrix (B, H, d_out, d_in), copied: a view would keep those of a whole chunk alive."""
    return mx.contiguous(per_token[:, :, -1])


def _gradients(write: Write) -> mx.array:
    """``step delta x^T`` of every token, (B, H, b, d_out, d_in)."""
    return (write.step * write.delta)[..., None] * write.inputs[..., None, :]


def _combined(rows: mx.array, matrices: mx.array) -> mx.array:
    """Sums of matrices (B, H, n, d_out, d_in) with weights (B, H, m, n): (B, H, m, d_out, d_in)."""
    flat = rows @ matrices.flatten(-2, -1)
    return flat.reshape(*flat.shape[:-1], *matrices.shape[-2:])
