"""Numbers that are no shares of answers: rates and sizes against length, and what goes with what."""

from collections.abc import Sequence

import altair as alt

from titans_mlx.plots.style import INK, PALE, Row, colour, data, decades, lines, scale, trained


def length_chart(
    rows: Sequence[Row],
    field: str,
    titles: tuple[str, str],
    *,
    heading: str = "",
    interval: bool = False,
    log: bool = True,
    among: Sequence[Row] = (),
    reference: bool = False,
    width: int = 260,
    height: int = 220,
) -> alt.LayerChart:
    """A quantity against length, on logarithmic axes, a line per model.

    Args:
        rows: ``model``, ``x`` (length) and the quantity; ``low`` and ``high`` where there is an interval.
        field: the quantity.
        titles: of the axes, with units.
        heading: above the plot.
        interval: draw a whisker from ``low`` to ``high``, unless some row has none (None).
        log: False makes the quantity's axis linear, for one that hardly changes; it then does not begin at 0.
        among: rows whose models share colours with this chart's; none: its own.
        reference: draw a line at the ``trained_length`` of the rows.
        width, height: of the plot in pixels.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must hold at least one row, got none")
    rows, among = list(rows), list(among) or list(rows)
    interval = interval and all(row["low"] is not None for row in rows)
    values = sorted({row["x"] for row in rows})
    axis = alt.Axis(title=titles[0], values=values, format=",d", labelOverlap=True, labelFlush=False)
    domain = [values[0], max(values[-1], values[0] + 1)]
    names = ("model", "x", field, *(("low", "high") if interval else ()))
    base = alt.Chart(data(rows, tuple(dict.fromkeys(names)))).encode(
        x=alt.X("x:Q", axis=axis, scale=alt.Scale(type="log", base=2, domain=domain, nice=False)),
        y=decades(rows, field, titles[1]) if log else alt.Y(f"{field}:Q", title=titles[1], scale=alt.Scale(zero=False)),
        color=colour(among),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("x:Q", format=",", title=titles[0]),
            alt.Tooltip(f"{field}:Q", format=",.4~g", title=titles[1]),
        ],
    )
    whiskers = [base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q")] if interval else []
    marks = [trained(rows)] if reference else []
    chart = alt.layer(*marks, *whiskers, *lines(base, among, alt.value(1)))
    return chart.properties(width=width, height=height, title=heading)


def value_chart(
    rows: Sequence[Row],
    title: str,
    domain: tuple[float, float],
    marks: Sequence[tuple[float, str]],
    *,
    heading: str = "",
    width: int = 300,
    step: int = 34,
) -> alt.LayerChart:
    """A value of each model with its interval, trained (filled) and untrained (hollow), beside upright lines.

    Args:
        rows: ``model``, ``state`` (trained or not), ``value``, ``low``, ``high``, ``seeds``.
        title: of the axis.
        domain: of the axis.
        marks: where a line stands, and what it says.
        heading: above the plot.
        width: of the plot in pixels.
        step: pixels for a model.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must hold at least one row, got none")
    rows = list(rows)
    order = scale(rows, 0).domain
    base = alt.Chart(data(rows, ("model", "state", "value", "low", "high", "seeds"))).encode(
        y=alt.Y("model:N", sort=order, title=None, axis=alt.Axis(ticks=False)),
        color=alt.Color("model:N", scale=scale(rows, 0), legend=None),
        tooltip=["model:N", "state:N", *[alt.Tooltip(f"{name}:Q", format=".2f") for name in ("value", "low", "high")]],
    )
    within = alt.Scale(domain=list(domain), nice=False, zero=False)
    place = alt.X("value:Q", title=title, scale=within)
    states = list(dict.fromkeys(row["state"] for row in rows))
    shape = alt.Shape(
        "state:N",
        scale=alt.Scale(domain=states, range=["circle", "square"][: len(states)]),
        legend=alt.Legend(title=None, orient="bottom") if len(states) > 1 else None,
    )
    opacity = alt.when(alt.datum.state == states[0]).then(alt.value(1)).otherwise(alt.value(0.35))
    points = base.mark_point(filled=True, size=80).encode(x=place, shape=shape, opacity=opacity)
    whiskers = base.mark_rule(strokeWidth=1.5, clip=True).encode(x=place, x2="high:Q", opacity=opacity)
    whiskers = whiskers.encode(x=alt.X("low:Q", scale=within, title=title))
    upright = alt.Chart(alt.Data(values=[{"at": at, "says": says} for at, says in marks])).encode(
        x=alt.X("at:Q", scale=within)
    )
    rule = upright.mark_rule(strokeDash=[5, 4], color=PALE)
    names = upright.mark_text(baseline="bottom", dy=-3, color=INK, fontSize=12).encode(y=alt.value(0), text="says:N")
    return alt.layer(rule, names, whiskers, points).properties(width=width, height=alt.Step(step), title=heading)


def tenth_chart(rows: Sequence[Row], *, heading: str = "", width: int = 300, height: int = 220) -> alt.LayerChart:
    """Mean rank of a quantity in each tenth of the tokens by negative log-likelihood, a line per model.

    Args:
        rows: ``model``, ``tenth`` (1 to 10), ``value``, a share, and its interval's ends ``low`` and ``high``.
        heading: above the plot.
        width, height: of the plot in pixels.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must hold at least one row, got none")
    rows = list(rows)
    base = alt.Chart(data(rows, ("model", "tenth", "value", "low", "high"))).encode(
        x=alt.X(
            "tenth:O", title="Tenth of the tokens, from expected to unexpected", axis=alt.Axis(labelAngle=0, grid=False)
        ),
        y=alt.Y(
            "value:Q",
            axis=alt.Axis(title="Mean rank (share of tokens below)", format=".0%", values=[0, 0.25, 0.5, 0.75, 1]),
            scale=alt.Scale(domain=[0, 1], nice=False),
        ),
        color=colour(rows),
        tooltip=["model:N", "tenth:O", *[alt.Tooltip(f"{name}:Q", format=".0%") for name in ("value", "low", "high")]],
    )
    band = base.mark_area(opacity=0.13, clip=True).encode(y="low:Q", y2="high:Q")
    middle = alt.Chart(alt.Data(values=[{"half": 0.5}])).encode(y="half:Q")
    rule = middle.mark_rule(strokeDash=[5, 4], color=PALE)
    says = middle.mark_text(align="left", dx=8, color=PALE, fontSize=12).encode(
        x=alt.value("width"), text=alt.value("no relation")
    )
    return alt.layer(band, rule, says, *lines(base, rows, alt.value(1))).properties(
        width=width, height=height, title=heading
    )


FARTHEST = 20.0
"""Where the axis of gains is cut."""


def gain_chart(
    rows: Sequence[Row], order: Sequence[str], title: str, *, width: int = 460, step: int = 40
) -> alt.LayerChart:
    """What a change gains or costs in each task, in units of the least that counts.

    Args:
        rows: ``model`` (the change), ``what`` (the task), ``gain`` and its interval's ends ``gain_low`` and
            ``gain_high`` (None: there is none), ``accuracy``, ``nats``.
        order: the changes from top to bottom.
        title: of the axis.
        width: of the plot in pixels.
        step: pixels for a change.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must hold at least one row, got none")
    cut = [
        {
            **row,
            **{
                name: None if row[column] is None else max(-FARTHEST, min(FARTHEST, row[column]))
                for name, column in (("shown", "gain"), ("low", "gain_low"), ("high", "gain_high"))
            },
        }
        for row in rows
    ]
    tasks = [{"model": task} for task in dict.fromkeys(row["what"] for row in rows)]
    place = alt.X("shown:Q", title=title, scale=alt.Scale(domain=[-FARTHEST, FARTHEST], nice=False))
    columns = ("model", "what", "gain", "shown", "low", "high", "accuracy", "nats")
    base = alt.Chart(data(cut, columns)).encode(
        y=alt.Y("model:N", sort=list(order), title=None, axis=alt.Axis(ticks=False, labelLimit=220, grid=True)),
        yOffset=alt.YOffset("what:N", scale=alt.Scale(paddingOuter=1)),
        color=alt.Color("what:N", scale=scale(tasks, 0), legend=alt.Legend(title=None, orient="bottom")),
        tooltip=["model:N", "what:N", *[alt.Tooltip(f"{n}:Q", format=".3~g") for n in ("gain", "accuracy", "nats")]],
    )
    edge = alt.Chart(alt.Data(values=[{"at": -1}, {"at": 1}])).mark_rule(strokeDash=[5, 4], color=PALE).encode(x="at:Q")
    zero = alt.Chart(alt.Data(values=[{"at": 0}])).mark_rule(color=INK).encode(x="at:Q")
    whiskers = base.transform_filter("datum.low != null").mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q")
    points = base.mark_point(filled=True, size=85, opacity=1).encode(
        x=place, shape=alt.Shape("what:N", scale=scale(tasks, 2))
    )
    height = step * len({row["model"] for row in rows})
    return alt.layer(edge, zero, whiskers, points).properties(width=width, height=height)
