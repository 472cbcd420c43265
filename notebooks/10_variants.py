import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Variants side by side")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import distractors, language, needles, recall_distance, throughput, variants
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
    found = summarise(stored_rows(results, needles.CLAIM), ("model", "what", "x"))
    told = language.near_summary(stored_rows(results, language.CLAIM))
    timed = stored_rows(results, throughput.CLAIM)
    return copied, found, recalled, timed, told


@app.cell(hide_code=True)
def _(copied, recalled):
    present = {row["model"] for row in (*recalled, *copied)}
    names = [name for name in plots.STYLES if name in present]
    asked = [name for name in (variants.OTHERS[0], variants.LAYER) if name in names]
    first = mo.ui.dropdown(names, value=(asked or names)[0], label="Compare")
    second = mo.ui.dropdown(names, value=(asked or names)[-1], label="with")
    mo.hstack([first, second], justify="start", gap=1.5, wrap=True)
    return first, second


@app.cell(hide_code=True)
def _(copied, first, found, recalled, second, timed, told):
    two = (first.value, second.value)
    charts = [
        plots.recall_chart(shown, name, width=280, height=220, title=f"Recall, {name} filler words")
        for name in ("few", "many")
        if (shown := [row for row in recalled if row["setting"] == name and row["model"] in two])
    ]
    for what in distractors.PARTS:
        if shown := [row for row in copied if row["what"] == what and row["model"] in two]:
            title = "Items (symbols)" if what == distractors.STORED else "Distractors (tokens)"
            charts.append(plots.sweep_chart(shown, "x", title, heading=what.capitalize(), width=280))
    for what in needles.KINDS:
        if shown := [row for row in found if row["what"] == what and row["model"] in two]:
            charts.append(plots.sweep_chart(shown, "x", "Haystack (bytes)", heading=f"Needle, {what}", width=280))
    for corpus in language.CORPORA:
        if shown := [row | {"state": "trained"} for row in told if row["corpus"] == corpus and row["model"] in two]:
            ends = [row[end] or row["value"] for row in shown for end in ("low", "high")]
            domain = (min(ends) - 0.05, max(ends) + 0.05)
            charts.append(plots.value_chart(shown, "Bits per byte", domain, [], heading=f"Text, {corpus}", width=280))
    for what, title in ((throughput.TRAIN, "Training"), (throughput.READ, "Reading a prompt")):
        if shown := [row for row in timed if row["what"] == what and row["model"] in two]:
            titles = ("Tokens in a sequence", "Tokens a second")
            named = f"{title}, {' and '.join(dict.fromkeys(row['processor'] for row in shown))}"
            charts.append(plots.length_chart(shown, "rate", titles, heading=named, interval=True, width=280))
    mo.hstack(charts, justify="start", gap=1, wrap=True)
    return


@app.cell(hide_code=True)
def _(results):
    mo.md(f"""
    **How to read this.** Everything stored of two models; a chart is missing where
    nothing is stored of either. Recall, copying and needles are of models of one size, one block, text of larger ones
    with two; speed is of the benchmark's, and only of those that it has. Needles are those of their own claim; the
    verdict rests on trainings with other seeds. Runs live are in the notebooks of the single claims.

    Recall: {parts.origin(recall_distance.CLAIM, results)} Copying: {parts.origin(distractors.CLAIM, results)}
    Speed: {parts.origin(throughput.CLAIM, results)}
    """)
    return


if __name__ == "__main__":
    app.run()
