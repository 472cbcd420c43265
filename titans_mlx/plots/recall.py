"""Recall against distance, and what it costs."""

import altair as alt

from titans_mlx.claims.recall_jobs import TITANS
from titans_mlx.plots.style import Row, chance, colour, data, decades, lines, trained


def chosen_rows(rows: list[Row], setting: str, option: str, models: list[str] | None = None) -> list[Row]:
    """Rows of ``summarise`` to be compared: those of one setting and option, and the baselines, which have no options.

    Args:
        rows: of all settings, options and models.
        setting: rows of this setting are kept.
        option: Titans variants trained with this option are kept; of other models, those trained without any.
        models: names to keep; None: all.
    """
    return [
        row
        for row in rows
        if row["setting"] == setting
        and row["option"] == (option if row["model"] in TITANS else "paper")
        and (models is None or row["model"] in models)
    ]


def recall_chart(
    rows: list[Row],
    setting: str,
    option: str = "paper",
    *,
    width: int = 410,
    height: int = 360,
    title: str = "",
    among: list[Row] | None = None,
) -> alt.LayerChart:
    """Accuracy of recall against distance, a line and a 95 % band per model, with chance and the training length.

    Args:
        rows: of ``summarise``.
        setting, option: what is drawn, by :func:`chosen_rows`.
        width, height: of the plot in pixels, without axes and legend.
        title: above the chart.
        among: rows whose models share colours and legend with this chart's; None: its own.

    Raises:
        ValueError: if there is nothing to draw.
    """
    shown = chosen_rows(rows, setting, option)
    if not shown:
        have = sorted({(row["setting"], row["option"]) for row in rows})
        raise ValueError(f"setting and option must be those of a row, one of {have}, got {(setting, option)}")
    among = shown if among is None else among
    names = ("model", "distance", "accuracy", "low", "high", "seeds", "answers", "filler_step")
    x, focus = _distance_axis(shown), alt.selection_point(f"focus_{setting}", fields=["model"], bind="legend")
    base = alt.Chart(data(shown, names)).encode(x=x, color=colour(among))
    focused = alt.when(focus)
    share = alt.Axis(format=".0%", title="Accuracy of recall (share of answers)", values=[0, 0.25, 0.5, 0.75, 1])
    y_scale = alt.Scale(domain=[0, 1], nice=False)
    band = base.mark_area(clip=True).encode(
        y=alt.Y("low:Q", axis=share, scale=y_scale),
        y2="high:Q",
        opacity=focused.then(alt.value(0.13)).otherwise(alt.value(0)),
    )
    points = lines(
        base.encode(y=alt.Y("accuracy:Q", axis=share, scale=y_scale), tooltip=_tooltip()),
        among,
        focused.then(alt.value(1)).otherwise(alt.value(0.12)),
    )
    marks = [chance(shown), trained(shown)]
    return alt.layer(band, *marks, *points).add_params(focus).properties(width=width, height=height, title=title)


def recall_picture(rows: list[Row], option: str = "paper") -> alt.HConcatChart:
    """:func:`recall_chart` of every setting there is, side by side under one legend.

    Args:
        rows: of ``summarise``.
        option: as for :func:`recall_chart`.

    Raises:
        ValueError: if no row has this option.
    """
    settings = list(dict.fromkeys(row["setting"] for row in rows if row["option"] == option))
    if not settings:
        raise ValueError(
            f"option must be that of a row, one of {sorted({row['option'] for row in rows})}, got {option!r}"
        )
    titles = {name: f"{name.capitalize()} filler words" for name in settings}
    among = [row for name in settings for row in chosen_rows(rows, name, option)]
    size = {"width": 400, "height": 300}
    panels = [recall_chart(rows, name, option, title=titles[name], among=among, **size) for name in settings]
    return alt.hconcat(*panels).resolve_scale(color="shared", shape="shared", strokeDash="shared")


def cost_chart(rows: list[Row], *, width: int = 270, height: int = 140, legend: bool = True) -> alt.VConcatChart:
    """Seconds to read a sequence, and most memory in use, against distance; both logarithmic.

    Args:
        rows: of ``summarise``, one setting and option.
        width, height: of each of the two plots in pixels.
        legend: False leaves it out, for a place beside :func:`recall_chart`.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must hold at least one row, got none")
    names = ("model", "distance", "seconds_per_sequence", "peak_megabytes")
    panels = []
    for field, title in (
        ("seconds_per_sequence", "Seconds per sequence"),
        ("peak_megabytes", "Peak memory per sequence (MB)"),
    ):
        last = field == "peak_megabytes"
        tooltip = [
            alt.Tooltip("model:N"),
            alt.Tooltip("distance:Q", format=","),
            alt.Tooltip(f"{field}:Q", format=".3~g"),
        ]
        base = alt.Chart(data(rows, names)).encode(
            x=_distance_axis(rows, short=True, title=last),
            y=decades(rows, field),
            color=colour(rows, legend),
            tooltip=tooltip,
        )
        layers = alt.layer(*lines(base, rows, alt.value(1), legend))
        panels.append(layers.properties(width=width, height=height, title=title))
    return alt.vconcat(*panels)


def _distance_axis(rows: list[Row], short: bool = False, title: bool = True) -> alt.X:
    distances = sorted({row["distance"] for row in rows})
    name = "Distance (tokens)" if short else "Distance (filler tokens between pair and query)"
    ends = [*distances, *[row["trained_length"] for row in rows if not short]]
    values = distances[::-2] if short else distances
    axis = alt.Axis(
        title=name if title else None, values=values, format=",d", grid=not short, labelFlush=False, labelOverlap=True
    )
    scale = alt.Scale(type="log", base=2, domain=[min(ends), max(ends)], nice=False)
    return alt.X("distance:Q", axis=axis, scale=scale)


def _tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("model:N"),
        alt.Tooltip("distance:Q", format=","),
        alt.Tooltip("accuracy:Q", format=".1%"),
        alt.Tooltip("low:Q", format=".1%", title="interval from"),
        alt.Tooltip("high:Q", format=".1%", title="to"),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("answers:Q", format=","),
        alt.Tooltip("filler_step:Q", format=".2~g", title="largest theta on filler"),
    ]
