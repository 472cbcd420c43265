import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="A memory at work")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    import mlx.core as mx
    import numpy as np

    from titans_mlx import plots
    from titans_mlx.blocks.maps import PARTS, attention_maps, map_rows
    from titans_mlx.claims.store import DEMOS
    from titans_mlx.memory.trace import Recorder, trace_rows

    plots.use_theme()


@app.cell(hide_code=True)
def _():
    mo.md("""
    # A memory at work

    What does a memory do while it reads, how much of its room does it use, and does MAC's attention look at what the
    memory retrieved? Small trained models read sequences of pairs, filler and queries; everything is computed here and
    now, by the definition. A pair can be moved to any place before the queries: the needle. There is no verdict: this
    is for looking.
    """)
    return


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    reader = mo.ui.dropdown(list(DEMOS), value="LMM matrix", label="Model")
    distance = mo.ui.slider(0, 80, 8, value=16, label="Filler between pairs and queries (tokens)", show_value=True)
    sequence = mo.ui.slider(0, 30, value=7, label="Sequence", show_value=True)
    mo.hstack([reader, distance, sequence], justify="start", gap=1.5, wrap=True)
    return distance, reader, sequence


@app.cell
def _(reader, results):
    model, task = parts.demo(results, reader.value)
    return model, task


@app.cell(hide_code=True)
def _(distance, task):
    last = task.context_length - 2 + distance.value
    place = mo.ui.slider(0, last, value=0, label="Tokens before the needle, the first pair", show_value=True)
    place
    return (place,)


@app.cell
def _(distance, model, place, sequence, task):
    batch = task.sample(1, task.length(distance.value), sequence.value)
    needle = task.spell(batch.tokens[0, :2])
    tokens = task.move_pair(batch.tokens, place.value)
    words = task.spell(tokens[0]).split()
    recorder = Recorder()
    logits = model.logits(model.hidden(mx.array(tokens), observe=recorder))
    answers = batch.answers[0]
    odds = np.array(mx.softmax(logits[0, mx.array(batch.positions[0])].astype(mx.float32), axis=-1))
    correct = odds.argmax(axis=-1) == answers
    asked = tokens[0, batch.positions[0]] == batch.tokens[0, 0]
    sure = odds[asked, answers[asked]]
    work = trace_rows(recorder.traces(ranks=True), words)
    return correct, needle, sure, tokens, words, work


@app.cell(hide_code=True)
def _(model):
    blocks = {"all": None} | {str(index + 1): index + 1 for index in range(len(model.layers))}
    block = mo.ui.dropdown(blocks, value="all", label="Block")
    block
    return (block,)


@app.cell(hide_code=True)
def _(block, correct, model, needle, place, sure, work):
    _told = f" Of the needle, {needle}, after {place.value} tokens, it is {sure[0]:.0%} sure." if len(sure) else ""
    _width = model.config.dim // model.config.num_heads
    mo.vstack(
        [
            mo.md(f"The model answered {correct.sum()} of {len(correct)} queries rightly.{_told}"),
            plots.memory_heatmap([row for row in work if block.value in (None, row["block"])]),
            mo.md(f"""
            **How to read this.** Each row is one head's memory, each column a token (hover to see it); keys are blue,
            values orange, filler grey. Surprise is how wrong the memory is about the token, theta what share of that
            is written, movement how far the weights have come from where they began. The effective rank says in how
            many directions they have moved, of at most {_width}: a memory that stores n pairs needs about n, and one
            whose rank goes on rising on filler is storing filler.
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _(model, words):
    mo.stop(
        model.config.variant != "mac",
        mo.md("*Choose MAC to see where its attention looks: persistent tokens, what was retrieved, the segment.*"),
    )
    size = model.config.segment_size
    count = -(-len(words) // size)
    segment = mo.ui.slider(1, count, value=count, label="Segment", show_value=True)
    looks = mo.ui.dropdown([str(index + 1) for index in range(len(model.layers))], value="1", label="Block")
    head = mo.ui.slider(1, model.config.num_heads, value=1, label="Head", show_value=True)
    mo.hstack([segment, looks, head], justify="start", gap=1.5, wrap=True)
    return head, looks, segment, size


@app.cell(hide_code=True)
def _(head, looks, model, segment, size, tokens, words):
    maps = attention_maps(model, mx.array(tokens), int(looks.value))
    here = words[(segment.value - 1) * size : segment.value * size]
    table = map_rows(maps[segment.value - 1][0, head.value - 1], here, model.config.num_persistent)
    shares = {name: sum(row["weight"] for row in table if row["part"] == name) / len(here) for name in PARTS}
    mo.vstack(
        [
            plots.attention_chart(table, PARTS),
            mo.md(f"""
            **How to read this.** A row is a token of the segment, and where it looks; rows sum to 1. On average it
            gives {shares["persistent"]:.0%} to the persistent tokens, {shares["retrieved"]:.0%} to what the memory
            retrieved for the tokens up to its own, {shares["segment"]:.0%} to the segment itself. A query whose pair
            lies in an earlier segment can only be answered through the memory.
            """),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
