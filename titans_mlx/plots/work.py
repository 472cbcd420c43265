"""A memory at work, token by token."""

import json
from collections.abc import Sequence
from typing import Any

import altair as alt

from titans_mlx.plots.style import INK, PALE, Row, data

PANELS = (
    ("surprise", "Surprise: norm of the gradient of the loss"),
    ("theta", "Step size theta: share of the momentary surprise that is written"),
    ("eta", "Momentum eta: share of the past surprise that is carried on"),
    ("alpha", "Decay alpha: share of the old weights that is forgotten"),
    ("movement", "Movement: norm of the change of the weights so far"),
    ("rank", "Effective rank of that change: directions of the memory in use"),
)
TEXT_PANELS = (
    ("nll", "Negative log-likelihood of the token (nats)"),
    ("surprise", "Surprise: norm of the gradient of the memory's loss"),
    ("written", "Written: surprise, bounded, times theta"),
)
STATES = ["#9a9a9a", "#D55E00"]
"""Of a model without and with what it read."""
Fields = Sequence[tuple[str, str]]
SCALE_WIDTH = 80
TOKEN_COLOURS = {"k": "#0072B2", "v": "#D55E00", "f": "#8a8a8a"}


def memory_heatmap(rows: list[Row], *, kinds: bool = True, step: int = 10, row_height: int = 18) -> alt.VConcatChart:
    """One sequence through a model's memories: surprise, gates and movement, each on a colour scale of its own.

    Args:
        rows: of ``trace_rows``: position, token, block, head, layer and the quantities, of which one may be missing.
        kinds: tokens are named by what they are: key, value, filler; False: text.
        step: width of a token in pixels.
        row_height: height of a memory in pixels.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must not be empty")
    many = {name: len({row[name] for row in rows}) > 1 for name in ("block", "head", "layer")}
    drawn = [{**row, "memory": _memory_name(row, many)} for row in rows]
    order = list(dict.fromkeys(row["memory"] for row in drawn))
    fields = [(name, title) for name, title in PANELS if name in rows[0]]
    return _panels(drawn, order, fields, kinds, step, row_height)


def token_strip(rows: list[Row], *, step: int = 8, row_height: int = 22) -> alt.VConcatChart:
    """What each token of a text meant to a model: its negative log-likelihood, its surprise, what was written.

    Args:
        rows: position, token, nll, surprise, written.
        step: width of a token in pixels.
        row_height: of each of the three rows in pixels.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must not be empty")
    return _panels([{**row, "memory": ""} for row in rows], [""], TEXT_PANELS, False, step, row_height)


def attention_chart(rows: list[Row], parts: Sequence[str], *, cell: int = 12) -> alt.HConcatChart:
    """Where each token of a segment looks: a panel per part of what it may see, one colour scale for all.

    Args:
        rows: of ``map_rows``: row, token, part, column, seen, weight.
        parts: the panels from left to right; those without a row are left out.
        cell: side of a cell in pixels.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must not be empty")
    tokens = dict(sorted((row["row"], row["token"]) for row in rows))
    top = max(row["weight"] for row in rows)
    colour = alt.Color("weight:Q", scale=alt.Scale(scheme="viridis", domain=[0, top]), title="Weight")
    panels = []
    for part in parts:
        found = [row for row in rows if row["part"] == part]
        if not found:
            continue
        names = dict(sorted((row["column"], row["seen"]) for row in found))
        first = alt.Axis(**_word_axis(tokens), labelFontSize=9, title="Token that looks")
        y = alt.Y("row:O", axis=None if panels else first)
        axis = alt.Axis(**_word_axis(names), labelAngle=-90, labelFontSize=9, title=None)
        chart = (
            alt.Chart(alt.Data(values=found))
            .mark_rect()
            .encode(
                x=alt.X("column:O", axis=axis),
                y=y,
                color=colour,
                tooltip=[
                    "token:N",
                    alt.Tooltip("seen:N", title="looks at"),
                    "part:N",
                    alt.Tooltip("weight:Q", format=".2f"),
                ],
            )
        )
        panels.append(chart.properties(width=cell * len(names), height=cell * len(tokens), title=part.capitalize()))
    return alt.hconcat(*panels, spacing=10).resolve_scale(y="shared", color="shared")


def _panels(
    rows: list[Row], order: list[str], fields: Fields, kinds: bool, step: int, row_height: int
) -> alt.VConcatChart:
    title = "Token read (k key, v value, f filler word)" if kinds else "Token read"
    tokens = dict(sorted((row["position"], row["token"]) for row in rows))
    panels = [_panel(rows, order, fields, place, step, row_height) for place in range(len(fields))]
    panels[-1] = panels[-1].encode(x=alt.X("position:O", axis=_token_axis(tokens, title, kinds)))
    return alt.vconcat(*panels, data=alt.Data(values=rows), spacing=10).resolve_scale(color="independent")


def _panel(rows: list[Row], order: list[str], fields: Fields, place: int, step: int, row_height: int) -> alt.Chart:
    """One quantity: memories by tokens, the colour scale at the right end of the title's line."""
    field, title = fields[place]
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
    tooltip = ["token:N", "position:Q", "memory:N", *[alt.Tooltip(f"{name}:Q", format=".3~g") for name, _ in fields]]
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


def _token_axis(tokens: dict[int, str], title: str, kinds: bool) -> alt.Axis:
    # Words of a letter stand side by side; longer ones would run into each other.
    upright = any(len(token) > 1 for token in tokens.values())
    size = 8 if upright and not kinds else 10
    return alt.Axis(**_word_axis(tokens, kinds), labelAngle=-90 if upright else 0, labelFontSize=size, title=title)


def _word_axis(tokens: dict[int, str], kinds: bool = True) -> dict[str, Any]:
    """Positions labelled by the words read there; with ``kinds``, coloured by what they are: key, value, filler."""
    words = f"{json.dumps(tokens)}[datum.value]"
    colours = [{"test": f"{words}[0] == '{first}'", "value": colour} for first, colour in TOKEN_COLOURS.items()]
    return {
        "labelExpr": words,
        "labelOverlap": False,
        "labelColor": {"condition": colours, "value": INK} if kinds else INK,
        "ticks": False,
    }


def text_strip(rows: list[Row], *, step: int = 9, row_height: int = 22) -> alt.VConcatChart:
    """How many bits each byte of a text cost.

    Args:
        rows: position, token, bits.
        step: width of a byte in pixels.
        row_height: in pixels.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must not be empty")
    fields = (("bits", "Bits of the byte: how little it was expected"),)
    return _panels([{**row, "memory": ""} for row in rows], [""], fields, False, step, row_height)


def bits_chart(rows: list[Row], *, step: int = 11, height: int = 180) -> alt.LayerChart:
    """Bits of each byte of a text, a line for each of two states of what was read before.

    Args:
        rows: model (the state), position, token, bits.
        step: width of a byte in pixels.
        height: of the plot in pixels.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must not be empty")
    tokens = dict(sorted((row["position"], row["token"]) for row in rows))
    states = list(dict.fromkeys(row["model"] for row in rows))
    legend = alt.Legend(title=None, orient="bottom", symbolStrokeWidth=0)
    base = alt.Chart(data(rows, ("model", "position", "token", "bits"))).encode(
        x=alt.X("position:O", axis=_token_axis(tokens, "Byte to predict", False)),
        y=alt.Y("bits:Q", title="Bits of the byte"),
        color=alt.Color("model:N", scale=alt.Scale(domain=states, range=STATES[: len(states)]), legend=legend),
        tooltip=["model:N", "token:N", alt.Tooltip("bits:Q", format=".2f")],
    )
    none = alt.Chart(alt.Data(values=[{"bits": 8}])).encode(y="bits:Q")
    marks = [
        none.mark_rule(strokeDash=[5, 4], color=PALE),
        none.mark_text(align="left", dx=8, color=PALE, fontSize=12).encode(
            x=alt.value("width"), text=alt.value("a guess")
        ),
    ]
    shape = alt.Shape(
        "model:N",
        scale=alt.Scale(domain=states, range=["circle", "diamond"][: len(states)]),
        legend=legend,
    )
    points = base.mark_point(filled=True, size=55, opacity=1).encode(shape=shape)
    return alt.layer(*marks, base.mark_line(strokeWidth=1.5), points).properties(width=alt.Step(step), height=height)
