import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="State tracking")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import tracking
    from titans_mlx.claims.judging import summarise
    from titans_mlx.claims.lab import run_lab

    plots.use_theme()


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(tracking.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(tracking.CLAIM, results)
    summary = summarise(rows, ("model", "group", "x"))
    parts.verdict(tracking.CLAIM, rows)
    return (summary,)


@app.cell(hide_code=True)
def _(summary):
    models = list(dict.fromkeys(row["model"] for row in summary))
    memories = [name for name in models if name in tracking.MEMORIES]
    others = [name for name in models if name not in tracking.MEMORIES]
    chosen = mo.ui.dropdown({"all": models, "memories": memories, "others": others}, value="all", label="Models")
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
    """Accuracy against the number of moves, side by side, each group with its own chance."""
    found = [(tracking.NAMES[group], [row for row in rows if row["group"] == group]) for group in tracking.GROUPS]
    reference = (tracking.TRAINED, "trained up to here")
    found = [(name, rows) for name, rows in found if rows]
    return plots.small_multiples(found, "x", "Moves", reference=reference, width=145)


@app.cell(hide_code=True)
def _(results, shown):
    mo.vstack(
        [
            parts.numbers(shown, {"Group": "group", "Moves": "x"}),
            mo.md(f"""
            **How to read this.** Each panel is a group, each line a model, all of equal size; the band is a 95 %
            interval over trainings. To be right after many moves a model must have followed all of them: what it
            knows of most of them is worth nothing. Right of the dotted line no model was trained. A write with theta
            at 1 is a reflection, and so is a transposition; a sum modulo 5 is a rotation, which takes two. *No
            momentum* is DeltaNet's rule with decay and steps up to 1: what it tracks needs no momentum.

            {parts.origin(tracking.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    live = parts.live_settings(tracking.jobs("quick"))
    run_button = mo.ui.run_button(label="Train and test")
    parts.try_live(
        "Trains a matrix memory on parity, with momentum and without, in half a minute.",
        live,
        run_button,
    )
    return live, run_button


@app.cell(hide_code=True)
def _(live, run_button):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = summarise(
        parts.run_live(parts.with_settings(tracking.jobs("quick"), live.value), run_lab), ("model", "group", "x")
    )
    panels(live_rows)
    return (live_rows,)


if __name__ == "__main__":
    app.run()
