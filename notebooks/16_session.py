import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="A memory that lasts a session")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    import parts

    # isort: split
    import numpy as np

    from titans_mlx import plots
    from titans_mlx.lm import MemorySession
    from titans_mlx.memory.trace import trace_rows

    plots.use_theme()
    SHOWN = 72
    TEXT = '''    def lookup_glorph(self, name):
            """Return the glorph of this name."""
            return self._glorphs[name]

        def remove_glorph(self, name):
            """Remove the glorph of this name."""
            del self._glorphs[name]
    '''
    PROBE = '        def rename_glorph(self, name):\n            """Rename the glorph'


@app.cell(hide_code=True)
def _():
    mo.md("""
    # A memory that lasts a session

    A small model of Python's own source reads a text that you give it. Its weights stay as they are; its memory learns.
    Is what was hard to predict at the beginning easier at the end, and does the model say something else afterwards?
    Everything is computed here and now; there is no verdict: this is for looking, and such a model learns little.
    """)
    return


@app.cell
def _():
    results = mo.notebook_dir() / "results"
    return (results,)


@app.cell
def _(results):
    model = parts.text_model(results)
    return (model,)


@app.cell(hide_code=True)
def _():
    text = mo.ui.text_area(TEXT, label="To read", rows=8, full_width=True)
    probe = mo.ui.text(PROBE.strip(), label="To predict before and after", full_width=True)
    mo.vstack([text, probe])
    return probe, text


@app.cell
def _(model, probe, text):
    mo.stop(not (text.value and probe.value), mo.md("*Give a text to read and one to predict.*"))
    fresh, fed = MemorySession(model), MemorySession(model)
    found = fresh.surprise(text.value, trace=True)
    fed.feed(text.value)
    lines = [{"model": "before", **row} for row in told(fresh, probe.value)]
    lines += [{"model": "after", **row} for row in told(fed, probe.value)]
    return fed, found, fresh, lines


@app.function
def told(session, text):
    """Bits of each byte of a text, should it come next; but for the first, which follows nothing in a fresh session."""
    bits = session.surprise(text).bits
    return [
        {"position": place, "token": letter(byte), "bits": float(value)}
        for place, (byte, value) in enumerate(zip(text.encode(), bits, strict=True))
        if place
    ]


@app.function
def letter(byte):
    """A byte as one character to look at."""
    return {32: "·", 10: "¶", 9: "→"}.get(byte, chr(byte) if 32 < byte < 127 else "▯")


@app.cell(hide_code=True)
def _(found):
    longest = len(found.ids)
    start = mo.ui.slider(0, max(1, longest - SHOWN), 8, value=0, label="From byte", show_value=True)
    start
    return (start,)


@app.cell(hide_code=True)
def _(found, start):
    letters = [letter(byte) for byte in found.ids]
    work = trace_rows(found.works, letters)
    shown = [row for row in work if start.value <= row["position"] < start.value + SHOWN]
    # The first byte follows nothing.
    bits = np.nan_to_num(found.bits, nan=8.0)
    costs = [{"position": at, "token": letters[at], "bits": float(value)} for at, value in enumerate(bits)]
    thirds = [np.nanmean(part) for part in np.array_split(found.bits, 3)]
    mo.vstack(
        [
            plots.text_strip(costs[start.value : start.value + SHOWN]),
            plots.memory_heatmap(shown, kinds=False, step=9),
            mo.md(f"""
            **How to read this.** The first strip is how many bits each byte cost, given all before it (8: not foreseen
            at all): {thirds[0]:.2f} bits a byte over the first third of the text, {thirds[2]:.2f} over the last. Below
            are the memories, a row for each head and layer: how large the gradient of a byte was, how much of it was
            written, carried and forgotten, and how far the weights have come.
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _(lines):
    before, after = (np.mean([row["bits"] for row in lines if row["model"] == state]) for state in ("before", "after"))
    mo.vstack(
        [
            plots.bits_chart(lines),
            mo.md(f"""
            **How to read this.** Each mark is a byte of the text to predict, before (grey) and after (orange) what was
            read: {before:.2f} bits a byte before, {after:.2f} after. What the model goes on with, greedily:
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _(fed, fresh, probe):
    said = {name: session.fork().generate(probe.value, 48) for name, session in (("before", fresh), ("after", fed))}
    mo.ui.table([{"read": name, "goes on with": text} for name, text in said.items()], selection=None)
    return


@app.cell(hide_code=True)
def _(fed):
    mo.md(f"""
    ## In code

    ```python
    from pathlib import Path

    from titans_mlx.lm import MemorySession, from_pretrained

    session = MemorySession(*from_pretrained("runs/first/model"))
    session.feed(Path("notes.txt"))            # of any length, in constant memory
    print(session.generate("def "))
    session.save("notes.safetensors")          # nothing is kept without this
    ```

    This session holds {fed.nbytes:,} bytes after {fed.position:,} bytes read, and would hold as many after a million.
    """)
    return


if __name__ == "__main__":
    app.run()
