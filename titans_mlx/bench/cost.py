"""What a token costs, as formulas, and the count of a run's own products to check them against.

Flops are those of matrix products (two per multiply-add), which is nearly all; element-wise work is left out. Lengths
are taken as whole chunks, segments and windows, where every piece is full.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, NamedTuple

import mlx.core as mx

from titans_mlx._compiled import never
from titans_mlx.config import MemoryConfig, TitansConfig
from titans_mlx.memory.structure import widths


def memory_flops(config: MemoryConfig, dim: int, num_heads: int) -> float:
    """Of a memory per token: projections, gates, coefficients, keys and their gradient, reads, updates.

    ``12 d_in d_out + 2 b (d_in + d_out)`` per head and layer with momentum, less ``2 d_in d_out`` in the first layer,
    whose gradient goes no further down.

    Raises:
        ValueError: if the memory is not an anchored one with one alpha per head that writes one token's loss at a time.
    """
    if config.update != "anchored":
        raise ValueError(f"config must be anchored: there is no formula for the online form, got {config.update!r}")
    if config.decay_per != "head" or config.forms_weights or config.omega > 1:
        raise ValueError(
            "config must have decay_per='head', retention='l2', no orthogonal_writes and omega=1, as the "
            f"formula has, got {config.changes()}"
        )
    chunk, width = config.chunk_size, dim // num_heads
    states = 1 if config.momentum == "none" else 2
    layers = 0.0
    for index, (d_in, d_out) in enumerate(widths(config, width)):
        through = 2 * d_in * d_out
        layers += through * (1 + (index > 0) + 2 * states) + 2 * chunk * (d_in + d_out)
    if states == 2:
        layers += config.gate_layers * 2 * chunk * (chunk + 1)
    gates = sum(getattr(config, name) == "learned" for name in ("decay", "momentum", "step_size"))
    return num_heads * layers + 3 * 2 * dim**2 + 2 * dim * gates * num_heads * config.gate_layers


def model_flops(config: TitansConfig, length: int) -> float:
    """Of a model's forward pass per token of a sequence of ``length`` tokens, the head included.

    Full attention meets half of the tokens on average: what lies above the diagonal is not counted, nor are the zeros
    that stand beside keys where there are persistent tokens.
    """
    dim, memory = config.dim, config.memory
    square, feed_forward = 2 * dim**2, 3 * 2 * dim * config.mlp_hidden
    absorb = 0.0 if config.variant in ("transformer", "sliding_window") else memory_flops(memory, dim, config.num_heads)
    read_out = 2 * square
    retrieve = config.num_heads * sum(2 * i * o for i, o in widths(memory, dim // config.num_heads))

    def attention(columns: float) -> float:
        return 4 * square + 2 * 2 * columns * dim

    # A whole block of the window meets itself and the block before, whatever the mask then hides.
    window = attention(2 * config.window_size + config.num_persistent)
    segment = attention(2 * config.segment_size + config.num_persistent) + 2 * square
    block = {
        "lmm": absorb + read_out + feed_forward,
        "mac": square + retrieve + segment + absorb + square + feed_forward,
        "mag": absorb + window + square + feed_forward,
        "mal": absorb + read_out + attention(2 * config.window_size) + 2 * feed_forward,
        "transformer": attention((length + 1) / 2 + config.num_persistent) + feed_forward,
        "sliding_window": window + feed_forward,
    }[config.variant]
    return config.num_layers * block + 2 * dim * config.vocab_size


def state_bytes(config: TitansConfig, length: int) -> float:
    """What a model carries after ``length`` tokens, a row, in bytes: float32 weights, momentum, anchor; keys, values.

    Convolution tails, a few kilobytes, are left out.
    """
    dim, memory = config.dim, config.memory
    copies = 1 + (memory.momentum != "none") + (memory.update == "anchored")
    shapes = widths(memory, dim // config.num_heads)
    weights = 4 * config.num_heads * sum(i * o for i, o in shapes)
    recent = 4 * config.num_heads * (memory.omega - 1) * (shapes[0][0] + dim // config.num_heads + 1)
    window = 2 * 4 * dim * min(length, config.window_size - 1)
    block = {
        "lmm": copies * weights + recent,
        # M_prev, and keys and values of the segment's inputs and of the reads.
        "mac": (copies + 1) * weights + recent + 2 * 2 * 4 * dim * ((length - 1) % config.segment_size + 1),
        "mag": copies * weights + recent + window,
        "mal": copies * weights + recent + window,
        "transformer": 2 * 4 * dim * length,
        "sliding_window": window,
    }[config.variant]
    return config.num_layers * block


def decode_bytes(config: TitansConfig, parameters: int, length: int) -> float:
    """Moved per decoded token, at the least: parameters and state read, a memory's weights and momentum written.

    Of ``parameters``, all of the model's, the embedding (but for a row) and the initial weights are not read.
    """
    memory = config.memory
    read, written = parameters - (not config.tie_embeddings) * (config.vocab_size - 1) * config.dim, 0.0
    if config.variant not in ("transformer", "sliding_window"):
        weights = config.num_heads * sum(i * o for i, o in widths(memory, config.dim // config.num_heads))
        read -= config.num_layers * weights
        written = (1 + (memory.momentum != "none")) * 4 * weights
    return 4 * read + state_bytes(config, length) + config.num_layers * written


class Product(NamedTuple):
    """A matrix product that was asked for: its flops, and the shapes of its two inputs."""

    flops: float
    left: tuple[int, ...]
    right: tuple[int, ...]


@contextmanager
def counted() -> Iterator[list[Product]]:
    """A list that fills with every matrix product that is asked for within, and the two of every attention."""
    found: list[Product] = []
    product, added, attended = mx.array.__matmul__, mx.addmm, mx.fast.scaled_dot_product_attention

    def count(a: mx.array, b: mx.array, result: mx.array) -> mx.array:
        found.append(Product(2.0 * result.size * a.shape[-1], a.shape, b.shape))
        return result

    def attend(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        scores = (*q.shape[:3], k.shape[2])
        flops = 2.0 * prod(scores)
        found.append(Product(flops * q.shape[3], q.shape, (*k.shape[:2], k.shape[3], k.shape[2])))
        found.append(Product(flops * v.shape[3], scores, v.shape))
        return attended(q, k, v, **options)

    mx.array.__matmul__ = lambda a, b: count(a, b, product(a, b))
    mx.addmm = lambda c, a, b, **options: count(a, b, added(c, a, b, **options))
    mx.fast.scaled_dot_product_attention = attend
    try:
        with never():
            yield found
    finally:
        mx.array.__matmul__, mx.addmm, mx.fast.scaled_dot_product_attention = product, added, attended


def flops(products: list[Product]) -> float:
    """Of all of them."""
    return sum(product.flops for product in products)
