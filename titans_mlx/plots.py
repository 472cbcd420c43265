"""Tidy rows in, altair charts out: the one place that knows how a result is drawn.

Rows are dicts of JSON values, as ``recall_distance.summarise`` and ``memory.trace.trace_rows`` give them. Colours are
Okabe and Ito's, told apart by colour-blind eyes; every model has a shape of its own, and what is not Titans is dashed.
"""

import json
import math
from typing import Any

import altair as alt

from titans_mlx.claims.recall_jobs import TITANS

Row = dict[str, Any]

FONT = "Helvetica Neue, Helvetica, Arial, DejaVu Sans, sans-serif"
INK, PALE, GRID = "#222222", "#6b6b6b", "#e4e4e4"
SOLID = [1, 0]

STYLES: dict[str, tuple[str, list[int], str]] = {
    "LMM matrix": ("#0072B2", SOLID, "circle"),
    "LMM deep": ("#56B4E9", SOLID, "square"),
    "MAC": ("#009E73", SOLID, "triangle-up"),
    "MAG": ("#D55E00", SOLID, "diamond"),
    "MAL": ("#CC79A7", SOLID, "triangle-down"),
    "RetNet": ("#E69F00", [2, 2], "cross"),
    "Linear attention": ("#E69F00", [8, 3], "square"),
    "DeltaNet": ("#7b3294", [6, 2], "diamond"),
    "Gated DeltaNet": ("#7b3294", [2, 2], "triangle-up"),
    "TTT linear": ("#8c510a", [6, 2], "circle"),
    "TTT MLP": ("#8c510a", [2, 2], "triangle-down"),
    "Sliding window": ("#000000", [6, 3], "square"),
    "Transformer": ("#6b6b6b", [9, 3, 2, 3], "triangle-right"),
    "Transformer, no positions": ("#9a9a9a", [2, 3], "triangle-left"),
}
"""Colour, dash and shape of each model of the recall claim; other names get the greys of ``OTHER``."""
OTHER = ("#9a9a9a", SOLID, "circle")

PANELS = (
    ("surprise", "Surprise: norm of the gradient of the loss"),
    ("theta", "Step size theta: share of the momentary surprise that is written"),
    ("eta", "Momentum eta: share of the past surprise that is carried on"),
    ("alpha", "Decay alpha: share of the old weights that is forgotten"),
    ("movement", "Movement: norm of the change of the weights so far"),
)
SCALE_WIDTH = 80
TOKEN_COLOURS = {"k": "#0072B2", "v": "#D55E00", "f": "#8a8a8a"}


def use_theme() -> None:
    """Make the look of this package altair's, for the whole process: readable sizes, a font stack, a white ground."""
    config = {
        "background": "white",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "labelFontSize": 12,
            "titleFontSize": 13,
            "titleFontWeight": "normal",
            "labelColor": INK,
            "titleColor": INK,
            "titlePadding": 8,
            "gridColor": GRID,
            "domainColor": PALE,
            "tickColor": PALE,
        },
        "legend": {"labelFontSize": 12, "titleFontSize": 12, "symbolSize": 90, "labelLimit": 240, "labelColor": INK},
        "title": {
            "fontSize": 14,
            "anchor": "start",
            "frame": "group",
            "fontWeight": 600,
            "color": INK,
            "subtitleColor": PALE,
        },
        "header": {"labelFontSize": 12, "titleFontSize": 13},
    }
    alt.theme.register("titans", enable=True)(lambda: alt.theme.ThemeConfig({"config": config}))


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
    base = alt.Chart(_data(shown, names)).encode(x=x, color=_colour(among))
    focused = alt.when(focus)
    share = alt.Axis(format=".0%", title="Accuracy of recall (share of answers)", values=[0, 0.25, 0.5, 0.75, 1])
    y_scale = alt.Scale(domain=[0, 1], nice=False)
    band = base.mark_area(clip=True).encode(
        y=alt.Y("low:Q", axis=share, scale=y_scale),
        y2="high:Q",
        opacity=focused.then(alt.value(0.13)).otherwise(alt.value(0)),
    )
    points = _lines(
        base.encode(y=alt.Y("accuracy:Q", axis=share, scale=y_scale), tooltip=_tooltip()),
        among,
        focused.then(alt.value(1)).otherwise(alt.value(0.12)),
    )
    marks = [_chance(shown), _trained(shown)]
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
        base = alt.Chart(_data(rows, names)).encode(
            x=_distance_axis(rows, short=True, title=last),
            y=_decades(rows, field),
            color=_colour(rows, legend),
            tooltip=tooltip,
        )
        layers = alt.layer(*_lines(base, rows, alt.value(1), legend))
        panels.append(layers.properties(width=width, height=height, title=title))
    return alt.vconcat(*panels)


def memory_heatmap(rows: list[Row], *, step: int = 10, row_height: int = 18) -> alt.VConcatChart:
    """One sequence through a model's memories: surprise, gates and movement, each on a colour scale of its own.

    Args:
        rows: of ``trace_rows``: position, token, block, head, layer and the five quantities.
        step: width of a token in pixels.
        row_height: height of a memory in pixels.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must not be empty")
    tokens = dict(sorted((row["position"], row["token"]) for row in rows))
    many = {name: len({row[name] for row in rows}) > 1 for name in ("block", "head", "layer")}
    drawn = [{**row, "memory": _memory_name(row, many)} for row in rows]
    order = list(dict.fromkeys(row["memory"] for row in drawn))
    panels = [_panel(drawn, order, field, title, step, row_height) for field, title in PANELS]
    panels[-1] = panels[-1].encode(x=alt.X("position:O", axis=_token_axis(tokens)))
    return alt.vconcat(*panels, data=alt.Data(values=drawn), spacing=10).resolve_scale(color="independent")


def _panel(rows: list[Row], order: list[str], field: str, title: str, step: int, row_height: int) -> alt.Chart:
    """One quantity: memories by tokens, the colour scale at the right end of the title's line."""
    width, top = step * len({row["position"] for row in rows}), max(row[field] for row in rows) or 1.0
    legend = alt.Legend(
        title=None,
        orient="none",
        direction="horizontal",
        legendX=width - SCALE_WIDTH,
        legendY=-24,
        gradientLength=SCALE_WIDTH,
        gradientThickness=8,
        values=[0, top],
        labelExpr="format(datum.value, datum.value > 0 && datum.value < 0.001 ? '.1e' : '.2~g')",
        labelFontSize=11,
    )
    tooltip = ["token:N", "position:Q", "memory:N", *[alt.Tooltip(f"{name}:Q", format=".3~g") for name, _ in PANELS]]
    return (
        alt.Chart()
        .mark_rect()
        .encode(
            x=alt.X("position:O", axis=None),
            y=alt.Y("memory:N", sort=order, title=None),
            color=alt.Color(f"{field}:Q", scale=alt.Scale(scheme="viridis", domain=[0, top]), legend=legend),
            tooltip=tooltip,
        )
        .properties(
            width=width,
            height=alt.Step(row_height),
            title=alt.TitleParams(title, fontSize=12, fontWeight="normal", offset=-18),
        )
    )


def _memory_name(row: Row, many: dict[str, bool]) -> str:
    """What tells a memory from the others on the chart."""
    parts = [f"{name} {row[name]}" for name in ("block", "head", "layer") if many[name]]
    return ", ".join(parts) or f"head {row['head']}"


def _token_axis(tokens: dict[int, str]) -> alt.Axis:
    """Positions labelled by the words read there, coloured by what they are: key, value, filler."""
    words = f"{json.dumps(tokens)}[datum.value]"
    colours = [{"test": f"{words}[0] == '{first}'", "value": colour} for first, colour in TOKEN_COLOURS.items()]
    return alt.Axis(
        labelExpr=words,
        labelAngle=-90,
        labelFontSize=10,
        labelOverlap=False,
        labelColor={"condition": colours, "value": INK},
        ticks=False,
        title="Token read (k key, v value, f filler word)",
    )


def _data(rows: list[Row], names: tuple[str, ...]) -> alt.Data:
    return alt.Data(values=[{name: row[name] for name in names} for row in rows])


def _decades(rows: list[Row], field: str) -> alt.Y:
    """A logarithmic axis over whole powers of ten."""
    values = [row[field] for row in rows if row[field] > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    ticks = [10.0**power for power in range(low, max(high, low + 1) + 1)]
    scale = alt.Scale(type="log", domain=[ticks[0], ticks[-1]], nice=False)
    return alt.Y(f"{field}:Q", title=None, scale=scale, axis=alt.Axis(values=ticks, format=",~g"))


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


def _colour(rows: list[Row], legend: bool = True) -> alt.Color:
    return alt.Color("model:N", scale=_scale(rows, 0), legend=_legend(legend))


def _scale(rows: list[Row], part: int) -> alt.Scale:
    """The models on the chart in the order of ``STYLES``, and their colours (0), dashes (1) or shapes (2)."""
    present = {row["model"] for row in rows}
    models = [name for name in STYLES if name in present] + sorted(present - STYLES.keys())
    return alt.Scale(domain=models, range=[STYLES.get(name, OTHER)[part] for name in models])


def _legend(shown: bool) -> alt.Legend | None:
    return alt.Legend(title=None, orient="bottom", columns=3, symbolOpacity=1, symbolStrokeWidth=0) if shown else None


def _lines(base: alt.Chart, rows: list[Row], opacity: Any, legend: bool = True) -> list[alt.Chart]:
    dash = alt.StrokeDash("model:N", scale=_scale(rows, 1), legend=None)
    shape = alt.Shape("model:N", scale=_scale(rows, 2), legend=_legend(legend))
    line = base.mark_line(strokeWidth=2).encode(strokeDash=dash, opacity=opacity)
    return [line, base.mark_point(filled=True, size=55).encode(shape=shape, opacity=opacity)]


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


def _chance(rows: list[Row]) -> alt.LayerChart:
    """A dashed line where guessing would be, named beside the plot."""
    chance = rows[0]["chance"]
    base = alt.Chart(alt.Data(values=[{"chance": chance}])).encode(y="chance:Q")
    rule = base.mark_rule(strokeDash=[5, 4], color=PALE)
    name = base.mark_text(align="left", dx=8, color=PALE, fontSize=12)
    return rule + name.encode(x=alt.value("width"), text=alt.value(f"chance {chance:.0%}"))


def _trained(rows: list[Row]) -> alt.LayerChart:
    """An upright line at the longest training sequence, named above the plot."""
    length = max(row["trained_length"] for row in rows)
    base = alt.Chart(alt.Data(values=[{"length": length}])).encode(x="length:Q")
    rule = base.mark_rule(strokeDash=[2, 3], color=INK, strokeWidth=1.2)
    name = base.mark_text(baseline="bottom", dy=-3, color=INK, fontSize=12)
    return rule + name.encode(y=alt.value(0), text=alt.value(f"trained up to {length:,} tokens"))
