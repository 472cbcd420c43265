import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Surprise on text")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import frozen, surprise

    plots.use_theme()
    SHOWN = 104


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(surprise.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(surprise.CLAIM, results)
    summary = surprise.summary(rows)
    parts.verdict(surprise.CLAIM, rows)
    return rows, summary


@app.cell(hide_code=True)
def _():
    measure = mo.ui.dropdown([*surprise.MEASURES, surprise.UPDATES], value=surprise.SURPRISE, label="Measure")
    measure
    return (measure,)


@app.cell(hide_code=True)
def _(measure, rows, summary):
    pictures(rows, summary, measure.value)
    return


@app.function
def pictures(rows, summary, measure):
    """What goes with what: both texts, and the whole course for prose."""
    ranked = ("Rank correlation with negative log-likelihood", (-0.2, 1), [(0, "none"), (surprise.RANKED, "rule")])
    told = ("Anomaly ranked above another token", (0.4, 1), [(0.5, "chance"), (surprise.TOLD, "rule")])
    if measure == surprise.UPDATES:
        ranked = told = ("Rank correlation with surprise", (-0.2, 1), [(0, "none"), (surprise.UPDATED, "rule")])
    charts = []
    for text, (title, domain, marks) in ((surprise.PROSE, ranked), (surprise.PLANTED, told)):
        found = [row for row in summary if (row["text"], row["measure"]) == (text, measure)]
        if found:
            charts.append(plots.value_chart(found, title, domain, marks, heading=text.capitalize(), width=280))
    course = [
        row for row in rows if (row["text"], row["measure"], row["state"]) == (surprise.PROSE, measure, "trained")
    ]
    if course and measure != surprise.UPDATES:
        charts.append(plots.tenth_chart(surprise.tenths(course), heading="Prose, by tenths", width=280))
    return mo.hstack(charts, justify="start", gap=1, wrap=True)


@app.cell(hide_code=True)
def _(rows):
    told = {f"{row['model']}, {row['text']}": row["tokens"] for row in rows if "tokens" in row}
    longest = max(len(tokens) for tokens in told.values())
    reader = mo.ui.dropdown(list(told), value=next(iter(told)), label="A sequence read by")
    start = mo.ui.slider(0, max(1, longest - SHOWN), 8, value=0, label="from token", show_value=True)
    mo.hstack([reader, start], justify="start", gap=1.5, wrap=True)
    return reader, start, told


@app.cell(hide_code=True)
def _(reader, start, told):
    plots.token_strip(told[reader.value][start.value : start.value + SHOWN])
    return


@app.cell(hide_code=True)
def _(results, summary):
    lines = [
        {
            "Model": row["model"],
            "Text": row["text"],
            "Measure": row["measure"],
            "State": row["state"],
            "Value": f"{row['value']:.2f}",
            "95 % interval": parts.interval(row),
            "Next token right": "" if row["accuracy"] is None else f"{row['accuracy']:.0%}",
            "Seeds": row["seeds"],
        }
        for row in summary
    ]
    mo.vstack(
        [
            parts.folded(lines),
            mo.md(f"""
            **How to read this.** Surprise is the size of the memory's gradient at a token; negative log-likelihood is
            how little the whole model expected it. They are different things: the memory predicts its own values from
            its own keys. Written is what a token adds to the weights: the gradient, bounded, times theta; by surprise,
            whether large gradients are large updates. Circles are trained models, squares the same ones before any
            training: where they do not differ, it is the rule of the memory and not its training that tells. The strip
            shows one test sequence, token by token (hover to see which); the first tokens surprise because nothing is
            known yet.

            {parts.origin(surprise.CLAIM, results)}
            """),
        ]
    )
    return


@app.function
def uses(rows):
    """Loss against the length of a window, a panel per training, a line per use of the memory."""
    losses = [{**row, "model": row["use"], "of": row["model"]} for row in frozen.summary(rows)]
    titles = ("Bytes in a window", "Loss (nats a byte)")
    panels = [
        plots.length_chart(
            found,
            "nats",
            titles,
            heading=f"{model}, {trained}",
            interval=True,
            log=False,
            among=losses,
            reference=True,
            width=240,
        )
        for trained in (frozen.LEARNING, frozen.FROZEN, *frozen.ADDITIONS)
        for model in (*frozen.MODELS, frozen.FADING)
        if (found := [row for row in losses if (row["of"], row["trained"]) == (model, trained)])
    ]
    return mo.hstack(panels, justify="start", gap=1, wrap=True)


@app.cell(hide_code=True)
def _():
    parts.heading(frozen.CLAIM)
    return


@app.cell(hide_code=True)
def _(results):
    told_apart = parts.evidence(frozen.CLAIM, results)
    mo.vstack(
        [
            parts.verdict(frozen.CLAIM, told_apart),
            uses(told_apart),
            mo.md(f"""
            **How to read this.** Lower is better. All lines of a panel are one trained model: with its memory writing,
            held where training left it, and reset again and again. Trained without writes means that the memory never
            wrote while the model was trained. Where a memory is added, it alone was then trained further, with writes
            or, as the control, still: with writes it must be lower than the still one without them to have helped.

            {parts.origin(frozen.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    which = parts.which_live(surprise.CLAIM, frozen.CLAIM)
    mo.vstack(
        [
            mo.md("""
            ## Try it live

            Surprise trains a matrix memory on both texts, in half a minute; the frozen backbone is trained on prose,
            in as much.
            """),
            which,
        ]
    )
    return (which,)


@app.cell(hide_code=True)
def _(which):
    live = parts.live_settings(which.value.jobs("quick"))
    run_button = mo.ui.run_button(label="Train and read")
    parts.controls(live, run_button)
    return live, run_button


@app.cell(hide_code=True)
def _(live, run_button, which):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = parts.run_quick(which.value, live)
    of_surprise = which.value.id == surprise.CLAIM.id
    pictures(live_rows, surprise.summary(live_rows), surprise.SURPRISE) if of_surprise else uses(live_rows)
    return (live_rows,)


if __name__ == "__main__":
    app.run()
