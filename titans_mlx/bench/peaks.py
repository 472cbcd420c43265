"""What is held at most: sizes of whole processes, and of arrays where chunks are recomputed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from titans_mlx.bench import by_turns, ours, peak_megabytes, peers
from titans_mlx.bench.measure import Row, Work
from titans_mlx.config import MemoryConfig
from titans_mlx.memory import recipes

SPAN = 4
"""Chunks that are recomputed at a time."""


def _spans(recompute: int) -> MemoryConfig:
    return recipes.titans(chunk_size=64, recompute=recompute)


def _ours_backward(recompute: int) -> Callable[[str], Work]:
    return lambda device: ours.forward_backward(ours.unchecked(_spans(recompute)), ours.features(2, 4096))


def _peer_backward(device: str) -> Work:
    module = peers.memory(64, 64, device=device)
    return peers.forward_backward(module, ours.features(2, 4096), device)


def _stream(tokens: int) -> Callable[[str], Work]:
    return lambda device: ours.prefill(ours.model(ours.config("lmm")), 1, tokens)


PEAKS: dict[str, Callable[[str], Work]] = {
    "ours": _ours_backward(0),
    "recomputed": _ours_backward(SPAN),
    "peer": _peer_backward,
    "stream-16384": _stream(16_384),
    "stream-1000000": _stream(1_000_000),
}


PROCESSES = 3
"""Processes a peak is the median of: one of the same work differs by some 3 per cent from the next."""


def peak(device: str, repeats: int) -> Iterator[Row]:
    """Resident size of processes of their own, at their worst: the median of several, one of each by turns."""
    for recompute in (0, SPAN):
        ours.memory(_spans(recompute))
    script = str(Path(__file__).with_name("weighed.py"))
    names = [name for name in PEAKS if name != "peer" or peers.versions()]
    rounds = [{name: peak_megabytes([script, name, device]) for name in names} for _ in range(PROCESSES)]
    sizes = {name: median(taken[name] for taken in rounds) for name in names}
    for measure, first, second, reach in (
        ("peak of forward+backward, T 4096, chunk 64", "ours", "peer", 0.25),
        (f"the same, recomputing {SPAN} chunks at a time", "recomputed", "peer", 0.25),
        ("peak of streaming 1,000,000 tokens over 16,384", "stream-1000000", "stream-16384", 1.05),
    ):
        row: Row = {"measure": measure, "mb": sizes[first], "processes": PROCESSES}
        if second in sizes:
            row |= {"against_mb": sizes[second], "ratio": sizes[first] / sizes[second], "to_reach": reach}
        yield row


def recompute(device: str, repeats: int) -> Iterator[Row]:
    """Recomputed spans against kept chunks, both compiled: peak of arrays held, time, and how far gradients differ."""
    x = ours.features(2, 4096)
    kept, again = (ours.memory(_spans(recompute)) for recompute in (0, SPAN))
    again.update(kept.parameters())
    works = {"kept": ours.forward_backward(kept, x), "again": ours.forward_backward(again, x)}
    timings = by_turns(works, repeats)
    peaks = {name: ours.peak_of_arrays(work) for name, work in works.items()}
    yield {
        "measure": f"recomputing {SPAN} chunks at a time, T 4096, chunk 64",
        **{f"{name}_mb": peak for name, peak in peaks.items()},
        "ratio": peaks["kept"] / peaks["again"],
        "to_reach": 4.0,
        "time_ratio": timings["again"].median / timings["kept"].median,
        "gradient_error": ours.gradient_error(kept, again, x),
    }
