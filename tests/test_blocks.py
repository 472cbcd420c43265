"""Each block and the memory layer against their equations, written out plainly over the definition of the memory."""

import json
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map_with_path
from models import SMALL, distance, largest

from titans_mlx import NeuralMemory, Titans, TitansConfig
from titans_mlx.claims.store import DEMOS
from titans_mlx.claims.training import validation_accuracy
from titans_mlx.memory import MemoryState, recipes
from titans_mlx.memory.projections import Inputs
from titans_mlx.memory.recurrent import recurrent
from titans_mlx.tasks import RecallTask

LENGTH, SEGMENT, WINDOW, EPS = 30, 8, 6, 1e-5
MEMORIES = {
    "online": recipes.titans_matrix(chunk_size=4),
    "deep": recipes.titans(chunk_size=4),
    "linear attention": recipes.linear_attention(chunk_size=4, qk_norm=False, conv_size=0),
    "plain keys": recipes.titans(chunk_size=4, qk_norm=False, conv_size=2),
}


def rms(x: mx.array, gain: mx.array | float, eps: float = EPS) -> mx.array:
    return x / mx.sqrt((x * x).mean(-1, keepdims=True) + eps) * gain


def silu(x: mx.array) -> mx.array:
    return x / (1 + mx.exp(-x))


def convolved(x: mx.array, taps: mx.array) -> mx.array:
    """``y_t = sum_j w_j x_(t-j)`` of x (B, T, dim)."""
    past = [mx.pad(x, [(0, 0), (lag, 0), (0, 0)])[:, : x.shape[1]] for lag in range(len(taps))]
    return sum(tap * shifted for tap, shifted in zip(taps, past, strict=True))


def stream(memory: NeuralMemory, name: str, x: mx.array) -> mx.array:
    """``l2norm(silu(conv(W x)))``, the value without its norm, by heads (B, H, T, d)."""
    y = x @ memory[f"{name}_proj"].weight.T
    if memory.config.conv_size:
        y = convolved(y, memory[f"{name}_conv"].weight)
    y = silu(y).reshape(*x.shape[:2], memory.num_heads, -1).swapaxes(1, 2)
    if name == "v" or not memory.config.qk_norm:
        return y
    return y / mx.sqrt((y * y).sum(-1, keepdims=True) + 1e-6)


def merged(reads: mx.array) -> mx.array:
    return reads.swapaxes(1, 2).reshape(reads.shape[0], reads.shape[2], -1)


def absorbed(
    memory: NeuralMemory, x: mx.array, persistent: mx.array | None = None, cuts: tuple[int, ...] = ()
) -> tuple[mx.array, list[tuple[mx.array, ...]]]:
    """Reads (B, T, dim) of ``[P | x]`` after each token's own write, and the weights before each piece of x."""
    count = 0 if persistent is None else len(persistent)
    whole = x
    if count:
        whole = mx.concatenate([mx.broadcast_to(persistent[None], (x.shape[0], *persistent.shape)), x], axis=1)
    inputs = Inputs(*(stream(memory, name, whole) for name in "qkv"), memory.gates(whole))

    def absorb(state: MemoryState, start: int, stop: int) -> tuple[mx.array, MemoryState]:
        q, k, v = (array[:, :, start:stop] for array in inputs[:3])
        gates = type(inputs.gates)(*(None if gate is None else gate[..., start:stop] for gate in inputs.gates))
        return recurrent(memory.config, state, q, k, v, gates, memory.norm)

    state = memory.init_state(x.shape[0])
    if count:
        _, state = absorb(state, 0, count)
        state = state._replace(position=0, anchor=None if state.anchor is None else state.weights)
    reads, before = [], []
    bounds = [0, *cuts, x.shape[1]]
    for start, stop in pairwise(bounds):
        before.append(state.weights)
        read, state = absorb(state, count + start, count + stop)
        reads.append(read)
    return merged(mx.concatenate(reads, axis=2)), before


def layer(memory: NeuralMemory, x: mx.array, persistent: mx.array | None = None) -> mx.array:
    """The memory and its read-out: RMS norm per head, gain, SiLU gate, projection."""
    reads, out = absorbed(memory, x, persistent)[0], memory.readout
    heads = rms(reads.reshape(*x.shape[:2], memory.num_heads, -1), out.gain)
    return (heads.reshape(x.shape) * silu(x @ out.gate_proj.weight.T)) @ out.o_proj.weight.T


def mlp(part: nn.Module, x: mx.array) -> mx.array:
    n = rms(x, part.norm.weight)
    return x + (silu(n @ part.gate_proj.weight.T) * (n @ part.up_proj.weight.T)) @ part.down_proj.weight.T


def lmm(block: nn.Module, x: mx.array) -> mx.array:
    return mlp(block.mlp, x + layer(block.memory, rms(x, block.norm.weight), block.persistent))


def mag(block: nn.Module, x: mx.array) -> mx.array:
    """Eq. 26-28."""
    n = rms(x, block.norm.weight)
    y, _ = block.attention.sliding(n, window=WINDOW, persistent=block.persistent)
    reads, _ = absorbed(block.memory, n, block.persistent)
    gated = rms(y, block.attention_norm.weight) * silu(rms(reads, block.memory_norm.weight))
    return mlp(block.mlp, x + gated @ block.o_proj.weight.T)


def mal(block: nn.Module, x: mx.array) -> mx.array:
    """Eq. 29-31."""
    x = lmm(block.memory_layer, x)
    y, _ = block.attention.sliding(rms(x, block.norm.weight), window=WINDOW)
    return mlp(block.mlp, x + y)


def mac(block: nn.Module, x: mx.array) -> mx.array:
    """Eq. 21-25, segment by segment: what is written depends on what was read at the segment's start."""
    n = rms(x, block.norm.weight)
    queries = stream(block.memory, "q", n)
    cuts = tuple(range(SEGMENT, LENGTH, SEGMENT))
    y, written = [], []
    for start in (0, *cuts):
        stop = min(start + SEGMENT, LENGTH)
        # The weights before this segment, from all that was written so far.
        past = mx.concatenate([*written, mx.zeros_like(n[:, start:stop])], axis=1)
        before = absorbed(block.memory, past, cuts=tuple(cut for cut in cuts if cut < stop))[1][-1]
        h = rms(block.memory.retrieve(queries[:, :, start:stop], before), block.context_norm.weight)
        attended, _ = block.attention.segment(n[:, start:stop], h, segment_size=SEGMENT, persistent=block.persistent)
        y.append(attended)
        written.append(rms(n[:, start:stop] + attended, block.write_norm.weight))
    reads, _ = absorbed(block.memory, mx.concatenate(written, axis=1))
    gate = silu(rms(reads, block.read_norm.weight))
    o = rms(mx.concatenate(y, axis=1), block.attention_norm.weight) * gate
    return mlp(block.mlp, x + o @ block.o_proj.weight.T)


def transformer(block: nn.Module, x: mx.array) -> mx.array:
    y, _ = block.attention.full(rms(x, block.norm.weight), persistent=block.persistent)
    return mlp(block.mlp, x + y)


def sliding_window(block: nn.Module, x: mx.array) -> mx.array:
    y, _ = block.attention.sliding(rms(x, block.norm.weight), window=WINDOW, persistent=block.persistent)
    return mlp(block.mlp, x + y)


BLOCKS = {"lmm": lmm, "mac": mac, "mag": mag, "mal": mal, "transformer": transformer, "sliding_window": sliding_window}
CASES = [(variant, memory) for variant in ("lmm", "mac", "mag", "mal") for memory in MEMORIES]


def stirred(module: nn.Module) -> nn.Module:
    """With gains and biases that are not 1 and 0, so that one left out would show."""
    rng = np.random.default_rng(0)

    def moved(name: str, leaf: mx.array) -> mx.array:
        if not name.endswith(("gain", "norm.weight", "norm_bias", "gate.bias")):
            return leaf
        return leaf + mx.array(rng.normal(size=leaf.shape) * 0.3, dtype=leaf.dtype)

    module.update(tree_map_with_path(moved, module.parameters()))
    return module


@pytest.mark.parametrize("name", MEMORIES)
def test_a_layer_is_its_equations(name: str) -> None:
    memory = stirred(NeuralMemory(16, 2, MEMORIES[name]))
    x = mx.random.normal((2, LENGTH, 16))
    assert distance(memory(x)[0], layer(memory, x)) < 2e-5


@pytest.mark.parametrize(("variant", "memory"), [*CASES, ("transformer", "online"), ("sliding_window", "online")])
def test_a_block_is_its_equations(variant: str, memory: str) -> None:
    sizes = {"num_layers": 1, "segment_size": SEGMENT, "window_size": WINDOW, "norm_eps": EPS}
    config = TitansConfig(**SMALL | sizes, variant=variant, memory=MEMORIES[memory])
    block = stirred(Titans(config).layers[0])
    x = mx.random.normal((2, LENGTH, 16))
    y, expected = block(x)[0], BLOCKS[variant](block, x)
    assert distance(y, expected) < 5e-5 and largest(y - x) > 0.1


def test_a_model_is_its_blocks_between_an_embedding_and_a_head() -> None:
    for tied in (False, True):
        model = Titans(TitansConfig(variant="lmm", vocab_size=16, dim=16, num_heads=2, tie_embeddings=tied))
        stirred(model)
        tokens = mx.random.randint(0, 16, (2, 9))
        x = model.embedding.weight[tokens]
        for block in model.layers:
            x, _ = block(x)
        out = model.embedding.weight if tied else model.head.weight
        assert distance(model(tokens), rms(x, model.norm.weight) @ out.T) < 2e-5


@pytest.mark.parametrize("name", DEMOS.values())
def test_a_stored_model_still_recalls_what_it_did(name: str) -> None:
    """Weights trained before must mean the same: a change of wiring would make them another model."""
    folder = Path(__file__).parents[1] / "notebooks" / "results" / name
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = Titans(TitansConfig.from_dict(stored["model"]))
    model.load_weights(str(folder / "model.safetensors"))
    for length, accuracy in stored["validation_accuracy"].items():
        found = validation_accuracy(model, RecallTask(**stored["task"]), int(length), 256, 0)
        assert found == pytest.approx(accuracy, abs=0.005)
