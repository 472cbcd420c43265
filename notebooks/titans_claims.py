import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Titans: claims and evidence")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    import mlx.core as mx

    from titans_mlx import plots
    from titans_mlx.claims import CLAIMS, recall_distance, recall_jobs, two_million
    from titans_mlx.claims.recall_runs import run_job
    from titans_mlx.claims.store import stored_results
    from titans_mlx.memory.trace import Recorder, trace_rows
    from titans_mlx.tasks.recall import SETTINGS

    plots.use_theme()


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Titans: claims and evidence

    *Titans: Learning to Memorize at Test Time* ([arXiv 2501.00663](https://arxiv.org/abs/2501.00663)) gives a
    model a memory that learns while it reads: its own weights take one gradient step per token, driven by
    surprise, with momentum for past surprise and decay for forgetting. This notebook says what of that was
    found to hold here, and at what size. Rules were written before the runs they judge, or, where not, say so.
    The charts show stored results; one run can be repeated live.
    """)
    return


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _(results):
    stored = {claim.id: stored_results(results, claim) for claim in CLAIMS.values()}
    rows_of = {name: [row for result in of for row in result["rows"]] for name, of in stored.items()}
    verdicts = {claim.id: claim.judge(rows_of[claim.id]) for claim in CLAIMS.values()}

    def evidence(claim):
        if parts.SHOWN_IN[claim.id] == "titans_claims":
            return f"[{claim.title}](#{claim.title.lower().replace(' ', '-')})"
        return f"`{parts.SHOWN_IN[claim.id]}.py`"

    ledger = ["| Claim | Verdict | Evidence |", "|:---|:---|:---|"]
    figures = ["| Claim | Source | What does not hold | Scale | Figures |", "|:---|:---|:---|:---|:---|"]
    for judged in CLAIMS.values():
        found = verdicts[judged.id]
        ledger.append(f"| {judged.statement} | **{found.status}** | {evidence(judged)} |")
        told = (judged.title, judged.source, found.lacking, found.scale, "<br>".join(found.figures))
        figures.append(f"| {' | '.join(told)} |")
    mo.vstack(
        [
            mo.md("\n".join(["## Ledger", "", *ledger])),
            mo.accordion(
                {"Source, scale and figures of each claim, and what does not hold": mo.md("\n".join(figures))}
            ),
        ]
    )
    return rows_of, stored


@app.cell(hide_code=True)
def _():
    claim = recall_distance.CLAIM
    parts.heading(claim)
    return (claim,)


@app.cell
def _(claim, rows_of):
    summary = recall_distance.summarise(parts.stored_or_hint(claim, rows_of[claim.id]))
    return (summary,)


@app.cell(hide_code=True)
def _(summary):
    def present(column, order):
        return [name for name in order if any(row[column] == name for row in summary)]

    settings = {f"{name} filler words": name for name in present("setting", SETTINGS)}
    options = {recall_jobs.OPTIONS[name].label: name for name in present("option", recall_jobs.OPTIONS)}
    models = present("model", plots.STYLES)
    setting = mo.ui.dropdown(settings, value=next(iter(settings)), label="Setting")
    option = mo.ui.dropdown(options, value=next(iter(options)), label="Training")
    chosen = mo.ui.multiselect(models, value=models, label="Models")
    mo.hstack([setting, option, chosen], justify="start", gap=1.5, wrap=True)
    return chosen, option, setting


@app.cell(hide_code=True)
def _(chosen, option, setting, summary):
    shown = plots.chosen_rows(summary, setting.value, option.value, chosen.value)
    mo.stop(not shown, mo.callout(mo.md("No stored result for this choice: choose more models."), kind="info"))
    mo.hstack(
        [
            plots.recall_chart(shown, setting.value, option.value),
            plots.cost_chart(shown, legend=False),
        ],
        justify="start",
        gap=1,
        wrap=True,
    )
    return (shown,)


@app.cell(hide_code=True)
def _(shown):
    mo.accordion({"The numbers": mo.ui.table(table_lines(shown), selection=None, page_size=9, show_download=False)})
    return


@app.cell(hide_code=True)
def _(claim, stored, summary):
    _counts = dict.fromkeys(end(row["seeds"] for row in summary) for end in (min, max))
    mo.md(f"""
    **How to read this.** One line is one architecture, all of equal size. A point is the share of answers that were
    right, over {" to ".join(map(str, _counts))} trainings; its band is a 95 % interval over trainings, wide when they
    disagree. Right of the dotted line no model was trained.

    The other chart has the seconds to read one sequence, taken while another run had the other core, and the peak
    memory, both shared out among the sequences read side by side: a memory's state has a constant size, so its peak
    levels off once the pieces read at a time are full; attention over everything keeps growing. Full attention read
    fewer sequences in smaller pieces, and runs had one of two processors: compare slopes, not heights. Click a name
    in the legend to see it alone (shift-click adds another). The last column of the numbers is the largest step size
    on filler: small writes that add up over the distance overwrite the pairs.

    {parts.provenance_line(stored[claim.id])}
    """)
    return


@app.function
def table_lines(rows):
    """Rows of a summary as people read them."""
    return [
        {
            "Model": row["model"],
            "Filler words": row["setting"],
            "Distance": row["distance"],
            "Accuracy": f"{row['accuracy']:.1%}",
            "95 % interval": f"{row['low']:.1%} to {row['high']:.1%}",
            "Seeds": row["seeds"],
            "Answers": row["answers"],
            "Seconds": round(row["seconds_per_sequence"], 3),
            "Peak MB": round(row["peak_megabytes"], 1),
            "Theta on filler": None if row["filler_step"] is None else float(f"{row['filler_step']:.2g}"),
        }
        for row in sorted(rows, key=lambda row: (list(plots.STYLES).index(row["model"]), row["distance"]))
    ]


@app.cell(hide_code=True)
def _():
    parts.heading(two_million.CLAIM)
    return


@app.cell(hide_code=True)
def _(rows_of, stored):
    longest = recall_distance.summarise(parts.stored_or_hint(two_million.CLAIM, rows_of[two_million.CLAIM.id]))
    size = {"width": 300, "height": 240}
    panels = [
        plots.recall_chart(longest, name, "paper", title=f"{name.capitalize()} filler words", **size)
        for name in dict.fromkeys(row["setting"] for row in longest)
    ]
    mo.vstack(
        [
            mo.hstack(panels, justify="start", gap=1, wrap=True),
            mo.accordion({"The numbers": mo.ui.table(table_lines(longest), selection=None, show_download=False)}),
            mo.md(f"""
            **How to read this.** One needle at the start, asked for at each distance in {two_million.SEQUENCES}
            sequences. With few filler words the band is over trainings; with many there is one training per model, and
            the band is over sequences only. Seconds and peak memory are in the numbers: the peak at
            {two_million.FAR:,} tokens against that at {two_million.MIDDLE:,} is part of the rule.

            {parts.provenance_line(stored[two_million.CLAIM.id])}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    quick = recall_jobs.jobs("quick")[0].settings
    mo.md(f"""
    ## Try it live

    Trains one Titans variant and the sliding window from nothing, on {min(quick["lengths"])} to
    {max(quick["lengths"])} tokens, and asks them up to {max(quick["distances"]):,} tokens away. As set, it takes about
    a minute on two cores. MAL and the deep memory learn more slowly: give them more steps and time. With one pair it is
    the needle of two million tokens, in a smaller haystack.
    """)
    return (quick,)


@app.cell(hide_code=True)
def _(quick):
    live_model = mo.ui.dropdown(recall_jobs.TITANS, value=quick["model"], label="Model")
    # The quick profile's decay is the plain one already.
    live_options = {o.label: name for name, o in recall_jobs.OPTIONS.items() if o.weight_decay is None}
    live_option = mo.ui.dropdown(live_options, value=next(iter(live_options)), label="Training")
    live_pairs = mo.ui.slider(1, 8, value=quick["num_pairs"], label="Pairs", show_value=True)
    live_steps = mo.ui.slider(50, 250, 50, value=quick["training"]["steps"], label="Steps", show_value=True)
    run_button = mo.ui.run_button(label="Train and test")
    mo.hstack([live_model, live_option, live_pairs, live_steps, run_button], justify="start", gap=1.5, wrap=True)
    return live_model, live_option, live_pairs, live_steps, run_button


@app.cell(hide_code=True)
def _(live_model, live_option, live_pairs, live_steps, quick, run_button):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = run_live(quick, live_model.value, live_option.value, live_pairs.value, live_steps.value)
    return (live_rows,)


@app.cell(hide_code=True)
def _(live_option, live_rows):
    mo.hstack(
        [
            plots.recall_chart(live_rows, "few", live_option.value),
            plots.cost_chart(live_rows, legend=False),
        ],
        justify="start",
        gap=1,
        wrap=True,
    )
    return


@app.function
def run_live(quick, model, option, num_pairs, steps):
    """Train and test a model and the sliding window as the quick profile does; the summary's rows."""
    names = ("distances", "lengths", "grid", "near_sequences", "tokens_per_step")
    given = {name: tuple(quick[name]) if isinstance(quick[name], list) else quick[name] for name in names}
    jobs = [
        recall_jobs.make_job(model, "few", option, label="live", steps=steps, num_pairs=num_pairs, **given)
        for model, option in ((model, option), (recall_jobs.SLIDING, "paper"))
    ]
    return recall_distance.summarise(parts.run_live(jobs, run_job))


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## A memory at work

    One sequence of pairs, filler and queries through a small trained LMM (matrix memory, two blocks of two heads). Each
    row is one head's memory, each column a token; all numbers come from the definition, one token at a time.
    """)
    return


@app.cell(hide_code=True)
def _(results):
    model, task = parts.demo(results)
    return model, task


@app.cell(hide_code=True)
def _(model):
    blocks = {"all": None} | {str(index + 1): index + 1 for index in range(len(model.layers))}
    sequence = mo.ui.slider(0, 30, value=7, label="Sequence", show_value=True)
    block = mo.ui.dropdown(blocks, value="all", label="Block")
    mo.hstack([sequence, block], justify="start", gap=1.5, wrap=True)
    return block, sequence


@app.cell
def _(model, sequence, task):
    batch = task.sample(1, 44, sequence.value)
    recorder = Recorder()
    said = mx.argmax(model.logits(model.hidden(mx.array(batch.tokens), observe=recorder)), axis=-1)
    right = int((said[0, mx.array(batch.positions[0])] == mx.array(batch.answers[0])).sum())
    work = trace_rows(recorder.traces(), task.spell(batch.tokens[0]).split())
    return right, work


@app.cell(hide_code=True)
def _(block, right, task, work):
    _heatmap = plots.memory_heatmap([row for row in work if block.value in (None, row["block"])])
    mo.vstack([mo.md(f"The model answered {right} of {task.num_queries} queries of this sequence rightly."), _heatmap])
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    **How to read this.** Keys are blue, values orange, filler grey. Block 1, head 1 stores the pairs: its step size
    opens at values, where a pair is complete, and all but closes on filler; its weights move while pairs are read and
    then hold still. Head 2 beside it is not needed for the answers, and nothing in the loss holds it still: filler,
    which nobody can predict, surprises it most, and it goes on moving with it. So surprise alone would store the wrong
    things, and the learned step size decides what is worth keeping. Choose one block to see it on its own scales.
    """)
    return


if __name__ == "__main__":
    app.run()
