import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Throughput and memory against length")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    from titans_mlx import plots
    from titans_mlx.claims import throughput

    plots.use_theme()


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell(hide_code=True)
def _():
    parts.heading(throughput.CLAIM)
    return


@app.cell
def _(results):
    rows = parts.evidence(throughput.CLAIM, results)
    parts.verdict(throughput.CLAIM, rows)
    return (rows,)


@app.cell(hide_code=True)
def _():
    shown = mo.ui.dropdown(
        {"tokens a second": "rate", "memory": "megabytes"}, value="tokens a second", label="What is drawn"
    )
    shown
    return (shown,)


@app.cell(hide_code=True)
def _(rows, shown):
    pictures(rows, shown.value)
    return


@app.function
def pictures(rows, field):
    """Training, reading and decoding, each against length, and each processor on its own."""
    titles = {
        throughput.TRAIN: ("Training", "Tokens in a sequence"),
        throughput.READ: ("Reading a prompt", "Tokens in the prompt"),
        throughput.DECODE: ("Decoding", "Tokens read before"),
    }
    sized = [{**row, "megabytes": row["peak_bytes"] / 1e6} for row in rows]
    unit = "Tokens a second" if field == "rate" else "Most that arrays held (MB)"
    panels = []
    for processor in dict.fromkeys(row.get("processor") for row in sized):
        for what, (heading, title) in titles.items():
            found = [row for row in sized if (row["what"], row.get("processor")) == (what, processor)]
            if found:
                named = f"{heading}, {processor}" if processor else heading
                interval = field == "rate"
                panels.append(
                    plots.length_chart(found, field, (title, unit), heading=named, interval=interval, width=250)
                )
    return mo.hstack(panels, justify="start", gap=1, wrap=True)


@app.cell(hide_code=True)
def _(results, rows):
    lines = [
        {
            "Model": row["model"],
            "What": row["what"],
            "Tokens": row["x"],
            "Form": row["form"],
            "Tokens a second": round(row["rate"]),
            "Slowest to fastest": f"{row['low']:,.0f} to {row['high']:,.0f}",
            "Peak of arrays (MB)": round(row["peak_bytes"] / 1e6, 1),
        }
        for row in rows
    ]
    mo.vstack(
        [
            parts.folded(lines),
            mo.md(f"""
            **How to read this.** A flat line is a speed that does not depend on the length. Training is on equally
            many tokens at every length. Whiskers go from the slowest to the fastest repetition. All of it is one core
            of the machine named below; of other machines, and of a GPU, it says nothing, and times of two processors
            do not compare. `SPEED.md` has the benchmark
            beside another implementation, and the formulas.

            {parts.origin(throughput.CLAIM, results)}
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    run_button = mo.ui.run_button(label="Measure")
    mo.vstack(
        [mo.md("## Try it live\n\nMeasures LMM and the Transformer on this machine, in about a minute."), run_button]
    )
    return (run_button,)


@app.cell(hide_code=True)
def _(run_button):
    mo.stop(not parts.asked_to_run(run_button), mo.md("*Nothing has been run yet.*"))
    live_rows = parts.run_live(throughput.jobs("quick"), throughput.run_throughput)
    pictures(live_rows, "rate")
    return (live_rows,)


if __name__ == "__main__":
    app.run()
