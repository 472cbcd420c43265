"""A memory at work, token by token."""

import json

import altair as alt

from titans_mlx.plots.style import INK, Row

PANELS = (
    ("surprise", "Surprise: norm of the gradient of the loss"),
    ("theta", "Step size theta: share of the momentary surprise that is written"),
    ("eta", "Momentum eta: share of the past surprise that is carried on"),
    ("alpha", "Decay alpha: share of the old weights that is forgotten"),
    ("movement", "Movement: norm of the change of the weights so far"),
)
SCALE_WIDTH = 80
TOKEN_COLOURS = {"k": "#0072B2", "v": "#D55E00", "f": "#8a8a8a"}


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
