"""Works on the package's own memory and models, each checked before it is handed out."""

from collections import Counter
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from titans_mlx._cpu import gelu, gelu_and_slope, other_device
from titans_mlx.bench.cost import counted
from titans_mlx.bench.measure import Work, primitives
from titans_mlx.config import MemoryConfig, TitansConfig
from titans_mlx.memory import NeuralMemory, recipes
from titans_mlx.memory.learner import coefficients
from titans_mlx.memory.recurrent import recurrent
from titans_mlx.model import Titans
from titans_mlx.training import TrainConfig
from titans_mlx.training.optim import make_optimizer
from titans_mlx.training.step import make_step

DIM, HEADS, VOCAB = 256, 4, 256
VARIANTS = ("lmm", "mac", "mag", "mal")
TOLERANCE = 1e-4


def memory(config: MemoryConfig, seed: int = 0, dim: int = DIM, tolerance: float = TOLERANCE) -> NeuralMemory:
    """A memory of the benchmark's width, equal to its definition over two chunks and a ragged one, gradient included.

    Raises:
        ValueError: if it is not equal within ``tolerance``, relative to the largest read or gradient.
    """
    layer = unchecked(config, seed, dim)
    x = mx.random.normal((1, 2 * config.chunk_size + 3, dim))

    def fast(layer: NeuralMemory, x: mx.array) -> mx.array:
        return layer.absorb(x)[0]

    _require_equal("reads of the fast form", fast(layer, x), _defined(layer, x), tolerance)
    found, expected = (mx.grad(lambda x, reads=reads: reads(layer, x).square().sum())(x) for reads in (fast, _defined))
    _require_equal("gradients of the fast form", found, expected, tolerance)
    return layer


def unchecked(config: MemoryConfig, seed: int = 0, dim: int = DIM) -> NeuralMemory:
    """The memory that :func:`memory` checks, for a process that is weighed: its definition holds far more than it."""
    mx.random.seed(seed)
    return NeuralMemory(dim, HEADS, config=config)


def _defined(layer: NeuralMemory, x: mx.array) -> mx.array:
    """Reads of x (B, T, dim) from birth by the definition, token by token."""
    born = layer.init_state(x.shape[0])
    inputs, _ = layer.project(x, born.tails)
    reads, _ = recurrent(layer.config, born, *inputs, layer.norm)
    return reads.swapaxes(1, 2).reshape(x.shape)


def config(variant: str) -> TitansConfig:
    """The benchmark's model."""
    return TitansConfig(
        variant=variant,
        vocab_size=VOCAB,
        dim=DIM,
        num_layers=2,
        num_heads=HEADS,
        segment_size=64,
        window_size=64,
        memory=recipes.titans(chunk_size=64),
    )


def model(config: TitansConfig, seed: int = 0) -> Titans:
    """A model whose logits, token by token through a cache, are those of one call.

    Raises:
        ValueError: if they are not, within 1e-4 of the largest.
    """
    mx.random.seed(seed)
    made = Titans(config)
    tokens = mx.random.randint(0, config.vocab_size, (1, max(config.segment_size, config.window_size) + 5))
    cache = made.make_cache()
    steps = [made(token, cache) for token in mx.split(tokens, tokens.shape[1], axis=1)]
    _require_equal("logits token by token", mx.concatenate(steps, axis=1), made(tokens))
    return made


def _require_equal(what: str, given: mx.array, expected: mx.array, tolerance: float = TOLERANCE) -> None:
    error = (mx.abs(given - expected).max() / mx.abs(expected).max()).item()
    if not error < tolerance:
        raise ValueError(f"{what} must equal the definition within {tolerance:g}, got a relative error of {error:g}")


def features(batch: int, length: int, dim: int = DIM) -> np.ndarray:
    """Standard normal inputs (batch, length, dim) float32, the same ones for everybody."""
    return np.random.default_rng(0).normal(size=(batch, length, dim)).astype(np.float32)


def forward(layer: NeuralMemory, x: np.ndarray) -> Work:
    """Reads of x (B, T, dim) from birth, and the state after it."""
    given = mx.array(x)
    return lambda: mx.eval(layer(given))


def forward_backward(layer: NeuralMemory, x: np.ndarray) -> Work:
    """The mean square of the reads of x, with its gradient for x and every parameter; compiled, as in training."""
    return _compiled_gradient(layer, lambda x: layer(x)[0], x)


def defined_forward_backward(layer: NeuralMemory, x: np.ndarray) -> Work:
    """As :func:`forward_backward`, token by token by the definition."""
    return _compiled_gradient(layer, lambda x: layer.readout(x, _defined(layer, x)), x)


def around(layer: NeuralMemory, x: np.ndarray) -> Work:
    """As :func:`forward_backward`, the sum of all that the memory absorbs in the place of its reads."""
    tails = layer.init_state(len(x)).tails

    def out(x: mx.array) -> mx.array:
        inputs, _ = layer.project(x, tails)
        gates = sum(gate.sum(2)[..., None] for gate in inputs.gates if gate is not None)
        reads = inputs.q + inputs.k + inputs.v + gates
        return layer.readout(x, reads.swapaxes(1, 2).reshape(x.shape))

    return _compiled_gradient(layer, out, x)


def _compiled_gradient(layer: NeuralMemory, out: Callable[[mx.array], mx.array], x: np.ndarray) -> Work:
    gradient, parameters, given = mx.compile(_gradient(layer, out)), layer.trainable_parameters(), mx.array(x)
    return lambda: mx.eval(gradient(parameters, given))


def _gradient(
    layer: NeuralMemory, out: Callable[[mx.array], mx.array]
) -> Callable[[dict, mx.array], tuple[mx.array, tuple[dict, mx.array]]]:
    def loss(parameters: dict, x: mx.array) -> mx.array:
        own = layer.parameters()
        layer.update(parameters)
        try:
            return out(x).square().mean()
        finally:
            layer.update(own)

    return mx.value_and_grad(loss, argnums=(0, 1))


def gradient_error(first: NeuralMemory, second: NeuralMemory, x: np.ndarray) -> float:
    """Largest difference of two memories' gradients, each relative to its own largest entry."""
    both = []
    for layer in (first, second):
        gradient = _gradient(layer, lambda x, layer=layer: layer(x)[0])
        both.append(dict(tree_flatten(gradient(layer.trainable_parameters(), mx.array(x))[1])))
    # NumPy's maximum hands a NaN on.
    return float(np.max([(mx.abs(both[1][name] - g).max() / mx.abs(g).max()).item() for name, g in both[0].items()]))


def peak_of_arrays(work: Work) -> float:
    """The most that arrays held at any moment of a work, in MB."""
    mx.synchronize()
    mx.reset_peak_memory()
    work()
    return mx.get_peak_memory() / 1e6


def training_step(made: Titans, batch: int, length: int) -> Work:
    """One compiled update on next-token prediction."""
    tokens = mx.random.randint(0, made.config.vocab_size, (batch, length + 1))

    def loss(model: Titans, tokens: mx.array) -> mx.array:
        return nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:], reduction="mean")

    config = TrainConfig(steps=1000, learning_rate=1e-4)
    optimizer = make_optimizer(config, made)
    mx.eval(made.parameters(), optimizer.state)
    advance, state = make_step(made, optimizer, loss, config)
    return lambda: mx.eval(advance(tokens), state)


def prefill(made: Titans, batch: int, length: int, piece: int = 1024) -> Work:
    """A prompt read into a fresh cache, piece by piece, up to the logits of its last token."""
    tokens = np.random.default_rng(0).integers(0, made.config.vocab_size, (batch, length), dtype=np.uint16)
    return lambda: mx.eval(made.read(tokens, made.make_cache(), piece))


def decode(made: Titans, position: int, steps: int = 64, piece: int = 4096) -> tuple[Work, int]:
    """``steps`` tokens one at a time, each time from the same position; and the bytes of the cache there."""
    at_position = made.make_cache()
    tokens = mx.random.randint(0, made.config.vocab_size, (1, position))
    made.read(tokens, at_position, piece)
    token = tokens[:, :1]

    def work() -> None:
        cache = list(at_position)
        for _ in range(steps):
            mx.eval(made(token, cache), cache)

    return work, sum(leaf.nbytes for _, leaf in tree_flatten(at_position) if isinstance(leaf, mx.array))


def graphs(made: Titans, length: int) -> dict[str, tuple[Counter[str], int]]:
    """Primitives of a forward pass, of a compiled gradient, and of a decoded token, each with its number of tokens.

    Without what only this package's CPU path needs.
    """
    tokens = mx.zeros((1, length), dtype=mx.int32)

    def loss(parameters: dict) -> mx.array:
        made.update(parameters)
        return nn.losses.cross_entropy(made(tokens[:, :-1]), tokens[:, 1:], reduction="mean")

    cache, parameters = made.make_cache(), made.trainable_parameters()
    mx.eval(made(tokens[:, :9], cache), cache)
    with other_device():
        gradient = primitives(mx.compile(mx.value_and_grad(loss))(parameters))
        made.update(parameters)
        return {
            "forward": (primitives(made(tokens)), length),
            "gradient": (gradient, length - 1),
            "decode": (primitives([made(tokens[:, :1], cache), cache]), 1),
        }


def product_shapes(
    made: nn.Module, x: np.ndarray, backward: bool = False
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes of both sides of every matrix product of a forward pass over x, and with ``backward`` of a gradient.

    Each product's gradient needs two more.
    """
    with counted() as found:
        made(mx.array(x))
    pairs = [(product.left, product.right) for product in found]
    if backward:
        for left, right in pairs[:]:
            out = (*left[:-1], right[-1])
            pairs += [(out, _transposed(right)), (_transposed(left), out)]
    return pairs


def products_alone(made: nn.Module, x: np.ndarray, backward: bool = False) -> Work:
    """Every matrix product of a forward pass of a memory or model over x, at its shape, and nothing else.

    ``backward``: and the two products that each one's gradient needs.
    """
    pairs = product_shapes(made, x, backward)
    arrays = {shape: mx.random.normal(shape) for pair in pairs for shape in pair}
    mx.eval(arrays)

    def work() -> None:
        for start in range(0, len(pairs), 32):
            mx.eval([arrays[a] @ arrays[b] for a, b in pairs[start : start + 32]])

    return work


def _transposed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2])


def activations_alone(layer: NeuralMemory, x: np.ndarray) -> Work:
    """The activations of a forward pass: with their slopes for the keys, without for the queries."""
    count, width = x.shape[1] // layer.config.chunk_size, layer.config.expansion * layer.dim // layer.num_heads
    hidden = mx.random.normal((x.shape[0], layer.num_heads, layer.config.chunk_size, width))
    mx.eval(hidden)

    def work() -> None:
        for _ in range(count * (layer.config.depth - 1)):
            mx.eval(gelu_and_slope(hidden), gelu(hidden))

    return work


def parts(layer: NeuralMemory, x: np.ndarray) -> dict[str, Work]:
    """What stands around the chunks: projections with convolutions and gates, coefficients, read-out."""
    given, chunks = mx.array(x), x.shape[1] // layer.config.chunk_size
    tails = layer.init_state(len(x)).tails
    gates = layer.gates(given)
    mx.eval(gates)
    return {
        "projections": lambda: mx.eval(layer.project(given, tails)),
        "coefficients": lambda: mx.eval(coefficients(gates.grid(chunks))),
        "read_out": lambda: mx.eval(layer.readout(given, given)),
    }
