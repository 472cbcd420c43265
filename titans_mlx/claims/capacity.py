"""Claim: a matrix memory holds about as many pairs as its keys are wide, a deep memory of the same width more."""

import math
from typing import Any

from titans_mlx.claims.alone import Still, recall_curve
from titans_mlx.claims.base import Claim, Job, Profile, Progress, Row, Verdict, check_profile, job_id
from titans_mlx.claims.judging import scale_of, summarise, verdict
from titans_mlx.claims.lab import HOW_TRAINED, control_job, lab_job, run_lab
from titans_mlx.claims.recall_jobs import model_configs
from titans_mlx.config import TitansConfig
from titans_mlx.memory import recipes
from titans_mlx.memory.structure import widths

PAIRS = (8, 16, 32, 64, 96, 128, 192)
ENOUGH = 0.9
WIDTH = 64
"""Of all models: a matrix of h heads has 64 times 64 / h weights."""
GROWTH, NEAR, MORE = 1.4, 2.0, 1.1
MATRIX = {16: "matrix, keys of 16", 32: "matrix, keys of 32", 64: "matrix, keys of 64"}
DEEP = {1: "depth 2, width x 1", 2: "depth 2, width x 2", 4: "depth 2, width x 4"}
THREE = "depth 3, width x 2"
ANCHORED = "matrix of 64, anchored"
THINNED, SHARES = "weights kept", (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Option of jobs in which all but so large a share of a memory's weights is set to 0 before the questions."""
HAND, HAND_STEPS, HAND_SEQUENCES = "by hand", (0.05, 0.1, 0.2, 0.5), 64
"""The job of matrices that nothing trained, and their thetas."""
THEORY = "as many as keys are wide"
BIRTH: dict[str, Any] = {"conv_birth": "shift", "step_init": 0.1, "decay_init": 1e-6}
"""With theta at 0.01, as in the claim on recall over distance, the deep memories learn in more than twice the steps."""


def recall(pairs: int) -> dict[str, Any]:
    """Pairs without filler, of 256 keys and 64 values, 16 of the keys asked (8 of 8)."""
    return {
        "kind": "recall",
        "num_keys": 256,
        "num_values": 64,
        "num_filler": 1,
        "num_pairs": pairs,
        "num_queries": min(pairs, 16),
    }


def architectures() -> dict[str, TitansConfig]:
    """One block of width 64 with each memory; one head, but for matrices with narrower keys, which are several."""
    base = model_configs(321)["LMM matrix"].replace(memory=recipes.titans_matrix(**BIRTH))
    made = {MATRIX[64 // heads]: base.replace(num_heads=heads) for heads in (4, 2, 1)}
    shapes = {ANCHORED: (1, 1), **{name: (2, expansion) for expansion, name in DEEP.items()}, THREE: (3, 2)}
    for name, (depth, expansion) in shapes.items():
        memory = recipes.titans(depth=depth, expansion=expansion, chunk_size=32, **BIRTH)
        made[name] = base.replace(memory=memory)
    return made


def jobs(profile: Profile) -> list[Job]:
    """A job per memory.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    train = [recall(pairs) for pairs in (8, 16, 32, 64)]
    tests = [{"x": pairs, "task": recall(pairs)} for pairs in PAIRS]
    options: dict[str, Any] = {"steps": 800}
    names = list(architectures())
    if profile != "full":
        options = {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),), "steps": 250, "sequences": 32}
        names = names[:3]
    if profile == "smoke":
        options |= {"steps": 3, "sequences": 4}
        names = [MATRIX[64], DEEP[1]]
    made = [lab_job(name, architectures()[name], train, tests, **options) for name in names]
    if profile != "full":
        return made
    thinned = [{**test, "kept": share, "change": {"kept": share}} for share in SHARES for test in tests]
    made += [
        lab_job(name, architectures()[name], train, thinned, option=THINNED, **options)
        for name in (MATRIX[64], ANCHORED, DEEP[4])
    ]
    hand = {"model": HAND, "widths": list(MATRIX), "steps": list(HAND_STEPS), "sequences": HAND_SEQUENCES}
    return [*made, control_job(architectures()[MATRIX[64]], train, tests, **options), Job(job_id(HAND), hand)]


def run_capacity(job: Job, progress: Progress | None = None) -> list[Row]:
    """As ``run_lab``; of matrices by hand a row per width, theta and number of pairs."""
    settings = job.settings
    if settings["model"] != HAND:
        return run_lab(job, progress)
    memory = recipes.titans_matrix(momentum="none")
    return [
        {**row, "model": HAND, "option": HAND, "width": width, "theta": theta, "x": row["pairs"]}
        for width in settings["widths"]
        for theta in settings["steps"]
        for row in recall_curve(memory, Still(theta=theta), PAIRS, width, settings["sequences"])
    ]


def whole(rows: list[Row]) -> list[Row]:
    """The rows of trained memories with all their weights."""
    return [row for row in rows if row["option"] not in (THINNED, HAND)]


def by_hand(rows: list[Row]) -> list[Row]:
    """What a matrix holds that is written by hand, by the theta that is best for it: a row per width of the keys."""
    found: dict[int, Row] = {}
    for row in rows:
        if row["option"] != HAND:
            continue
        width, theta = row["width"], row["theta"]
        own = {(HAND, r["x"]): r for r in rows if r["option"] == HAND and (r["width"], r["theta"]) == (width, theta)}
        held = capacity(own, HAND)
        if width not in found or held > found[width]["pairs"]:
            found[width] = {"model": HAND, "width": width, "theta": theta, "x": WIDTH * width, "pairs": held}
    return list(found.values())


def sizes(rows: list[Row]) -> list[Row]:
    """What memories hold (``pairs``) by their weights that are not 0 (``x``): a row per model and share kept.

    Where a memory is stored with part of its weights, that with all of them stands still during the questions, too.
    Matrices by hand, and the theory, are as many heads as make up the width, like the trained ones.
    """
    made, found = architectures(), []
    still = {row["model"] for row in rows if row["option"] == THINNED}
    own = [row for row in rows if row["option"] == THINNED or (row["model"] in made and row["model"] not in still)]
    for model, share in dict.fromkeys((row["model"], row.get("kept", 1.0)) for row in own):
        of = [row for row in own if (row["model"], row.get("kept", 1.0)) == (model, share)]
        held = capacity({(r["model"], r["x"]): r for r in summarise(of, ("model", "x"))}, model)
        config = made[model]
        shapes = widths(config.memory, config.dim // config.num_heads)
        weights = config.num_heads * sum(wide * high for wide, high in shapes)
        found += [] if held is None else [{"model": model, "x": round(share * weights), "pairs": held}]
    theory = [{"model": THEORY, "x": WIDTH * width, "pairs": float(width)} for width in MATRIX]
    return [*found, *by_hand(rows), *theory] if found else []


def capacity(table: dict[tuple[str, int], Row], model: str) -> float | None:
    """Pairs at which accuracy falls below :data:`ENOUGH`, between the tested numbers on a logarithmic scale.

    Below the smallest number it is 0, beyond the largest that number; None: not run.
    """
    shares = [table.get((model, pairs)) for pairs in PAIRS]
    if None in shares:
        return None
    before = 0.0
    for index, row in enumerate(shares):
        if row["accuracy"] < ENOUGH:
            if not index:
                return 0.0
            part = (shares[index - 1]["accuracy"] - ENOUGH) / (shares[index - 1]["accuracy"] - row["accuracy"])
            return before * (PAIRS[index] / before) ** part
        before = float(PAIRS[index])
    return before


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    alone = [f"keys of {r['width']}: {math.floor(r['pairs'])} (theta {r['theta']:g})" for r in by_hand(rows)]
    rows = whole(rows)
    table = {(r["model"], r["x"]): r for r in summarise(rows, ("model", "x"))}
    held = {name: capacity(table, name) for name in architectures()}
    narrow, middle, wide = (held[MATRIX[width]] for width in (16, 32, 64))
    anchored, deep = held[ANCHORED], held[DEEP[4]]
    parts: dict[str, bool | None] = dict.fromkeys(("grows with the keys", "about as many", "deep holds more"))
    if None not in (narrow, middle, wide):
        parts["grows with the keys"] = narrow > 0 and middle >= GROWTH * narrow and wide >= GROWTH * middle
        parts["about as many"] = all(
            name_width / NEAR <= pairs <= name_width * NEAR
            for name_width, pairs in ((16, narrow), (32, middle), (64, wide))
        )
    if None not in (anchored, deep):
        parts["deep holds more"] = deep >= MORE * anchored and deep > 0
    figures = ", ".join(
        f"{name}: {math.floor(pairs)} ({_by_seed(rows, name)})" for name, pairs in held.items() if pairs is not None
    )
    told = f"pairs held at {ENOUGH:.0%} (by each training): {figures}"
    told += f"; beside them matrices written by hand, {', '.join(alone)}" if alone else ""
    return verdict(parts, told, scale_of(rows, "one block of width 64"))


def _by_seed(rows: list[Row], model: str) -> str:
    """What each training of a model holds."""
    seeds = sorted({row["seed"] for row in rows if row["model"] == model})
    tables = [{(r["model"], r["x"]): r for r in rows if r["seed"] == seed} for seed in seeds]
    return ", ".join(str(math.floor(capacity(table, model) or 0)) for table in tables)


PROTOCOL = f"""
Key-value pairs without filler, of 256 keys and 64 values, then 16 of the keys in random order (all of eight). Trained
with 8, 16, 32 and 64 pairs in equal parts, 800 steps; tested with {PAIRS[0]} to {PAIRS[-1]}. {HOW_TRAINED} One block of
width 64; births: embedding at 0.02, keys one token late, theta at 0.1, eta at 0.5, alpha at 1e-6. Memories: the exact
online matrix of one head of 64, two of 32, four of 16 (each head has keys of that width and its own share of the
values); and, all with gradients at the start of chunks of 32 and writes bounded to 1, a matrix of 64, MLPs of depth 2
with hidden width 64, 128 and 256, and one of depth 3 with 128, these with residual and norm. Models differ in the
memory's parameters, which is the point. Beside them a matrix of 64 that never writes, the control; and, of no weight in
the rule and added after it was judged, the matrices of 64 and the MLP with hidden width 256 with all but the largest
1/2 to 1/16 of their weights set to 0 after the pairs, nothing being written from then on; and matrices alone,
untrained, into which random unit keys and values are written with one theta of four and no momentum, the best theta
shown, an answer being looked for among {PAIRS[-1]} values. What a memory holds is the number of pairs, from {PAIRS[0]}
on, at which accuracy falls below {ENOUGH:.0%}.
"""

CLAIM = Claim(
    id="capacity",
    title="Capacity",
    statement="A trained matrix memory holds about as many pairs as its keys are wide; a deep memory of the same width "
    "holds more.",
    source="Titans (arXiv 2501.00663), section 3.1: deep memory, as matrices compress linearly; Schlag et al. (arXiv "
    "2102.11174): at most as many orthogonal keys as dimensions.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by="Capacity that does not grow with the keys' width, that is not within a factor of 2 of it, or a deep "
    "memory that holds no more than the matrix with the same gradients.",
    rule=f"Three parts. Each doubling of the keys' width multiplies what the online matrix holds by at least {GROWTH}; "
    f"what it holds is within a factor of {NEAR:g} of the width for all three; depth 2 with hidden width 256 holds at "
    f"least {MORE} times what the anchored matrix of 64 holds. All: reproduced; some: reproduced in part; none: not "
    "reproduced.",
    jobs=jobs,
    run_job=run_capacity,
    judge=judge,
)
