"""The same works on titans-pytorch 0.5.5 (extra ``peers``), the most complete public implementation."""

import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from titans_mlx.bench.measure import Work
from titans_mlx.bench.ours import DIM, HEADS, VOCAB


def versions() -> dict[str, str] | None:
    """Of the peer and what it computes with; None where they are not installed."""
    try:
        return {name: version(name) for name in ("titans-pytorch", "torch")}
    except PackageNotFoundError:
        return None


def load(device: str = "cpu") -> tuple[Any, Any]:
    """``torch`` and ``titans_pytorch``, computing on ``device`` ("gpu" is CUDA, where torch has it).

    Raises:
        ValueError: if they are not installed.
    """
    try:
        with warnings.catch_warnings():
            # Its dependencies warn on import about parts of torch that they should no longer use.
            warnings.simplefilter("ignore")
            import titans_pytorch
            import torch
    except ImportError as error:
        raise ValueError(f"peer must be installed: pip install 'titans-mlx[peers]' ({error})") from error
    torch.set_default_device("cuda" if device == "gpu" and torch.cuda.is_available() else "cpu")
    return torch, titans_pytorch


def memory(chunk: int, batch: int, depth: int = 2, device: str = "cpu") -> Any:
    """A memory of the benchmark's width: one weight set per ``chunk`` tokens, gradients anew every ``batch``.

    ``chunk=1`` is a memory per token, as ours is; ``chunk=batch`` its coarse mode.
    """
    torch, package = load(device)
    torch.manual_seed(0)
    return package.NeuralMemory(
        dim=DIM,
        dim_head=DIM // HEADS,
        heads=HEADS,
        chunk_size=chunk,
        batch_size=batch,
        default_model_kwargs={"depth": depth, "expansion_factor": 4.0},
    )


def _finish(torch: Any) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def forward(module: Any, x: np.ndarray, device: str = "cpu") -> Work:
    """Reads of x (B, T, dim) without a graph."""
    torch, _ = load(device)
    given = torch.tensor(x)

    def work() -> None:
        with torch.no_grad():
            module(given)
        _finish(torch)

    return work


def forward_backward(module: Any, x: np.ndarray, device: str = "cpu") -> Work:
    """The mean square of the reads of x, with its gradient for x and every parameter."""
    torch, _ = load(device)
    given = torch.tensor(x, requires_grad=True)

    def work() -> None:
        module.zero_grad()
        given.grad = None
        module(given)[0].square().mean().backward()
        _finish(torch)

    return work


def mac_step(layers: int, segment: int, length: int, device: str = "cpu") -> Work:
    """One update of its MAC on next-token prediction, AdamW, a batch of one."""
    torch, package = load(device)
    torch.manual_seed(0)
    made = package.MemoryAsContextTransformer(
        num_tokens=VOCAB,
        dim=DIM,
        depth=layers,
        segment_len=segment,
        num_persist_mem_tokens=4,
        num_longterm_mem_tokens=segment,
        dim_head=DIM // HEADS,
        heads=HEADS,
        neural_memory_model=package.MemoryMLP(DIM // HEADS, 2, expansion_factor=4.0),
        neural_memory_kwargs={"dim_head": DIM // HEADS, "heads": HEADS},
    )
    for parameter in made.parameters():
        # Some are views of one memory, which AdamW cannot write to.
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-4)
    tokens = torch.randint(0, VOCAB, (1, length + 1))

    def work() -> None:
        optimizer.zero_grad()
        made(tokens, return_loss=True).backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
        _finish(torch)

    return work
