"""How every chart looks: theme, one colour, dash and shape per model, and the marks that charts share.

Colours are Okabe and Ito's, told apart by colour-blind eyes, with two pairs more for the many recurrences; a model's
colour and shape are its own, and what is not a model of Titans as published is dashed.
"""

import math
from typing import Any

import altair as alt

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
    "Linear attention": ("#b59a00", [8, 3], "square"),
    "DeltaNet": ("#7b3294", [6, 2], "diamond"),
    "Gated DeltaNet": ("#b58ad6", [2, 2], "triangle-up"),
    "TTT linear": ("#8c510a", [6, 2], "circle"),
    "TTT MLP": ("#d0924a", [2, 2], "triangle-down"),
    "Sliding window": ("#000000", [6, 3], "square"),
    "Transformer": ("#6b6b6b", [9, 3, 2, 3], "triangle-right"),
    "Transformer, no positions": ("#9a9a9a", [2, 3], "triangle-left"),
    "DLinear": ("#882255", [4, 2], "diamond"),
    "LMM deep, fading to birth": ("#00426b", [4, 2], "square"),
    "MAL, fading to birth": ("#b0256f", [4, 2], "triangle-down"),
    "MAG, fading to birth": ("#8a3d00", [4, 2], "diamond"),
}
"""Colour, dash and shape of each model that several charts may show; what is none of them is in ``FIXED``."""
OTHERS = tuple(
    (colour, SOLID, shape)
    for colour, shape in zip(
        ("#332288", "#44aa99", "#cc6677", "#999933", "#666633", "#117733", "#aa4499", "#ee8866", "#777777", "#661100"),
        ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left") * 2,
        strict=False,
    )
)
"""Mostly colours of Paul Tol's, none of them a model's of ``STYLES``."""
SAME = {
    "LMM matrix, online": "LMM matrix",
    "matrix, keys of 64": "LMM matrix",
    "Titans, matrix": "LMM matrix",
    "LMM deep, chunk 1": "LMM deep",
    "Titans (LMM)": "LMM deep",
    "TTT-Linear": "TTT linear",
    "TTT-MLP": "TTT MLP",
}
"""Models of ``STYLES`` under other names."""
COMPANIES = (
    ("LMM matrix, theta to 1", "LMM matrix, no momentum", "LMM deep, no momentum"),
    (
        *("matrix, keys of 16", "matrix, keys of 32", "matrix of 64, anchored"),
        *("depth 2, width x 1", "depth 2, width x 2", "depth 2, width x 4", "depth 3, width x 2"),
    ),
    ("depth 1", "depth 2", "depth 3", "depth 4"),
    (
        *("LMM matrix, anchored", "MAC, segment 16, chunk 16", "MAC, segment 16, chunk 64"),
        *("MAC, segment 64, chunk 16", "MAC, segment 64, chunk 64"),
    ),
    (
        *("no decay", "no momentum", "no convolution", "linear memory", "no persistent tokens", "decay to birth"),
        *("with attention (MAC)", "with attention (MAG)", "with attention (MAL)", "plain matrix"),
    ),
    ("recall", "rebinding", "prose"),
    (
        *("Mamba-2", "GLA", "Longhorn", "Titans (NeurIPS)", "Moneta", "Yaad", "Memora", "OmegaNet"),
        "Titans, matrix, chunks of 16",
    ),
    ("squared error", "squared error, writes bounded", "Huber", "l_1.5", "l_3", "dot product"),
    ("writes", "no writes", "reset every 256 bytes"),
)
"""What is shown together, and keeps its style whatever else is on the chart."""
FIXED: dict[str, tuple[str, list[int], str]] = {
    **{name: STYLES[model] for name, model in SAME.items()},
    **{name: style for company in COMPANIES for name, style in zip(company, OTHERS, strict=False)},
    "no memory": ("#000000", [1, 3], "cross"),
    "by hand": ("#9a9a9a", [4, 2], "circle"),
    "as many as keys are wide": ("#000000", [2, 2], "square"),
}


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
        # On a dark page these would be white, as the ground is.
        "style": {"guide-label": {"fill": INK}, "guide-title": {"fill": INK}},
    }
    alt.theme.register("titans", enable=True)(lambda: alt.theme.ThemeConfig({"config": config}))


def data(rows: list[Row], names: tuple[str, ...]) -> alt.Data:
    """Some columns of the rows, in the chart itself."""
    return alt.Data(values=[{name: row[name] for name in names} for row in rows])


def colour(rows: list[Row], legend: bool = True) -> alt.Color:
    """One colour per model, and the legend."""
    return alt.Color("model:N", scale=scale(rows, 0), legend=_legend(legend))


def scale(rows: list[Row], part: int) -> alt.Scale:
    """The models on the chart in the order of ``STYLES``, and their colours (0), dashes (1) or shapes (2).

    What neither it nor ``FIXED`` knows gets the styles that are left, by turns.
    """
    present = dict.fromkeys(row["model"] for row in rows)
    known = STYLES | FIXED
    others = [name for name in present if name not in known]
    styles = {name: known[name] for name in known if name in present}
    taken = {style[0] for style in styles.values()}
    free = [style for style in OTHERS if style[0] not in taken] or OTHERS
    styles |= {name: free[index % len(free)] for index, name in enumerate(others)}
    return alt.Scale(domain=list(styles), range=[style[part] for style in styles.values()])


def _legend(shown: bool) -> alt.Legend | None:
    return alt.Legend(title=None, orient="bottom", columns=3, symbolOpacity=1, symbolStrokeWidth=0) if shown else None


def lines(base: alt.Chart, rows: list[Row], opacity: Any, legend: bool = True) -> list[alt.Chart]:
    """A line per model with its points."""
    dash = alt.StrokeDash("model:N", scale=scale(rows, 1), legend=None)
    shape = alt.Shape("model:N", scale=scale(rows, 2), legend=_legend(legend))
    line = base.mark_line(strokeWidth=2).encode(strokeDash=dash, opacity=opacity)
    return [line, base.mark_point(filled=True, size=55).encode(shape=shape, opacity=opacity)]


def decades(rows: list[Row], field: str, title: str | None = None) -> alt.Y:
    """A logarithmic axis over whole powers of ten."""
    values = [row[field] for row in rows if row[field] > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    ticks = [10.0**power for power in range(low, max(high, low + 1) + 1)]
    scale = alt.Scale(type="log", domain=[ticks[0], ticks[-1]], nice=False)
    return alt.Y(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(values=ticks, format=",~g"))


def chance(rows: list[Row], named: bool = True) -> alt.LayerChart:
    """A dashed line where guessing would be, named beside the plot."""
    chance = rows[0]["chance"]
    base = alt.Chart(alt.Data(values=[{"chance": chance}])).encode(y="chance:Q")
    rule = base.mark_rule(strokeDash=[5, 4], color=PALE)
    if not named:
        return alt.layer(rule)
    name = base.mark_text(align="left", dx=8, color=PALE, fontSize=12)
    return rule + name.encode(x=alt.value("width"), text=alt.value(f"chance {chance:.0%}"))


def trained(rows: list[Row]) -> alt.LayerChart:
    """An upright line at the longest training sequence, named above the plot."""
    length = max(row["trained_length"] for row in rows)
    base = alt.Chart(alt.Data(values=[{"length": length}])).encode(x="length:Q")
    rule = base.mark_rule(strokeDash=[2, 3], color=INK, strokeWidth=1.2)
    name = base.mark_text(baseline="bottom", align="left", dy=-3, dx=-2, color=INK, fontSize=12)
    return rule + name.encode(y=alt.value(0), text=alt.value(f"trained up to {length:,}"))
