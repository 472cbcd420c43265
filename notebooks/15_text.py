import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Text")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import far_text, language, language_runs

    plots.use_theme()
    TITLES = {
        language_runs.RECENT: f"the last {language.LENGTH // 2} to {language.LENGTH} bytes only",
        language_runs.RESET: f"the memory at birth every {language_runs.WINDOW} bytes",
    }
    NAMES = {"stdlib": "Python's standard library", "tinyshakespeare": "Shakespeare"}


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(language.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(language.CLAIM, results)
    near = language.near_summary(rows)
    parts.verdict(language.CLAIM, rows)
    return near, rows


@app.cell(hide_code=True)
def _(near):
    chosen = parts.model_dropdown(near)
    chosen
    return (chosen,)


@app.cell(hide_code=True)
def _(chosen, near):
    shown = [row for row in near if row["model"] in chosen.value]
    mo.stop(not shown, mo.callout(mo.md("No stored result for this choice."), kind="info"))
    bits(shown)
    return


@app.function
def bits(rows):
    """Bits per byte at the training length, a panel per corpus, and the best baseline as a line."""
    charts = []
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        found = [{**row, "state": "trained"} for row in rows if row["corpus"] == corpus]
        ends = [row[end] or row["value"] for row in found for end in ("low", "high")]
        room = 0.1 * (max(ends) - min(ends)) + 0.01
        others = [row["value"] for row in found if row["model"] in language.BASELINES]
        marks = [(min(others), "best baseline")] if others else []
        domain = (min(ends) - room, max(ends) + room)
        heading = NAMES.get(corpus, corpus)
        charts.append(plots.value_chart(found, "Bits per byte", domain, marks, heading=heading, width=280))
    return mo.hstack(charts, justify="start", gap=1, wrap=True)


@app.cell(hide_code=True)
def _(near, results, rows):
    costs = [
        {
            "Model, as born": row["model"],
            "Bytes a window": row["length"],
            "Seconds a window": round(row["seconds_per_window"], 2),
            "Peak memory (MB)": round(row["peak_bytes"] / 1e6),
        }
        for row in rows
        if row["kind"] == language_runs.COST
    ]
    lines = [
        {
            "Corpus": NAMES[row["corpus"]],
            "Model": row["model"],
            "Bits per byte": round(row["value"], 3),
            "95 % interval": parts.interval(row),
            "Seeds": row["seeds"],
            "Parameters": row["parameters"],
            "Training (s, at most)": round(row["train_seconds"]),
        }
        for row in near
    ]
    mo.vstack(
        [
            parts.folded(lines),
            parts.folded(costs, "What reading costs") if costs else mo.md(""),
            mo.md(f"""
            **How to read this.** Further left is better; a whisker is a 95 % interval over trainings. A byte told at
            random among all 256 would cost 8 bits. These are models of some hundred thousand parameters that read some
            megabytes: they say which architecture learns faster at that size, and nothing about 340 million.
            {parts.NO_MEMORY}

            {parts.origin(language.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    parts.heading(far_text.CLAIM)
    return


@app.cell
def _(rows):
    parts.verdict(far_text.CLAIM, rows)
    return


@app.cell(hide_code=True)
def _(chosen, rows):
    by_position([row for row in rows if row["model"] in chosen.value])
    return


@app.function
def position_chart(rows, use, among):
    """Bits per byte of one corpus by position, or what a way of reading costs more."""
    whole = use == language_runs.WHOLE
    return plots.length_chart(
        rows,
        "value",
        ("Position (bytes, up to)", "Bits per byte" if whole else "More bits per byte"),
        heading=NAMES.get(rows[0]["corpus"], rows[0]["corpus"]) if whole else f"With {TITLES[use]}",
        interval=True,
        log=False,
        reference=True,
        among=among,
        width=330,
        height=220 if whole else 160,
    )


@app.function
def by_position(rows):
    """Bits per byte by position, and what a reset of the memory costs there, a column per corpus."""
    far, costs = language.far_summary(rows), language.far_costs(rows)
    columns = []
    for corpus in dict.fromkeys(row["corpus"] for row in far):
        charts = []
        for use, table in ((language_runs.WHOLE, far), (language_runs.RECENT, costs), (language_runs.RESET, costs)):
            of = [{**row, "x": row["last"]} for row in table if (row["corpus"], row["use"]) == (corpus, use)]
            # The first bytes say nothing of what lies far back.
            if shown := [row for row in of if row["last"] >= language_runs.WINDOW // 2]:
                charts.append(position_chart(shown, use, [row for row in far if row["corpus"] == corpus]))
        columns.append(mo.vstack(charts))
    return mo.hstack(columns, justify="start", gap=1, wrap=True)


@app.cell(hide_code=True)
def _(results):
    mo.md(f"""
    **How to read this.** Above: how well each model predicts the bytes of a span of positions; the bytes differ from
    span to span, so compare models there, not positions. Below, on the same bytes, how many more bits they cost: where
    only the recent bytes were read, as in training (above 0, the far past helps; below 0, the length does harm), and
    where the memory is reset again and again (of LMM and MAC that leaves nothing, of MAG and MAL the window).

    {parts.origin(language.CLAIM, results)}
    """)
    return


@app.cell(hide_code=True)
def _():
    live = parts.live_settings(language.jobs("quick"))
    run_button = mo.ui.run_button(label="Train and read")
    parts.try_live(
        "Trains MAG and sliding-window attention on Python's source, in about two minutes.",
        live,
        run_button,
    )
    return live, run_button


@app.cell(hide_code=True)
def _(live, run_button):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = parts.run_live(parts.with_settings(language.jobs("quick"), live.value), language.run_language)
    mo.vstack([bits(language.near_summary(live_rows)), by_position(live_rows)])
    return (live_rows,)


if __name__ == "__main__":
    app.run()
