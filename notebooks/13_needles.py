import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Needles and stories in long contexts")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import needles, stories
    from titans_mlx.claims.judging import summarise

    NAMES = {
        "passkey": "A number in noise",
        "number": "A number in prose",
        "uuid": "32 digits in prose",
        **{str(facts): f"{facts} supporting fact{'s' * (facts > 1)}" for facts in stories.FACTS},
        **{f"bAbI {facts}": f"bAbI's own stories, {facts}" for facts in stories.FACTS},
    }
    plots.use_theme()


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(needles.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(needles.CLAIM, results)
    summary = summarise(rows, ("model", "what", "x"))
    parts.verdict(needles.CLAIM, rows)
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
    panels(shown, needles.KINDS, "Haystack (bytes)", needles.TRAINED)
    return (shown,)


@app.function
def panels(rows, kinds, title, trained):
    """Accuracy against length, a panel for each kind of test that has rows."""
    found = [(NAMES[kind], [row for row in rows if row["what"] == kind]) for kind in kinds]
    found = [(name, rows) for name, rows in found if rows]
    return plots.small_multiples(found, "x", title, reference=(trained, "trained up to here"), width=145)


@app.cell(hide_code=True)
def _(results, shown):
    mo.vstack(
        [
            parts.numbers(shown, {"Needle": "what", "Bytes": "x"}),
            mo.md(f"""
            **How to read this.** Each panel is a kind of needle, each line a model, all of equal size; the band is a 95
            % interval over trainings. Every digit counts on its own, given the digits before it, so that chance is one
            in ten, or in sixteen. Right of the dotted line no model was trained. {parts.NO_MEMORY}

            {parts.origin(needles.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    parts.heading(stories.CLAIM)
    return


@app.cell(hide_code=True)
def _(results):
    told = parts.evidence(stories.CLAIM, results)
    answered = summarise(told, ("model", "what", "x"))
    made, real = ([row for row in answered if row["what"].startswith("bAbI") == babi] for babi in (False, True))
    charts = [panels(made, map(str, stories.FACTS), "Words", stories.TRAINED)]
    if real:
        charts.append(panels(real, [f"bAbI {facts}" for facts in stories.FACTS], "Words", stories.TRAINED))
    mo.vstack(
        [
            parts.verdict(stories.CLAIM, told),
            *charts,
            parts.numbers(answered, {"Question": "what", "Words": "x"}),
            mo.md(f"""
            **How to read this.** Questions that need one, two or three of the sentences told; everything between them
            is filler. A model that knows nothing names one place of six; one that only follows who walked where does
            better, also where it is asked about a thing. Stories of bAbI, where they were at hand,
            are longer than those trained. {parts.NO_MEMORY}

            {parts.origin(stories.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    which = parts.which_live(needles.CLAIM, stories.CLAIM)
    mo.vstack(
        [
            mo.md("""
            ## Try it live

            Needles train the matrix memory and DeltaNet on 192 bytes, stories on 64 words, in a minute or two.
            """),
            which,
        ]
    )
    return (which,)


@app.cell(hide_code=True)
def _(which):
    live = parts.live_settings(which.value.jobs("quick"))
    run_button = mo.ui.run_button(label="Train and test")
    parts.controls(live, run_button)
    return live, run_button


@app.cell(hide_code=True)
def _(live, run_button, which):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = parts.run_quick(which.value, live)
    of_needles = (needles.KINDS, "Haystack (bytes)")
    kinds, title = of_needles if which.value.id == needles.CLAIM.id else (map(str, stories.FACTS), "Words")
    trained = max(row["trained_length"] for row in live_rows)
    panels(summarise(live_rows, ("model", "what", "x")), kinds, title, trained)
    return (live_rows,)


if __name__ == "__main__":
    app.run()
