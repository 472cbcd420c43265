import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Gating strength, contextual and persistent memory")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    import mlx.core as mx

    from titans_mlx import plots
    from titans_mlx.claims import contextual, gating
    from titans_mlx.claims.interventions import changed
    from titans_mlx.claims.judging import summarise
    from titans_mlx.claims.lab import answered, run_lab
    from titans_mlx.memory.trace import Recorder, trace_rows

    plots.use_theme()
    KEYS = ("model", "test", "gate", "x", "use")


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(gating.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(gating.CLAIM, results)
    summary = summarise(rows, KEYS)
    parts.verdict(gating.CLAIM, rows)
    return rows, summary


@app.cell(hide_code=True)
def _(results, summary):
    of_whole = [row for row in summary if not row["use"]]
    mo.vstack(
        [
            *[panels(of_whole, test) for test in gating.TASKS],
            parts.numbers(of_whole, {"Test": "test", "Gate": "gate", "Factor": "x"}),
            mo.md(f"""
            **How to read this.** Each panel scales one gate of all memories of a trained model, at test time only; at 1
            the model is as it was trained. The first row of panels is the test it was trained for, the second a harder
            one, with more pairs and twice the distance, so that there is room to be better. Theta is how much of a
            surprise is written, eta how much of past surprise is carried on, alpha how much is forgotten. Factors are
            evenly spaced on the axis, from closed to eight times.

            {parts.origin(gating.CLAIM, results)}
            """),
        ]
    )
    return (of_whole,)


@app.function
def panels(rows, test, when="at test time", reference="as trained"):
    """A small multiple per gate, the model with its gates unchanged among its factors."""
    found = [row for row in rows if row["test"] == test]
    charts = [(f"{gate}, {test}", [row for row in found if row["gate"] in (gate, "none")]) for gate in gating.GATES]
    upright = (1.0, reference)
    return plots.small_multiples(charts, "x", f"Factor {when}", reference=upright, levels=True, columns=3, width=140)


@app.cell(hide_code=True)
def _(of_whole, results, summary):
    turned = [row for row in summary if row["use"] == gating.IN_TRAINING]
    mo.stop(not turned, mo.callout(mo.md("No stored result of factors in training."), kind="info"))
    of_matrix = [row for row in of_whole if row["model"] == turned[0]["model"] and row["gate"] == "none"]
    mo.vstack(
        [
            mo.md("### Turned in training"),
            *[panels([*turned, *of_matrix], test, "in training", "unchanged") for test in gating.TASKS],
            mo.md(f"""
            **How to read this.** Each point is a model of its own, trained from birth with one gate times that factor
            and tested so. What falls above falls because training had reckoned with another gate; what falls here, no
            training makes up for. With theta at 0 no token is ever written: the control without a memory.

            {parts.origin(gating.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    parts.heading(contextual.CLAIM)
    return


@app.cell(hide_code=True)
def _(rows, summary):
    uses = [gating.WHOLE, gating.BARE, gating.NEVER_HAD, gating.RESET, gating.FROZEN]
    mo.vstack(
        [
            parts.verdict(contextual.CLAIM, rows),
            plots.dot_chart([row for row in summary if row["use"] in uses], "use", uses),
            mo.md("""
            **How to read this.** The same trained models, whole and with something taken away; those trained without
            persistent tokens are others. Where a point stays where it was, what was taken away was not needed. The
            dashed line is chance; the whiskers are 95 % intervals over trainings.
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Turn the gates yourself

    A small trained model (LMM, matrix memory, two blocks of two heads) reads again with its gates scaled as you set
    them; nothing is trained. The heatmap is one sequence of pairs, filler and queries, computed by the definition.
    """)
    return


@app.cell(hide_code=True)
def _():
    steps = [0, 0.125, 0.25, 0.5, 1, 2, 4, 8]
    theta, eta, alpha = (
        mo.ui.slider(steps=steps, value=1, label=f"{name} times", show_value=True) for name in ("theta", "eta", "alpha")
    )
    mo.hstack([theta, eta, alpha], justify="start", gap=1.5, wrap=True)
    return alpha, eta, theta


@app.cell
def _(results):
    model, task = parts.demo(results)
    return model, task


@app.cell(hide_code=True)
def _(alpha, eta, model, task, theta):
    factors = {"alpha": alpha.value, "eta": eta.value, "theta": theta.value}
    batch = task.sample(64, 44, 7)
    share = float(answered(model, batch, factors).mean())
    recorder = Recorder()
    mx.eval(changed(model, factors).hidden(mx.array(batch.tokens[:1]), observe=recorder))
    work = trace_rows(recorder.traces(), task.spell(batch.tokens[0]).split())
    mo.vstack(
        [
            mo.stat(f"{share:.0%}", label="answers right", caption=f"64 sequences; chance {task.chance:.0%}"),
            plots.memory_heatmap(work),
        ]
    )
    return share, work


@app.cell(hide_code=True)
def _():
    live = parts.live_settings(gating.jobs("quick"))
    run_button = mo.ui.run_button(label="Train and test")
    parts.try_live(
        "Trains the matrix memory once and turns its gates, in about a minute.",
        live,
        run_button,
    )
    return live, run_button


@app.cell(hide_code=True)
def _(live, run_button):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = summarise(parts.run_live(parts.with_settings(gating.jobs("quick"), live.value), run_lab), KEYS)
    mo.vstack([panels(live_rows, test) for test in gating.TASKS])
    return (live_rows,)


if __name__ == "__main__":
    app.run()
