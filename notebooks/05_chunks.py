import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Chunks and the exact form")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import chunks
    from titans_mlx.claims.lab import CONTROL, run_lab

    plots.use_theme()


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(chunks.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(chunks.CLAIM, results)
    # Where no training has learned, what they do is shown all the same.
    kept = chunks.counted(rows) or rows
    runs, learned = ({(row["model"], row["trained"], row["seed"]) for row in found} for found in (rows, kept))
    left_out = f"{len(runs - learned)} of {len(runs)} trainings"
    summary = chunks.summary(kept)
    parts.verdict(chunks.CLAIM, rows)
    return left_out, summary


@app.cell(hide_code=True)
def _():
    asked = mo.ui.dropdown({"rebound keys": "rebound", "keys kept": "kept"}, value="rebound keys", label="Asked for")
    stored = mo.ui.dropdown(
        {str(pairs): pairs for pairs, _ in (*chunks.PAIRS, chunks.JUDGED)}, value=str(chunks.JUDGED[0]), label="Pairs"
    )
    mo.hstack([asked, stored], justify="start")
    return asked, stored


@app.cell(hide_code=True)
def _(asked, stored, summary):
    shown = [row for row in summary if (row["ask"], row["pairs"]) == (asked.value, stored.value)]
    pictures(shown)
    return (shown,)


@app.function
def pictures(rows):
    """Trained by tested chunk of each memory, MAC's chunk by its segment, then memories at their own chunk."""
    titles = ("Chunk when tested (tokens)", "Chunk when trained (tokens)")
    matrices = [
        plots.matrix_chart(found, "x", "trained", titles, heading=model)
        for model in (chunks.MATRIX, chunks.DEEP)
        if (found := [row for row in rows if row["model"] == model])
    ]
    names = {chunks.mac_name(segment, size): segment for segment in chunks.SEGMENTS for size in chunks.SEGMENTS}
    if mac := [{**row, "segment": names[row["model"]]} for row in rows if row["model"] in names]:
        titles = ("Chunk (tokens)", "Segment (tokens)")
        matrices.append(plots.matrix_chart(mac, "trained", "segment", titles, heading="MAC"))
    own = [row for row in rows if row["x"] == row["trained"] and row["model"] in (chunks.MATRIX, chunks.DEEP)]
    if not own:
        return mo.callout(mo.md("Too little is stored for a chart."), kind="info")
    line = plots.sweep_chart(own, "x", "Chunk, trained and tested (tokens)", heading="At its own chunk", width=260)
    return mo.hstack([*matrices, line], justify="start", gap=1, wrap=True)


@app.cell(hide_code=True)
def _(left_out, results, shown):
    online, none = (
        ", ".join(f"{row['accuracy']:.0%}" for row in shown if row["model"] == model) or "not run"
        for model in (chunks.ONLINE, CONTROL)
    )
    mo.vstack(
        [
            parts.numbers(shown, {"Trained at": "trained", "Tested at": "x", "Asked": "ask"}),
            mo.md(f"""
            **How to read this.** A row is a trained model, a column the chunk it is tested with. Within a chunk every
            gradient is taken at the weights of the chunk's start (eq. 16), so a key that is bound anew there is not
            first erased: if the claim holds, rebound keys suffer with larger chunks and kept ones do not. Up to
            {chunks.PAIRS[-1][0]} pairs, half of them bound anew, were trained; the rule judges {chunks.JUDGED[0]}. What
            has not learned is left out, as the rule has it ({left_out}). The matrix's exact online form ({online}) has
            no such chunk, and no bound on its writes; without any memory it is {none}. In MAC the segment, which is the
            span of its attention, is another length than the chunk; its chart tells the two apart.

            {parts.origin(chunks.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    live = parts.live_settings(chunks.jobs("quick"))
    run_button = mo.ui.run_button(label="Train and test")
    parts.try_live(
        "Trains the matrix with chunks of 16 and of 256, in about a minute.",
        live,
        run_button,
    )
    return live, run_button


@app.cell(hide_code=True)
def _(live, run_button):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = chunks.summary(parts.run_live(parts.with_settings(chunks.jobs("quick"), live.value), run_lab))
    pictures([row for row in live_rows if (row["ask"], row["pairs"]) == ("rebound", chunks.PAIRS[0][0])])
    return (live_rows,)


if __name__ == "__main__":
    app.run()
