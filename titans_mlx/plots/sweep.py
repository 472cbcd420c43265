"""Accuracy against one setting or two: lines, dots and a matrix."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from titans_mlx.plots.style import INK, Row, chance, colour, data, lines, scale

SHARE = alt.Axis(format=".0%", title="Accuracy (share of answers)", values=[0, 0.25, 0.5, 0.75, 1])
NAMES = ("model", "accuracy", "low", "high", "seeds", "answers", "chance")


def sweep_chart(
    rows: Sequence[Row],
    x: str,
    title: str,
    *,
    names: Sequence[str] = (),
    reference: tuple[float, str] | None = None,
    levels: bool = False,
    width: int = 300,
    height: int = 220,
    heading: str = "",
    among: Sequence[Row] = (),
    outer: tuple[bool, bool] = (True, True),
) -> alt.LayerChart:
    """Accuracy against a setting, a line and a 95 % band per model, with chance.

    Args:
        rows: of ``judging.summarise``, with ``x`` among their columns.
        x: the setting.
        title: of its axis, with the unit.
        names: further columns for the tooltip.
        reference: where an upright line is drawn, if it is within the values, and what it says.
        levels: evenly spaced values of ``x``, for factors with 0; else a logarithmic scale.
        width, height: of the plot in pixels, without axes and legend.
        heading: above the plot.
        among: rows whose models share colours with this chart's; none: its own.
        outer: whether the plot is the first of a row, which has the axis of accuracy, and the last, which names chance.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must hold at least one row, got none")
    among = list(among) or list(rows)
    values = sorted({row[x] for row in rows})
    axis = alt.Axis(title=title, values=values, labelOverlap=True, format="~g" if levels else ",d", labelAngle=0)
    if levels:
        place = alt.X(f"{x}:O", axis=axis, scale=alt.Scale(paddingOuter=0.2))
    else:
        domain = [values[0], max(values[-1], values[0] + 1)]
        place = alt.X(f"{x}:Q", axis=axis, scale=alt.Scale(type="log", base=2, domain=domain, nice=False))
    shown = tuple(dict.fromkeys((*NAMES, x, *names)))
    share = SHARE if outer[0] else alt.Axis(values=SHARE.values, labels=False, ticks=False, domain=False, title=None)
    y = alt.Y("accuracy:Q", axis=share, scale=alt.Scale(domain=[0, 1], nice=False))
    base = alt.Chart(data(list(rows), shown)).encode(x=place, y=y, color=colour(among), tooltip=_tooltip(x, names))
    band = base.mark_area(opacity=0.13, clip=True).encode(y=alt.Y("low:Q", axis=share), y2="high:Q")
    marks = [chance(list(rows), named=outer[1])]
    if reference is not None and values[0] <= reference[0] <= values[-1]:
        marks += _upright(x, *reference, levels=levels)
    return alt.layer(band, *marks, *lines(base, among, alt.value(1))).properties(
        width=width, height=height, title=heading
    )


def small_multiples(
    panels: Sequence[tuple[str, Sequence[Row]]], x: str, title: str, columns: int = 2, **options: Any
) -> alt.ConcatChart:
    """Rows of :func:`sweep_chart`, one per heading and rows, under one legend, each row with one axis of accuracy.

    Args:
        panels: heading and rows of each.
        x, title, options: as for a single one.
        columns: panels beside each other.

    Raises:
        ValueError: if there are no panels, or one has no rows.
    """
    if not panels:
        raise ValueError("panels must hold at least one panel, got none")
    among = [row for _, rows in panels for row in rows]
    lasts = {*range(columns - 1, len(panels), columns), len(panels) - 1}
    each = len({row["chance"] for row in among}) > 1
    charts = [
        sweep_chart(
            rows,
            x,
            title,
            heading=heading,
            among=among,
            outer=(index % columns == 0, each or index in lasts),
            **options,
        )
        for index, (heading, rows) in enumerate(panels)
    ]
    joined = alt.concat(*charts, columns=columns, spacing=14)
    return joined.resolve_scale(color="shared", shape="shared", strokeDash="shared")


def dot_chart(rows: Sequence[Row], y: str, order: Sequence[str], *, width: int = 280, step: int = 64) -> alt.LayerChart:
    """Accuracy of each model under each of a few conditions: a point with its interval, models side by side.

    Args:
        rows: of ``judging.summarise``, with ``y`` among their columns.
        y: the condition.
        order: the conditions from top to bottom.
        width: of the plot in pixels.
        step: pixels for each condition.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must hold at least one row, got none")
    rows = list(rows)
    base = alt.Chart(data(rows, (*NAMES, y))).encode(
        y=alt.Y(f"{y}:N", sort=list(order), title=None, axis=alt.Axis(labelLimit=220, ticks=False)),
        yOffset=alt.YOffset("model:N", sort=scale(rows, 0).domain, scale=alt.Scale(paddingOuter=1)),
        color=colour(rows),
        tooltip=_tooltip(y, ()),
    )
    share = alt.X("accuracy:Q", axis=SHARE, scale=alt.Scale(domain=[0, 1], nice=False))
    interval = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", axis=SHARE), x2="high:Q")
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=share, shape=alt.Shape("model:N", scale=scale(rows, 2))
    )
    guess = alt.Chart(alt.Data(values=[{"chance": rows[0]["chance"]}])).mark_rule(strokeDash=[5, 4], color=INK)
    height = step * len({row[y] for row in rows})
    return alt.layer(guess.encode(x="chance:Q"), interval, points).properties(width=width, height=height)


def matrix_chart(
    rows: Sequence[Row], x: str, y: str, titles: tuple[str, str], *, cell: int = 46, heading: str = ""
) -> alt.LayerChart:
    """Accuracy for every pair of two settings, as colours and numbers.

    Args:
        rows: of ``judging.summarise``, one model, with ``x`` and ``y`` among their columns.
        x, y: the settings.
        titles: of their axes.
        cell: side of a cell in pixels.
        heading: above the chart.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must hold at least one row, got none")
    axes = [alt.Axis(title=title, labelAngle=0, ticks=False, domain=False) for title in titles]
    base = alt.Chart(data(list(rows), (*NAMES, x, y))).encode(
        x=alt.X(f"{x}:O", axis=axes[0]), y=alt.Y(f"{y}:O", axis=axes[1]), tooltip=_tooltip(x, (y,))
    )
    cells = base.mark_rect().encode(
        color=alt.Color("accuracy:Q", scale=alt.Scale(scheme="viridis", domain=[0, 1]), legend=None)
    )
    dark = alt.when(alt.datum.accuracy < 0.6).then(alt.value("white")).otherwise(alt.value(INK))
    numbers = base.mark_text(fontSize=12).encode(text=alt.Text("accuracy:Q", format=".0%"), color=dark)
    return alt.layer(cells, numbers).properties(width=alt.Step(cell), height=alt.Step(cell), title=heading)


def _upright(x: str, value: float, text: str, levels: bool) -> list[alt.Chart]:
    place = alt.X(f"{x}:{'O' if levels else 'Q'}")
    base = alt.Chart(alt.Data(values=[{x: value}])).encode(x=place)
    rule = base.mark_rule(strokeDash=[2, 3], color=INK, strokeWidth=1.2)
    name = base.mark_text(baseline="bottom", align="left", dy=-3, dx=-2, color=INK, fontSize=12)
    return [rule, name.encode(y=alt.value(0), text=alt.value(text))]


def _tooltip(x: str, names: Sequence[str]) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("model:N"),
        *[alt.Tooltip(f"{name}:N") for name in (x, *names)],
        alt.Tooltip("accuracy:Q", format=".1%"),
        alt.Tooltip("low:Q", format=".1%", title="interval from"),
        alt.Tooltip("high:Q", format=".1%", title="to"),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("answers:Q", format=","),
    ]
