"""Seconds, peak memory of a process, and the primitives of a graph."""

import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any, NamedTuple

import mlx.core as mx
from mlx.utils import tree_flatten

from titans_mlx._check import check_count

# Linux's ru_maxrss outlives exec: a child would begin with what its parent held.
_REPORT = (
    "import resource; print(f'peak={resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}', file=sys.stderr)"
    if sys.platform == "darwin"
    else "print('peak=' + open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)"
)

LONGEST_NAME = 24
"""Of a single primitive; a fused one is named after all that it fuses."""

Row = dict[str, Any]
"""One line of the benchmark's table: figures by name."""

Work = Callable[[], object]
"""Does one piece of work to its end: nothing may be left to be computed when it returns."""


class Timing(NamedTuple):
    """Seconds of each repetition of a work, in order."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of the repetition in the middle."""
        return statistics.median(self.seconds)

    @property
    def fastest(self) -> float:
        """Seconds of the fastest repetition: what else the machine does only ever adds."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """Slowest less fastest, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def by_turns(works: dict[str, Work], repeats: int = 5, warmup: int = 1) -> dict[str, Timing]:
    """Time several works, one repetition of each after the other, so that a slow moment strikes all alike.

    Args:
        works: by name.
        repeats: of each, timed.
        warmup: of each before, not timed.

    Raises:
        ValueError: if a count is too small.
    """
    check_count("repeats", repeats)
    check_count("warmup", warmup, 0)
    for _ in range(warmup):
        for work in works.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return {name: Timing(tuple(taken)) for name, taken in seconds.items()}


def peak_megabytes(command: Sequence[str]) -> float:
    """Largest resident size, in MB, of a process of its own that runs a script, ``command``, with this Python.

    Raises:
        RuntimeError: if it fails; the message ends with what it wrote to its error stream.
    """
    wrapped = f"import runpy, sys; sys.argv = {list(command)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", f"{wrapped}; {_REPORT}"], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {ended.stderr[-2000:]}")
    value = float(re.search(r"peak=(\d+)", ended.stderr)[1])
    return value / 1e6 if sys.platform == "darwin" else value * 1024 / 1e6


def primitives(outputs: object) -> Counter[str]:
    """How often each primitive stands in the graph of ``outputs``, which must not have been evaluated.

    On a GPU nearly every one is a kernel launch. What ``mx.compile`` has fused counts as one ``Compiled``.
    """
    text = StringIO()
    mx.export_to_dot(text, *[leaf for _, leaf in tree_flatten([outputs]) if isinstance(leaf, mx.array)])
    labels = re.findall(r'label ?="([^"]+)", shape=rectangle', text.getvalue())
    names = [re.match(r"\w+", label)[0] for label in labels]
    return Counter("Compiled" if name.startswith("Compiled") or len(name) > LONGEST_NAME else name for name in names)
