import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Four choices")

with app.setup:
    import marimo as mo

    # Before mlx, so that OpenBLAS is in place when it is loaded.
    from titans_mlx import plots

    # isort: split
    import mlx.core as mx
    import numpy as np

    from titans_mlx.claims import alone
    from titans_mlx.memory import objective
    from titans_mlx.memory.recipes import RECIPES
    from titans_mlx.memory.rule import equations, known_name

    plots.use_theme()

    WIDTH = 16
    DEPTHS = {"matrix": 1, "MLP, 2 layers": 2, "MLP, 3 layers": 3}
    DECAYS = {
        "none": ("none", "head"),
        "fixed": ("fixed", "head"),
        "learned": ("learned", "head"),
        "learned, per output channel": ("learned", "row"),
        "learned, per key channel": ("learned", "column"),
    }


@app.cell(hide_code=True)
def _():
    mo.md("""
    # One memory, many models

    A memory is four choices (Miras): its structure, the objective that a write pursues, how old content is retained,
    and how the learner steps. Start from a known model, change what you like, and see the rule that follows, the name
    it has if it has one, and what such a memory does alone: nothing is around it, nothing is trained, its gates stand
    still.
    """)
    return


@app.cell(hide_code=True)
def _():
    start = mo.ui.dropdown([*RECIPES], value="Titans (LMM)", label="Start from")
    start
    return (start,)


@app.cell(hide_code=True)
def _(own, start):
    begun = RECIPES[start.value].make()
    structure = mo.ui.dropdown([*DEPTHS], value=named(DEPTHS, begun.depth), label="Structure")
    shaped = mo.ui.checkbox(begun.norm, label="LayerNorm")
    degree = mo.ui.checkbox(begun.key_degree == 2, label="keys with their products")
    pursued = mo.ui.dropdown([*objective.OWN, *own], value=begun.objective, label="Objective")
    power = mo.ui.slider(steps=[1.5, 2, 3, 4], value=begun.loss_power, label="p of lp", show_value=True)
    held = mo.ui.dropdown(["l2", "lq", "kl"], value=begun.retention, label="Retention")
    decay = mo.ui.dropdown([*DECAYS], value=named(DECAYS, (begun.decay, begun.decay_per)), label="Decay")
    to_birth = mo.ui.checkbox(begun.decay_to == "birth", label="to the weights at birth")
    momentum = mo.ui.checkbox(begun.momentum == "learned", label="momentum")
    orthogonal = mo.ui.checkbox(begun.orthogonal_writes, label="orthogonal writes")
    omega = mo.ui.slider(steps=[1, 2, 4, 8], value=begun.omega, label="tokens that a write descends", show_value=True)
    every = 1 if begun.update == "online" else begun.chunk_size
    chunk = mo.ui.slider(
        steps=[1, 4, 16, 64], value=every, label="tokens from one gradient to the next", show_value=True
    )
    mo.vstack(
        [
            mo.hstack([structure, shaped, degree], justify="start", gap=1.5, wrap=True),
            mo.hstack([pursued, power], justify="start", gap=1.5, wrap=True),
            mo.hstack([held, decay, to_birth], justify="start", gap=1.5, wrap=True),
            mo.hstack([momentum, orthogonal], justify="start", gap=1.5, wrap=True),
            mo.hstack([omega, chunk], justify="start", gap=1.5, wrap=True),
        ]
    )
    return (
        begun,
        chunk,
        decay,
        degree,
        held,
        momentum,
        omega,
        orthogonal,
        power,
        pursued,
        shaped,
        structure,
        to_birth,
    )


@app.function
def named(choices, value):
    """The name that a value has among choices."""
    return next(name for name, found in choices.items() if found == value)


@app.function
def configured(begun, fields):
    """A known model's configuration with the choices made here, or the error that says which exclude one another."""
    exact = fields["chunk_size"] == 1 and fields["depth"] == 1 and not fields["norm"]
    exact &= fields["objective"] in ("l2", "dot") and fields["retention"] == "l2" and fields["decay_per"] == "head"
    exact &= fields["omega"] == 1 and not fields["orthogonal_writes"]
    anchored = {"update": "anchored", "write_bound": begun.write_bound, "decay_first": False}
    fields |= {"update": "online", "write_bound": None, "chunk_size": 32} if exact else anchored
    fields["residual"] = begun.residual and fields["norm"] and fields["key_degree"] == 1
    try:
        return begun.replace(**fields), ""
    except ValueError as error:
        return None, str(error)


@app.cell(hide_code=True)
def _(
    begun,
    chunk,
    decay,
    degree,
    held,
    momentum,
    omega,
    orthogonal,
    power,
    pursued,
    shaped,
    structure,
    to_birth,
):
    config, refused = configured(
        begun,
        {
            "depth": DEPTHS[structure.value],
            "norm": shaped.value,
            "key_degree": 2 if degree.value else 1,
            "objective": pursued.value,
            "loss_power": power.value,
            "retention": held.value,
            "decay": DECAYS[decay.value][0],
            "decay_per": DECAYS[decay.value][1],
            "decay_to": "birth" if to_birth.value else "zero",
            "momentum": "learned" if momentum.value else "none",
            "orthogonal_writes": orthogonal.value,
            "omega": omega.value,
            "chunk_size": chunk.value,
        },
    )
    mo.stop(bool(refused), mo.callout(mo.md(f"These choices exclude one another: {refused}"), kind="warn"))
    name = known_name(config)
    shown_rule = "\n\n".join(f"$${line}$$" for line in equations(config))
    mo.md(f"## {name or 'A rule without a name'}\n\n{shown_rule}")
    return config, name


@app.cell(hide_code=True)
def _():
    theta = mo.ui.slider(steps=[0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5], value=0.5, label="theta", show_value=True)
    eta = mo.ui.slider(0.05, 0.95, 0.05, value=0.3, label="eta", show_value=True)
    alpha = mo.ui.slider(steps=[0, 0.001, 0.01, 0.03, 0.1, 0.3], value=0, label="alpha", show_value=True)
    mo.hstack([theta, eta, alpha], justify="start", gap=1.5, wrap=True)
    return alpha, eta, theta


@app.cell(hide_code=True)
def _(alpha, begun, config, eta, name, start, theta):
    still = alone.Still(theta=theta.value, eta=eta.value, alpha=alpha.value)
    counts = (2, 4, 8, 16, 32, 64)
    own_title = "your choices" if name != start.value else start.value
    curve = [{**row, "model": own_title} for row in alone.recall_curve(config, still, counts, WIDTH)]
    if name != start.value:
        curve += [{**row, "model": start.value} for row in alone.recall_curve(begun, still, counts, WIDTH)]
    plots.sweep_chart(curve, "pairs", "Pairs stored, each written once", reference=(WIDTH, "width of a key"))
    return (still,)


@app.cell(hide_code=True)
def _(config, still):
    keys, values = alone.random_pairs((1,), 1, 12, WIDTH)
    stored = alone.store(config, keys, values, still)
    layer = np.array(stored.weights[-1] - stored.born[-1])[0, 0]
    diverged = "This memory has diverged on twelve pairs: a smaller theta or eta holds it."
    mo.stop(not np.isfinite(layer).all(), mo.callout(mo.md(diverged), kind="warn"))
    heading = "What twelve pairs have changed in its last layer"
    pictured = plots.weights_chart(layer[:, :64], heading=heading, cell=10 if layer.shape[1] < 20 else 6)
    mo.vstack(
        [
            pictured,
            mo.md("""
            **How to read this.** Above, the share of keys that give back their own value, looked for among 64: a line
            that falls late is a memory that holds much. Each pair is random and is written once; the band is a 95 %
            interval over sequences; theta, eta and alpha are the same at every token, where a model would learn them.
            Below, weights after twelve pairs less those at birth, at most 64 columns of them: each pair adds an outer
            product. A memory of several layers begins with random weights, which a model would have trained.
            """),
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## An objective of your own

    The next cell adds one: a loss per token, of what the memory gives and the value it should give. Open the notebook
    with `marimo edit`, change the function, and it is a choice above. Its gradient is derived here; where you pass your
    own to `objective.register`, it is held against the loss's slope, and refused if it is not the loss's.
    """)
    return


@app.cell
def _():
    def log_cosh(output, value):
        difference = mx.abs(output - value)
        return (difference + mx.logaddexp(-2 * difference, 0)).sum(-1)

    off = objective.register("log cosh", log_cosh)
    own = ["log cosh"]
    mo.md(f"*log cosh* is registered; its gradient and its slope differ by {off:.1e} of the largest slope.")
    return (own,)


if __name__ == "__main__":
    app.run()
