import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Does each component help?")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import components
    from titans_mlx.claims.lab import CONTROL, run_lab

    plots.use_theme()


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(components.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(components.CLAIM, results)
    summary = components.summary(rows)
    parts.verdict(components.CLAIM, rows)
    return (summary,)


@app.cell(hide_code=True)
def _(summary):
    tasks = [task for task in components.TESTS if any(row["what"] == task for row in summary)]
    task = mo.ui.dropdown(["all", *tasks], value="all", label="Task")
    task
    return (task,)


@app.cell(hide_code=True)
def _(summary, task):
    picture([row for row in summary if task.value in ("all", row["what"])])
    return


@app.function
def picture(rows):
    """What each part gains or costs, task by task."""
    models = (*components.LESS, *components.MORE, *components.BESIDE, CONTROL)
    order = [name for name in models if any(row["model"] == name for row in rows)]
    shown = [row for row in rows if row["gain"] is not None and row["model"] != components.WHOLE]
    if not shown:
        return mo.callout(mo.md("Nothing to compare is stored yet for this choice."), kind="info")
    return plots.gain_chart(shown, order, "Gain over the whole LMM, in units of 2 points or 0.01 nats")


@app.cell(hide_code=True)
def _(results, summary):
    lines = [
        {
            "Task": row["what"],
            "Model": row["model"],
            "Accuracy": f"{row['accuracy']:.1%}",
            "95 % interval": f"{row['low']:.1%} to {row['high']:.1%}",
            "Nats an answer": round(row["nats"], 3) if "nats" in row else "not finite",
            "Seeds": row["seeds"],
            "Parameters": row["parameters"],
        }
        for row in summary
    ]
    mo.vstack(
        [
            parts.folded(lines),
            mo.md(f"""
            **How to read this.** Each point is a model that differs from the whole LMM in one thing, in one task: left
            of 0 it is worse than the whole, right of it better; the bar is a 95 % interval over trainings. Within one
            unit a difference counts for nothing by the rule, nor does one whose bar crosses 0. The axis is cut at 20
            units; a point at its end lies at the end or beyond. From top to bottom the paper's order of importance,
            then attention; beside them, of no weight, a memory that fades to what it was at birth, which the paper does
            not have, and a matrix without the residual and the LayerNorm that *linear memory* keeps. {parts.NO_MEMORY}

            {parts.origin(components.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    live = parts.live_settings(components.jobs("quick"))
    run_button = mo.ui.run_button(label="Train and test")
    parts.try_live(
        "Trains the whole LMM and one without decay on prose, in about a minute.",
        live,
        run_button,
    )
    return live, run_button


@app.cell(hide_code=True)
def _(live, run_button):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = components.summary(parts.run_live(parts.with_settings(components.jobs("quick"), live.value), run_lab))
    picture(live_rows)
    return (live_rows,)


if __name__ == "__main__":
    app.run()
