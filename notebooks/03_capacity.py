import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Capacity")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import capacity, depth
    from titans_mlx.claims.judging import summarise
    from titans_mlx.claims.lab import CONTROL

    plots.use_theme()


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(capacity.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(capacity.CLAIM, results)
    summary = summarise(capacity.whole(rows), ("model", "x"))
    parts.verdict(capacity.CLAIM, rows)
    return rows, summary


@app.cell(hide_code=True)
def _(summary):
    names = (*capacity.architectures(), CONTROL)
    present = [name for name in names if any(row["model"] == name for row in summary)]
    choices = {
        "all": present,
        "matrices": [name for name in present if name.startswith("matrix")],
        "with gradients at a chunk's start": [name for name in present if name not in capacity.MATRIX.values()],
    }
    chosen = mo.ui.dropdown(choices, value="all", label="Memories")
    chosen
    return (chosen,)


@app.cell(hide_code=True)
def _(chosen, summary):
    shown = [row for row in summary if row["model"] in chosen.value]
    mo.stop(not shown, mo.callout(mo.md("No stored result for this choice."), kind="info"))
    chart(shown)
    return (shown,)


@app.function
def chart(rows):
    """Accuracy against the pairs stored."""
    reference = (64, "64: the widest keys, and most pairs trained")
    return plots.sweep_chart(
        rows, "x", "Pairs stored", names=("parameters",), reference=reference, width=520, height=320
    )


@app.function
def size_chart(rows):
    """What memories hold against their size; those that hold nothing have no place on a logarithmic axis."""
    held = [row for row in rows if row["pairs"]]
    if not held:
        return mo.md("*None of these is right in 90 % of its answers with eight pairs.*")
    titles = ("Weights of the memory that are not 0", "Pairs held at 90 %")
    return plots.length_chart(held, "pairs", titles, width=420)


@app.cell(hide_code=True)
def _(chosen, results, rows, shown):
    beside = (capacity.HAND, capacity.THEORY)
    held = {(row["model"], row["x"]): row for row in shown}
    full = {model: row for (model, pairs), row in held.items() if pairs == 64}
    lines = [
        {
            "Memory": name,
            "Pairs held at 90 %": round(capacity.capacity(held, name), 1),
            "Parameters": row["parameters"],
            f"Milliseconds a sequence of {row['length']} tokens": round(1e3 * row["seconds_per_sequence"], 2),
        }
        for name, row in full.items()
    ]
    mo.vstack(
        [
            mo.ui.table(lines, selection=None, show_download=False),
            parts.numbers(shown, {"Pairs": "x"}),
            size_chart([row for row in capacity.sizes(rows) if row["model"] in (*chosen.value, *beside)]),
            mo.md(f"""
            **How to read this.** A line falls where its memory is full. The second chart has what each holds against
            its size, on logarithmic axes; where a memory has a line, the points to the left are the same memory with
            all but its largest weights set to 0 before the questions (a half, a quarter, and so on), during which it
            stands still. By hand: matrices alone that nothing trained, with random keys and the theta best for them;
            the square is what theory says of keys at right angles. Both are, as the trained ones, as many heads as make
            up the width, which is 64. A matrix of 64 x 64 has room for 64 orthogonal keys at most. Two heads of 32 have
            half the weights of one head of 64, four of 16 a quarter; the deep memories have more weights than any
            matrix here, as the parameters say. The online matrices take exact gradients; the anchored one takes them
            where the deep memories do, and is what those are compared with. All were trained with 8 to 64 pairs, in
            equal numbers of steps. {parts.NO_MEMORY}

            {parts.origin(capacity.CLAIM, results)}
            """),
        ]
    )
    return


@app.function
def depth_chart(rows):
    """Loss against the length of a window, a line per depth."""
    titles = ("Bytes in a window", "Loss (nats a byte)")
    return plots.length_chart(depth.summary(rows), "nats", titles, log=False, interval=True, reference=True, width=420)


@app.cell(hide_code=True)
def _():
    parts.heading(depth.CLAIM)
    return


@app.cell(hide_code=True)
def _(results):
    deeper = parts.evidence(depth.CLAIM, results)
    mo.vstack(
        [
            parts.verdict(depth.CLAIM, deeper),
            depth_chart(deeper),
            mo.md(f"""
            **How to read this.** A line is a depth of the memory, in models of one size; lower is better, and a whisker
            is a 95 % interval over trainings. If depth helps more as sequences grow, the lines part to the right. No
            memory is depth 1 that never writes: a memory is worth something where it lies below that.

            {parts.origin(depth.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    which = parts.which_live(capacity.CLAIM, depth.CLAIM)
    mo.vstack(
        [
            mo.md("""
            ## Try it live

            Capacity trains the three matrices once, with a third of the steps, in about a minute; depth two models
            on prose, in as much.
            """),
            which,
        ]
    )
    return (which,)


@app.cell(hide_code=True)
def _(which):
    live = parts.live_settings(which.value.jobs("quick"))
    run_button = mo.ui.run_button(label="Train and test")
    parts.controls(live, run_button)
    return live, run_button


@app.cell(hide_code=True)
def _(live, run_button, which):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = parts.run_quick(which.value, live)
    chart(summarise(live_rows, ("model", "x"))) if which.value.id == capacity.CLAIM.id else depth_chart(live_rows)
    return (live_rows,)


if __name__ == "__main__":
    app.run()
