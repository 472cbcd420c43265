import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Staleness: what changes, what stays, and when to write")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import staleness

    plots.use_theme()


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(staleness.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(staleness.CLAIM, results)
    summary = staleness.summary(rows)
    parts.verdict(staleness.CLAIM, rows)
    return (summary,)


@app.cell(hide_code=True)
def _():
    asked = mo.ui.dropdown(
        {"keys bound anew": staleness.REBOUND, "keys kept": staleness.KEPT}, value="keys bound anew", label="Asked for"
    )
    asked
    return (asked,)


@app.cell(hide_code=True)
def _(asked, summary):
    mo.hstack([by_gap(summary, asked.value), by_ration(summary)], justify="start", gap=1, wrap=True)
    return


@app.function
def by_gap(rows, ask):
    """Accuracy against the filler between the two bindings."""
    shown = [row for row in rows if row["test"] == ask]
    return plots.sweep_chart(
        shown, "x", "Filler words between the bindings", heading=f"Every token may write, {ask} keys asked", width=250
    )


@app.function
def by_ration(rows):
    """Accuracy with few writes, by the clock and by surprise."""
    rationed = [row for row in rows if row["test"] == staleness.RATIONED]
    panels = [
        (f"Written: {writes}", found)
        for writes in (staleness.CLOCK, staleness.SURPRISE)
        if (found := [row for row in rationed if row["writes"] == writes])
    ]
    if not panels:
        return mo.callout(mo.md("No result with rationed writes is stored yet."), kind="info")
    return plots.small_multiples(panels, "x", "Tokens for each write", width=150)


@app.cell(hide_code=True)
def _(results, summary):
    mo.vstack(
        [
            parts.numbers(
                [{**row, "share": f"{row['written']:.1%}"} for row in summary],
                {"Test": "test", "Gap or ration": "x", "Writes": "writes", "Written": "share"},
            ),
            mo.md(f"""
            **How to read this.** In the first chart keys are bound, half of them are bound anew after some filler, and
            all are asked: a memory that adds without erasing (linear attention) answers with a mixture of old and new.
            Keys that were kept show drift. In the others the same models may write only one token in two, four or
            eight, at test time: at every n-th token, or where the gradient is largest. If surprise marks what is worth
            remembering, the second is better at equal numbers of writes. {parts.NO_MEMORY} Bands are 95 % intervals
            over trainings.

            {parts.origin(staleness.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    live = parts.live_settings(staleness.jobs("quick"))
    run_button = mo.ui.run_button(label="Train and test")
    parts.try_live(
        "Trains the matrix memory once and rations its writes, in half a minute.",
        live,
        run_button,
    )
    return live, run_button


@app.cell(hide_code=True)
def _(live, run_button):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = staleness.summary(
        parts.run_live(parts.with_settings(staleness.jobs("quick"), live.value), staleness.run_staleness)
    )
    mo.hstack([by_gap(live_rows, staleness.REBOUND), by_ration(live_rows)], justify="start", gap=1, wrap=True)
    return (live_rows,)


if __name__ == "__main__":
    app.run()
