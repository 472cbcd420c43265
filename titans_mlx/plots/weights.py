"""The weights of a memory as a picture."""

import altair as alt
import numpy as np


def weights_chart(weights: np.ndarray, *, heading: str = "", cell: int = 11) -> alt.Chart:
    """A matrix (d_out, d_in) as coloured cells, blue below zero and orange above, white at zero.

    Args:
        weights: one layer's weights, finite.
        heading: above the chart.
        cell: side of a cell in pixels.

    Raises:
        ValueError: unless ``weights`` is a matrix of finite numbers.
    """
    if weights.ndim != 2 or not np.isfinite(weights).all():
        raise ValueError(f"weights must be a matrix of finite numbers, got shape {weights.shape}")
    reach = float(np.abs(weights).max()) or 1.0
    cells = [
        {"output": row, "input": column, "weight": float(weights[row, column])}
        for row, column in np.ndindex(*weights.shape)
    ]
    axes = [alt.Axis(title=title, labels=False, ticks=False, domain=False) for title in ("Input", "Output")]
    scale = alt.Scale(scheme="blueorange", domain=[-reach, reach], domainMid=0)
    return (
        alt.Chart(alt.Data(values=cells))
        .mark_rect()
        .encode(
            x=alt.X("input:O", axis=axes[0]),
            y=alt.Y("output:O", axis=axes[1]),
            color=alt.Color("weight:Q", scale=scale, legend=alt.Legend(title="Weight", orient="right")),
            tooltip=[alt.Tooltip("output:O"), alt.Tooltip("input:O"), alt.Tooltip("weight:Q", format=".3f")],
        )
        .properties(width=alt.Step(cell), height=alt.Step(cell), title=heading)
    )
