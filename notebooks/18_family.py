import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="The Miras family")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import family, mqar, outliers
    from titans_mlx.claims.judging import summarise
    from titans_mlx.claims.lab import CONTROL
    from titans_mlx.memory.recipes import RECIPES

    plots.use_theme()


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(outliers.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(outliers.CLAIM, results)
    summary = outliers.summary(rows)
    parts.verdict(outliers.CLAIM, rows)
    return (summary,)


@app.function
def robustness(summary):
    """Recall against the share of outliers, a panel per structure, a line per objective."""
    panels = [
        (kind, [row | {"model": row["objective"]} for row in summary if row["structure"] == kind])
        for kind in outliers.STRUCTURES
    ]
    panels = [(kind, rows) for kind, rows in panels if rows]
    return plots.small_multiples(panels, "x", "Share of values that are outliers", levels=True, width=200)


@app.cell(hide_code=True)
def _(summary):
    objectives = list(dict.fromkeys(row["objective"] for row in summary))
    robust = [name for name in objectives if name in (outliers.HUBER, outliers.SLOW, outliers.BOUNDED)]
    choices = {"all": objectives, "robust": robust, "others": [name for name in objectives if name not in robust]}
    chosen = mo.ui.dropdown(choices, value="all", label="Objectives")
    chosen
    return (chosen,)


@app.cell(hide_code=True)
def _(chosen, results, summary):
    shown = [row for row in summary if row["objective"] in chosen.value]
    mo.stop(not shown, mo.callout(mo.md("No stored result for this choice."), kind="info"))
    mo.vstack(
        [
            robustness(shown),
            parts.folded(
                [
                    {
                        "Memory": row["model"],
                        "Outliers": f"{row['x']:.0%}",
                        "Accuracy": f"{row['accuracy']:.1%}",
                        "95 % interval": f"{row['low']:.1%} to {row['high']:.1%}",
                    }
                    for row in shown
                ]
            ),
            mo.md(f"""
            **How to read this.** Each pair is written eight times, and a share of the values written is replaced by
            outliers ten times as large. Left, without any, all memories recall; a robust one stays where it is as
            outliers become more. *Writes bounded* is the squared error with the bound on a write that this package has
            by default.

            {parts.origin(outliers.CLAIM, results)}
            """),
        ]
    )
    return


@app.function
def compared(summary, column, kinds):
    """Accuracy of every recipe, a colour for each of a few kinds of test."""
    shown = [row | {"recipe": row["model"], "model": row[column]} for row in summary if row[column] in kinds]
    return plots.dot_chart(shown, "recipe", [*RECIPES, family.STALE, CONTROL], step=26)


@app.cell(hide_code=True)
def _():
    parts.heading(mqar.CLAIM)
    return


@app.cell(hide_code=True)
def _(results):
    mqar_rows = parts.evidence(mqar.CLAIM, results)
    recalled = [row for row in summarise(mqar_rows, ("model", "option", "x")) if row["x"] == mqar.JUDGED]
    mo.vstack(
        [
            parts.verdict(mqar.CLAIM, mqar_rows),
            compared(recalled, "option", (mqar.WITH, mqar.WITHOUT)),
            parts.numbers(recalled, {"Convolution": "option"}),
            mo.md(f"""
            **How to read this.** A row is a recipe, right is better; {mqar.JUDGED} pairs (at most {mqar.TRAINED[-1]} in
            training). Two recipes that differ in one choice tell what the choice is worth, if both have
            learned the task: a wide interval is of trainings that have and others that have not. The dashed line is
            chance. {parts.NO_MEMORY}

            {parts.origin(mqar.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    parts.heading(family.CLAIM)
    return


@app.cell(hide_code=True)
def _(results):
    family_rows = parts.evidence(family.CLAIM, results)
    both = summarise(family_rows, ("model", "what", "x"))
    asked = {(family.RECALL, family.FAR): "recall at 4,096", (family.REBINDING, family.REBOUND[-1]): "all rebound"}
    found = [row | {"test": asked[row["what"], row["x"]]} for row in both if (row["what"], row["x"]) in asked]
    mo.vstack(
        [
            parts.verdict(family.CLAIM, family_rows),
            compared(found, "test", tuple(asked.values())) if found else mo.md("*Too little is stored for a chart.*"),
            parts.numbers(both, {"Test": "what", "Distance, or keys rebound": "x"}),
            mo.md(f"""
            **How to read this.** A line is a recipe. *Recall* asks for a value that stands {family.FAR:,} words back,
            trained with at most {family.TRAINED}; *all rebound* for the last of two values of a key. A memory of sums
            holds both. {parts.NO_MEMORY}

            {parts.origin(family.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    run_button = mo.ui.run_button(label="Store and recall")
    mo.vstack(
        [mo.md("## Try it live\n\nOutliers: one seed and fewer steps to choose from, in 20 seconds."), run_button]
    )
    return (run_button,)


@app.cell(hide_code=True)
def _(run_button):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = outliers.summary(parts.run_live(outliers.jobs("quick"), outliers.run_outliers))
    robustness(live_rows)
    return (live_rows,)


@app.cell(hide_code=True)
def _():
    which = parts.which_live(mqar.CLAIM, family.CLAIM)
    mo.vstack([mo.md("Or recipes trained on recall, with fewer steps, in a minute or two:"), which])
    return (which,)


@app.cell(hide_code=True)
def _(which):
    trained_live = parts.live_settings(which.value.jobs("quick"))
    train_button = mo.ui.run_button(label="Train and test")
    parts.controls(trained_live, train_button)
    return train_button, trained_live


@app.cell(hide_code=True)
def _(train_button, trained_live, which):
    mo.stop(not parts.asked_to_run(train_button), mo.md("*Nothing has been run yet.*"))
    trained_rows = parts.run_quick(which.value, trained_live)
    live_column = "option" if which.value.id == mqar.CLAIM.id else "what"
    live_table = summarise(trained_rows, ("model", live_column, "x"))
    live_kinds = list(dict.fromkeys(row[live_column] for row in live_table))
    farthest = {kind: max(row["x"] for row in live_table if row[live_column] == kind) for kind in live_kinds}
    compared([row for row in live_table if row["x"] == farthest[row[live_column]]], live_column, live_kinds)
    return (trained_rows,)


if __name__ == "__main__":
    app.run()
