"""Measuring: what is timed is first checked equal to its definition, and what is compared is run by turns.

``measure`` times and weighs, ``ours`` and ``peers`` make what is measured, ``scripts/bench.py`` prints it.
"""

from titans_mlx.bench.measure import Timing, by_turns, peak_megabytes, primitives

__all__ = ["Timing", "by_turns", "peak_megabytes", "primitives"]
