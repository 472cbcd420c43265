"""Tidy rows in, altair charts out: the one place that knows how a result is drawn.

Rows are dicts of JSON values, as ``recall_distance.summarise``, ``judging.summarise`` and
``memory.trace.trace_rows`` give them.
"""

from titans_mlx.plots.recall import chosen_rows, cost_chart, recall_chart, recall_picture
from titans_mlx.plots.style import OTHERS, SOLID, STYLES, use_theme
from titans_mlx.plots.sweep import dot_chart, matrix_chart, small_multiples, sweep_chart
from titans_mlx.plots.values import gain_chart, length_chart, tenth_chart, value_chart
from titans_mlx.plots.weights import weights_chart
from titans_mlx.plots.work import attention_chart, bits_chart, memory_heatmap, text_strip, token_strip

__all__ = [
    "OTHERS",
    "SOLID",
    "STYLES",
    "attention_chart",
    "bits_chart",
    "chosen_rows",
    "cost_chart",
    "dot_chart",
    "gain_chart",
    "length_chart",
    "matrix_chart",
    "memory_heatmap",
    "recall_chart",
    "recall_picture",
    "small_multiples",
    "sweep_chart",
    "tenth_chart",
    "text_strip",
    "token_strip",
    "use_theme",
    "value_chart",
    "weights_chart",
]
