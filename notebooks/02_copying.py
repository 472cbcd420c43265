import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Copying and induction with distractors")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import distractors
    from titans_mlx.claims.judging import summarise
    from titans_mlx.claims.lab import run_lab

    plots.use_theme()


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(distractors.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(distractors.CLAIM, results)
    summary = summarise(rows, ("model", "what", "x"))
    parts.verdict(distractors.CLAIM, rows)
    return (summary,)


@app.cell(hide_code=True)
def _(summary):
    chosen = parts.model_dropdown(summary)
    chosen
    return (chosen,)


@app.cell(hide_code=True)
def _(chosen, summary):
    shown = [row for row in summary if row["model"] in chosen.value]
    mo.stop(not shown, mo.callout(mo.md("No stored result for this choice."), kind="info"))
    panels(shown)
    return (shown,)


@app.function
def panels(rows):
    """Tasks against distractors, and copying against items."""
    by_task = {what: [row for row in rows if row["what"] == what] for what in distractors.PARTS}
    stored = by_task.pop(distractors.STORED)
    trained = distractors.TRAINED
    charts = []
    if found := [(what.capitalize(), rows) for what, rows in by_task.items() if rows]:
        reference = (trained, "trained up to here")
        charts.append(plots.small_multiples(found, "x", "Distractors (tokens)", reference=reference, width=160))
    if stored:
        heading = f"{distractors.STORED.capitalize()}, {trained} distractors"
        reference = (8, "trained up to 8")
        charts.append(plots.sweep_chart(stored, "x", "Items (symbols)", reference=reference, heading=heading))
    return mo.vstack(charts)


@app.cell(hide_code=True)
def _(results, shown):
    mo.vstack(
        [
            parts.numbers(shown, {"Task": "what", "At": "x"}),
            mo.md(f"""
            **How to read this.** Each panel is a task, each line a model, all of equal size; the band is a 95 %
            interval over trainings. Right of the dotted line no model was trained. Distractors that are words of their
            own can be told from what is to be kept by the word alone; those that are alike only by where they stand.
            {parts.NO_MEMORY}

            {parts.origin(distractors.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    live = parts.live_settings(distractors.jobs("quick"))
    run_button = mo.ui.run_button(label="Train and test")
    parts.try_live(
        "Trains the matrix memory and the sliding window on copying, in about a minute.",
        live,
        run_button,
    )
    return live, run_button


@app.cell(hide_code=True)
def _(live, run_button):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = summarise(
        parts.run_live(parts.with_settings(distractors.jobs("quick"), live.value), run_lab), ("model", "what", "x")
    )
    panels(live_rows)
    return (live_rows,)


if __name__ == "__main__":
    app.run()
