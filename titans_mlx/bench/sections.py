"""The benchmark's sections: rows of a table, each with its figure and, where there is one, what is to be reached."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np

from titans_mlx.bench import by_turns, cost, ours, peers
from titans_mlx.bench.measure import Row, Work
from titans_mlx.bench.ours import VARIANTS, config
from titans_mlx.bench.peaks import peak, recompute
from titans_mlx.config import TitansConfig
from titans_mlx.memory import recipes


def line(row: Row) -> str:
    """A row as people read it."""
    figures = [f"{name} {value:,.4g}" for name, value in row.items() if isinstance(value, float | int)]
    return f"{row['measure']:<58} " + ", ".join(figures)


def default_device() -> str:
    """``gpu`` on a Mac, else ``cpu``."""
    return "gpu" if mx.metal.is_available() else "cpu"


def use(device: str) -> None:
    """Compute on ``cpu`` or ``gpu`` from here on."""
    mx.set_default_device({"cpu": mx.cpu, "gpu": mx.gpu}[device])


def compared(
    measure: str, works: dict[str, Work], repeats: int, tokens: int, reach: float | None = None, other: str = "peer"
) -> Row:
    """Milliseconds of each work, and how many times faster the first is than the other, where that is there."""
    timings = by_turns(works, repeats)
    row: Row = {"measure": measure}
    for name, timing in timings.items():
        row |= {f"{name}_ms": 1e3 * timing.median, f"{name}_spread": timing.spread}
    row["tokens_per_second"] = tokens / next(iter(timings.values())).median
    if other in timings:
        first = next(iter(timings.values()))
        row |= {"ratio": timings[other].median / first.median, "to_reach": reach}
    return row


MEMORY = (
    # forward or both, tokens, our chunk, the peer's chunk and batch, times faster to reach
    ("forward", 1024, 64, (1, 64), 250.0),
    ("forward", 1024, 64, (64, 64), 1.2),
    ("forward_backward", 1024, 64, (64, 64), 1.2),
    ("forward_backward", 4096, 64, (64, 64), 1.2),
    ("forward_backward", 1024, 16, (16, 64), 1.5),
)


def memory(device: str, repeats: int) -> Iterator[Row]:
    """The deep memory against the peer's, and the matrix against ours."""
    for what, length, chunk, (peer_chunk, peer_batch), reach in MEMORY:
        x = ours.features(2, length)
        works = {"ours": getattr(ours, what)(ours.memory(recipes.titans(chunk_size=chunk)), x)}
        if peers.versions():
            works["peer"] = getattr(peers, what)(peers.memory(peer_chunk, peer_batch, device=device), x, device)
        measure = f"{what}, T {length}, chunk {chunk} against ({peer_chunk}, {peer_batch})"
        yield compared(measure, works, repeats, x.shape[0] * length, reach)
    x = ours.features(2, 1024)
    for chunk in (64, 16):
        works = {
            "matrix": ours.forward_backward(ours.memory(recipes.titans_matrix()), x),
            "deep": ours.forward_backward(ours.memory(recipes.titans(chunk_size=chunk)), x),
        }
        measure = f"forward_backward, online matrix against depth 2 with chunk {chunk}"
        yield compared(measure, works, repeats, 2 * 1024, 3.0, "deep")


def train(device: str, repeats: int) -> Iterator[Row]:
    """A compiled training step of every variant, MAC beside the peer's."""
    for variant in (*VARIANTS, "sliding_window", "transformer"):
        chosen = config(variant)
        works = {"ours": ours.training_step(ours.model(chosen), 1, 1024)}
        if variant == "mac":
            # The peer's memory has one set of gates for all its layers.
            shared = chosen.replace(memory=chosen.memory.replace(shared_gates=True))
            works["shared_gates"] = ours.training_step(ours.model(shared), 1, 1024)
            if peers.versions():
                works["peer"] = peers.mac_step(2, 64, 1024, device)
        yield compared(f"training step, {variant}, 2 layers, T 1024", works, repeats, 1024, 2.0)


def prefill(device: str, repeats: int) -> Iterator[Row]:
    """Reading a prompt."""
    for variant in VARIANTS:
        works = {"ours": ours.prefill(ours.model(config(variant)), 1, 4096)}
        yield compared(f"prefill, {variant}, T 4096", works, repeats, 4096)


PROMPTS = 16
"""Short prompts read in one turn: seconds, as a long one takes, where the machine's own ups and downs even out."""


def scaling(device: str, repeats: int) -> Iterator[Row]:
    """Tokens per second of prompts of 65,536 tokens over those of 1,024."""
    for variant in VARIANTS:
        made = ours.model(config(variant))
        short, long = (ours.prefill(made, 1, length) for length in (1024, 65_536))
        timings = by_turns({"near": lambda short=short: [short() for _ in range(PROMPTS)], "far": long}, repeats)
        near, far = PROMPTS * 1024 / timings["near"].median, 65_536 / timings["far"].median
        yield {
            "measure": f"tokens/s at 65,536 over 1,024, {variant}",
            "near": near,
            "far": far,
            "spread": max(timing.spread for timing in timings.values()),
            "ratio": far / near,
            "to_reach": 0.95,
        }


NEAR, FAR = 1000, 1_000_040
"""Positions at the same place of a segment of 64: MAC's state grows until its segment ends."""


def decode(device: str, repeats: int) -> Iterator[Row]:
    """Milliseconds a token far into a stream, over those near its start."""
    for variant in VARIANTS:
        made = ours.model(config(variant))
        works, sizes = {}, {}
        for position in (NEAR, FAR):
            works[str(position)], sizes[position] = ours.decode(made, position)
        near, far = by_turns(works, repeats).values()
        yield {
            "measure": f"decode at {FAR:,} over {NEAR:,}, {variant}",
            "near_ms": 1e3 * near.median / 64,
            "far_ms": 1e3 * far.median / 64,
            "ratio": far.median / near.median,
            "to_reach": 1.05,
            "bytes": sizes[FAR],
            "bytes_ratio": sizes[FAR] / sizes[NEAR],
        }


def graph(device: str, repeats: int) -> Iterator[Row]:
    """Primitives per token, about the kernels a GPU launches, where it has no fused kernel for several.

    Forward and decoding with chunks compiled as on a GPU, the gradient compiled as the trainer compiles it.
    """
    for variant in VARIANTS:
        counts = ours.graphs(ours.model(config(variant)), 1024)
        row: Row = {"measure": f"primitives, {variant}"}
        for what, (count, tokens) in counts.items():
            row[f"{what}_per_token"] = count.total() / tokens
        yield row


def profile(device: str, repeats: int) -> Iterator[Row]:
    """Where the time goes, by the fastest repetitions. The products' own time is the limit; all else holds them."""
    for chunk in (64, 16):
        x, layer = ours.features(2, 1024), ours.memory(recipes.titans(chunk_size=chunk))
        forward = {"whole": ours.forward(layer, x), "products": ours.products_alone(layer, x)}
        forward |= {"activations": ours.activations_alone(layer, x), **ours.parts(layer, x)}
        both = {"whole": ours.forward_backward(layer, x), "products": ours.products_alone(layer, x, backward=True)}
        yield _profiled(f"forward, T 1024, chunk {chunk}", forward, repeats)
        yield _profiled(f"forward_backward, T 1024, chunk {chunk}", both, repeats)
    layer = ours.memory(recipes.titans_matrix())
    both = {"whole": ours.forward_backward(layer, x), "products": ours.products_alone(layer, x, backward=True)}
    yield _profiled("forward_backward, T 1024, online matrix", both | {"around": ours.around(layer, x)}, repeats)
    yield _profiled("training step, mac, 2 layers, T 1024, by what is left out", _left_out(), repeats)
    model, tokens = ours.model(config("mac")), np.zeros((1, 1024), dtype=np.int32)
    both = {"whole": ours.training_step(model, 1, 1024), "products": ours.products_alone(model, tokens, backward=True)}
    # One of its two memories on its own.
    both["memory"] = ours.forward_backward(ours.memory(recipes.titans(chunk_size=64)), ours.features(1, 1024))
    yield _profiled("training step, mac, 2 layers, T 1024", both, repeats)


LEFT_OUT: dict[str, dict[str, Any]] = {
    "whole": {},
    "no_momentum": {"momentum": "none"},
    "no_decay": {"decay": "none"},
    "one_step_size": {"step_size": "fixed"},
    "no_bound": {"write_bound": None},
    "no_norm": {"norm": False},
    "no_convolution": {"conv_size": 0},
    "a_matrix": {"depth": 1, "residual": False, "norm": False},
}
"""Changes of MAC's memory, each of which spares its step one thing."""


def _left_out() -> dict[str, Work]:
    plain = config("mac")
    changed = {name: plain.replace(memory=plain.memory.replace(**fields)) for name, fields in LEFT_OUT.items()}
    works = {name: ours.training_step(ours.model(made), 1, 1024) for name, made in changed.items()}
    return works | {"no_memory": ours.training_step(ours.model(config("sliding_window")), 1, 1024)}


def _profiled(what: str, works: dict[str, Work], repeats: int) -> Row:
    parts = {f"{name}_ms": 1e3 * timing.fastest for name, timing in by_turns(works, repeats).items()}
    return {"measure": f"profile of {what}", **parts}


ENLARGED = 2e-3
"""Newton-Schulz steps, and a LayerNorm over small outputs, enlarge float32's rounding."""


def family(device: str, repeats: int) -> Iterator[Row]:
    """The memory of every recipe, forward and with its gradient, four heads of 16, deep ones twice as wide inside."""
    x = ours.features(4, 1024, 64)
    for name, recipe in recipes.RECIPES.items():
        layer = ours.memory(
            recipe.make(**({"expansion": 2} if recipe.make().depth > 1 else {})), dim=64, tolerance=ENLARGED
        )
        works = {"forward": ours.forward(layer, x), "forward_backward": ours.forward_backward(layer, x)}
        timings = by_turns(works, repeats)
        row: Row = {"measure": f"recipe {name}, dim 64, T 1024, batch 4"}
        row |= {f"{what}_ms": 1e3 * timing.median for what, timing in timings.items()}
        yield row | {"tokens_per_second": 4 * 1024 / timings["forward_backward"].median}


def crossing(device: str, repeats: int) -> Iterator[Row]:
    """From what length on a memory reads a prompt faster than full attention, and where their flops cross."""
    lengths = (1024, 2048, 4096, 8192, 16_384)
    models = {name: ours.model(config(name)) for name in ("transformer", *VARIANTS)}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for length in lengths:
        timings = by_turns({name: ours.prefill(made, 1, length, 1024) for name, made in models.items()}, repeats)
        for name, timing in timings.items():
            seconds[name].append(timing.median)
    for variant in VARIANTS:
        faster = [full / own for full, own in zip(seconds["transformer"], seconds[variant], strict=True)]
        found = crossing_length(lengths, faster)
        yield {
            "measure": f"prompt length at which {variant} is as fast as full attention",
            "tokens": f"beyond {lengths[-1]:,}" if found is None else found,
            "tokens_by_flops": flops_crossing(config(variant)),
            "times_faster_at_16384": faster[-1],
        }


def crossing_length(lengths: Sequence[int], faster: Sequence[float]) -> float | None:
    """Where a ratio first rises above 1, between the lengths on logarithmic scales; None: nowhere."""
    if faster[0] >= 1:
        return float(lengths[0])
    for (low, high), (before, after) in zip(pairwise(lengths), pairwise(faster), strict=True):
        if after >= 1:
            return low * (high / low) ** (math.log(1 / before) / math.log(after / before))
    return None


def flops_crossing(model: TitansConfig) -> float:
    """The length from which full attention needs more flops a token than ``model``."""
    flat, step = cost.model_flops(config("transformer"), 0), 2 * model.dim * model.num_layers
    return (cost.model_flops(model, 65_536) - flat) / step


SECTIONS: dict[str, Callable[[str, int], Iterator[Row]]] = {
    "memory": memory,
    "train": train,
    "prefill": prefill,
    "scaling": scaling,
    "decode": decode,
    "peak": peak,
    "family": family,
    "recompute": recompute,
    "graph": graph,
    "crossing": crossing,
    "profile": profile,
}
