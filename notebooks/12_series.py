import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Time series")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import series

    plots.use_theme()


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(series.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(series.CLAIM, results)
    summary = series.summary(series.judged(rows))
    parts.verdict(series.CLAIM, rows)
    return rows, summary


@app.cell(hide_code=True)
def _(summary):
    present = [name for name in series.DATA if any(row["data"] == name for row in summary)]
    data = mo.ui.dropdown(["all", *present], value="all", label="Data")
    data
    return (data,)


@app.cell(hide_code=True)
def _(data, summary):
    pictures([row for row in summary if data.value in ("all", row["data"])])
    return


@app.cell(hide_code=True)
def _(rows):
    usual = series.usual(rows)
    mo.stop(not usual, mo.callout(mo.md("No stored result of the usual look-back and horizons."), kind="info"))
    horizons = ", ".join(map(str, series.HORIZONS))
    mo.vstack(
        [
            pictures(usual, paper=True),
            mo.md(f"""
            Beside the rule: after {series.USUAL} steps, mean over horizons of {horizons}, which is how the baselines of
            the paper's Table 3 are usually compared. Its own memory stands in another framework.
            """),
        ]
    )
    return


@app.function
def pictures(rows, paper=False):
    """Squared error of each model, a panel per data set, with the paper's or without."""
    charts = []
    for name in dict.fromkeys(row["data"] for row in rows):
        found = [{**row, "value": row["mse"], "state": "trained"} for row in rows if row["data"] == name]
        marks = [(series.PAPER[name][0], "paper's LMM")] if paper else []
        ends = [row[end] or row["mse"] for row in found for end in ("low", "high")] + [at for at, _ in marks]
        domain = (0.95 * min(ends), 1.05 * max(ends))
        heading = f"{name}, after {series.USUAL if paper else series.LOOKBACK} steps"
        charts.append(plots.value_chart(found, "Mean squared error", domain, marks, heading=heading, width=260))
    return mo.hstack(charts, justify="start", gap=1, wrap=True)


@app.cell(hide_code=True)
def _(results, summary):
    lines = [
        {
            "Data": row["data"],
            "Model": row["model"],
            "Squared error": round(row["mse"], 4),
            "95 % interval": parts.interval(row),
            "Absolute error": round(row["mae"], 4),
            "Seeds": row["seeds"],
            "Parameters": row["parameters"],
        }
        for row in summary
    ]
    mo.vstack(
        [
            parts.folded(lines),
            mo.md(f"""
            **How to read this.** Further left is better; a whisker is a 95 % interval over trainings. Saying the mean
            of the training part would have an error of about 1. The rule is judged after {series.LOOKBACK} steps, a
            look-back of ours, with which the paper's figures do not compare. {parts.NO_MEMORY} It sees the
            last four patches, through its convolutions.

            {parts.origin(series.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    live = parts.live_settings(series.jobs("quick"))
    run_button = mo.ui.run_button(label="Train and test")
    parts.try_live(
        "Trains the matrix memory and DLinear on the seasonal series, in ten seconds.",
        live,
        run_button,
    )
    return live, run_button


@app.cell(hide_code=True)
def _(live, run_button):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = series.summary(parts.run_live(parts.with_settings(series.jobs("quick"), live.value), series.run_series))
    pictures(live_rows)
    return (live_rows,)


if __name__ == "__main__":
    app.run()
