import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Variants side by side")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import distractors, recall_distance, throughput, variants
    from titans_mlx.claims.judging import summarise
    from titans_mlx.claims.store import stored_rows

    plots.use_theme()


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(variants.CLAIM)
    return


@app.cell(hide_code=True)
def _(results):
    parts.verdict(variants.CLAIM, stored_rows(results, variants.CLAIM))
    return


@app.cell
def _(results):
    recalled = recall_distance.summarise(parts.evidence(recall_distance.CLAIM, results))
    copied = summarise(stored_rows(results, distractors.CLAIM), ("model", "what", "x"))
    timed = stored_rows(results, throughput.CLAIM)
    return copied, recalled, timed


@app.cell(hide_code=True)
def _(copied, recalled):
    present = {row["model"] for row in (*recalled, *copied)}
    names = [name for name in plots.STYLES if name in present]
    first = mo.ui.dropdown(names, value=names[0], label="Compare")
    second = mo.ui.dropdown(names, value=names[-1], label="with")
    mo.hstack([first, second], justify="start", gap=1.5, wrap=True)
    return first, second


@app.cell(hide_code=True)
def _(copied, first, recalled, second, timed):
    two = (first.value, second.value)
    charts = [
        plots.recall_chart(found, name, width=280, height=220, title=f"Recall, {name} filler words")
        for name in ("few", "many")
        if (found := [row for row in recalled if row["setting"] == name and row["model"] in two])
    ]
    for what in distractors.PARTS:
        if found := [row for row in copied if row["what"] == what and row["model"] in two]:
            title = "Items (symbols)" if what == distractors.STORED else "Distractors (tokens)"
            charts.append(plots.sweep_chart(found, "x", title, heading=what.capitalize(), width=280))
    for what, title in ((throughput.TRAIN, "Training"), (throughput.READ, "Reading a prompt")):
        if found := [row for row in timed if row["what"] == what and row["model"] in two]:
            titles = ("Tokens in a sequence", "Tokens a second")
            named = f"{title}, {' and '.join(dict.fromkeys(row['processor'] for row in found))}"
            charts.append(plots.length_chart(found, "rate", titles, heading=named, interval=True, width=280))
    mo.hstack(charts, justify="start", gap=1, wrap=True)
    return


@app.cell(hide_code=True)
def _(results):
    mo.md(f"""
    **How to read this.** Everything stored of two models; a chart is missing where
    nothing is stored of either. Recall and copying are of models of one size, one block; speed is of the benchmark's
    larger ones, and only of those that it has. Runs live are in the notebooks of the single claims.

    Recall: {parts.origin(recall_distance.CLAIM, results)} Copying: {parts.origin(distractors.CLAIM, results)}
    Speed: {parts.origin(throughput.CLAIM, results)}
    """)
    return


if __name__ == "__main__":
    app.run()
