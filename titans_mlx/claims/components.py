"""Claim: every part of the memory helps, in the paper's order, and attention beside it helps more."""

from functools import cache
from typing import Any

import numpy as np

from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.judging import LEARNED, learned, scale_of, summarise, texts, verdict
from titans_mlx.claims.lab import CONTROL, HOW_TRAINED, control_job, lab_job, make_task, run_lab
from titans_mlx.claims.matching import match_parameters, parameters
from titans_mlx.claims.recall_jobs import WINDOW, model_configs
from titans_mlx.claims.statistics import gain, mean_interval, surely
from titans_mlx.claims.surprise import rank_correlation
from titans_mlx.config import TitansConfig
from titans_mlx.memory import recipes

WHOLE = "LMM deep"
LESS = ("no decay", "no momentum", "no convolution", "linear memory", "no persistent tokens")
"""In the order of the paper's Table 5, the dearest first."""
MORE = ("with attention (MAC)", "with attention (MAG)", "with attention (MAL)")
BIRTHWARD, PLAIN = "decay to birth", "plain matrix"
BESIDE = (BIRTHWARD, PLAIN)
"""Shown beside, of no weight in the rule: weights that fade to those at birth, not to 0 (``MemoryConfig.decay_to``);
and a linear memory without the residual and the LayerNorm around it, as a matrix is elsewhere here."""
RECALL, REBINDING, PROSE = "recall", "rebinding", "prose"
POINTS, NATS = 0.02, 0.01
ORDER = 0.7
NONE = 100.0
"""Nats of a model that gives NaN: worse than any other."""
TESTED = 256
RATES = (2e-3, 4e-3, 8e-3)
"""Tried on prose, where other claims' models of this size always took the larger of the first two."""
BIRTH: dict[str, Any] = {"conv_birth": "shift", "step_init": 0.1, "decay_init": 0.001}


def _recall(pairs: int, distance: int) -> dict[str, Any]:
    return {"kind": "recall", "num_pairs": pairs, "num_queries": min(pairs, 8), "distance": distance}


def _rebinding(pairs: int, gap: int) -> dict[str, Any]:
    fields = {"num_pairs": pairs, "num_rebound": pairs // 2, "gap": gap, "distance": 32, "lead": 32}
    return {"kind": "rebinding", **fields}


def _prose(part: str) -> dict[str, Any]:
    return {"kind": "text", "length": 256, "part": part}


TRAIN = {
    RECALL: [_recall(pairs, distance) for pairs in (4, 8) for distance in (16, 64, 128)],
    REBINDING: [_rebinding(pairs, gap) for pairs in (2, 4, 8) for gap in (8, 32)],
    PROSE: [_prose("train")],
}
TESTS = {RECALL: _recall(16, 256), REBINDING: _rebinding(16, 128), PROSE: _prose("test")}


@cache
def architectures(vocab_size: int) -> dict[str, TitansConfig]:
    """The whole model, without each of its parts, and with attention, matched in parameters."""
    memory = recipes.titans(expansion=2, **BIRTH)
    base = model_configs(vocab_size)[WHOLE].replace(memory=memory, segment_size=WINDOW, window_size=WINDOW)
    changes: dict[str, dict[str, Any]] = {
        WHOLE: {},
        "no decay": {"memory": memory.replace(decay="none")},
        "no momentum": {"memory": memory.replace(momentum="none")},
        "no convolution": {"memory": memory.replace(conv_size=0, conv_birth="uniform")},
        "linear memory": {"memory": memory.replace(depth=1)},
        "no persistent tokens": {"num_persistent": 0},
        **{name: {"variant": name[-4:-1].lower()} for name in MORE},
        BIRTHWARD: {"memory": memory.replace(decay_to="birth")},
        PLAIN: {"memory": recipes.titans(depth=1, **BIRTH)},
    }
    # As large as MAC with the width that the others have elsewhere: no MLP is then squeezed to nothing.
    target = parameters(base.replace(variant="mac", mlp_hidden=192))
    return {name: match_parameters(base.replace(**change), target) for name, change in changes.items()}


def jobs(profile: Profile) -> list[Job]:
    """A job per task and model.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)

    def job(task: str, model: str, **options: Any) -> Job:
        configs = architectures(make_task(TESTS[task]).vocab_size)
        if task == PROSE:
            options["validate"] = _prose("validation")
        tests = [{"what": task, "task": TESTS[task], **({"sequences": TESTED} if profile == "full" else {})}]
        if model == CONTROL:
            return control_job(configs[WHOLE], TRAIN[task], tests, option=task, **options)
        return lab_job(model, configs[model], TRAIN[task], tests, option=task, **options)

    if profile == "full":
        full: dict[str, dict[str, Any]] = {task: {"steps": 500, "seeds": tuple(range(5))} for task in TESTS}
        full[PROSE] |= {"seeds": tuple(range(8)), "grid": tuple((rate, 0.1) for rate in RATES)}
        return [job(task, model, **full[task]) for task in TESTS for model in (WHOLE, *LESS, *MORE, *BESIDE, CONTROL)]
    small: dict[str, Any] = {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),)}
    small |= {"steps": 2, "sequences": 4} if profile == "smoke" else {"steps": 100, "sequences": 32}
    tasks = (PROSE, RECALL) if profile == "smoke" else (PROSE,)
    return [job(task, model, **small) for task in tasks for model in (WHOLE, LESS[0])]


def summary(rows: list[Row]) -> list[Row]:
    """One row per task and model, with the mean loss in nats and what it gains over the whole model.

    ``gain``, with the ends ``gain_low`` and ``gain_high`` of its interval (None for one seed), is in units of what
    counts: 2 points of accuracy, or for prose 0.01 nats a byte; above 1 is better.
    """
    table = summarise(rows, ("what", "model"))
    for row in table:
        own, whole = (
            [r for r in rows if (r["what"], r["model"]) == (row["what"], model)] for model in (row["model"], WHOLE)
        )
        if not whole:
            found: dict[str, float | None] = dict.fromkeys(("value", "low", "high"))
        elif row["what"] == PROSE:
            found = gain(_finite(whole), _finite(own), "nats")
        else:
            found = gain(own, whole)
        unit = NATS if row["what"] == PROSE else POINTS
        for name, end in (("gain", "value"), ("gain_low", "low"), ("gain_high", "high")):
            row[name] = None if found[end] is None else found[end] / unit
    return table


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    if len(texts(rows)) > 1:
        return Verdict("unfinished", "rows of several versions of the prose", scale_of(rows, ""))
    gains = {(row["what"], row["model"]): row for row in summary(rows)}
    # A part's worth cannot be told on a task that the whole model has not learned.
    wholes = {task: [r for r in rows if (r["what"], r["model"]) == (task, WHOLE)] for task in TESTS}
    telling = [task for task, members in wholes.items() if task == PROSE or learned(members)]
    parts: dict[str, bool | None] = {}
    figures = []
    for model in (*LESS, *MORE, *BESIDE, CONTROL):
        found = {task: gains.get((task, model)) for task in TESTS}
        complete = all(row is not None and row["gain"] is not None for row in found.values())
        if complete:
            figures.append(f"{model} {', '.join(_told(task, row) for task, row in found.items())}")
        if model not in (*BESIDE, CONTROL):
            name, holds = _part(model, [found[task] for task in telling]) if complete else (model, None)
            parts[name] = holds
    order = _order(rows)
    parts["order"] = None if order is None else surely(order, ORDER)
    if order is not None:
        figures.append(f"order of the five on prose {order['value']:+.2f}")
    unlearned = "".join(f"; {WHOLE} has not learned {task}" for task in TESTS if task not in telling)
    told = f"against {WHOLE}, points in recall and rebinding, nats a byte in prose{unlearned}: " if figures else ""
    return verdict(parts, told + "; ".join(figures), scale_of(rows, "one block of width 64"))


def _part(model: str, rows: list[Row]) -> tuple[str, bool]:
    """A model's part by name, and whether it holds: as much as counts on some task, and the contrary on none."""
    wanted = 1 if model in MORE else -1
    sides = [wanted * _side(row) for row in rows]
    holds = 1 in sides and -1 not in sides
    undecided = set(sides) == {0} and any(_open(row, wanted) for row in rows)
    return (f"{model} (undecided)" if undecided else model), holds


def _finite(rows: list[Row]) -> list[Row]:
    return [row | {"nats": NONE if row["nats"] is None else row["nats"]} for row in rows]


def _order(rows: list[Row]) -> dict[str, float | None] | None:
    """How far each seed's five losses on prose are ordered as in the paper, over seeds; None where one has not run."""
    losses: dict[int, list[float]] = {}
    for model in LESS:
        for row in _finite([row for row in rows if (row["what"], row["model"]) == (PROSE, model)]):
            losses.setdefault(row["seed"], []).append(row["nats"])
    if not losses or any(len(found) < len(LESS) for found in losses.values()):
        return None
    return mean_interval([rank_correlation(-np.array(found), np.arange(len(LESS))) for found in losses.values()])


def _told(task: str, row: Row) -> str:
    """A difference from the whole model and half of its interval: points of accuracy, or for prose nats more a byte."""
    unit, form = (-NATS, ".3f") if task == PROSE else (100 * POINTS, ".1f")
    half = "" if row["gain_high"] is None else f"±{abs(unit) * (row['gain_high'] - row['gain']):{form}}"
    return f"{unit * row['gain']:+{form}}{half}"


def _open(row: Row, wanted: int) -> bool:
    """Whether the interval leaves room for as much as counts, on the side that is wanted."""
    return row["gain_low"] is None or max(wanted * row["gain_low"], wanted * row["gain_high"]) >= 1


def _side(row: Row) -> int:
    """1 or -1 where a gain or a loss of at least one unit is beyond doubt, else 0."""
    found = {"value": row["gain"], "low": row["gain_low"], "high": row["gain_high"]}
    flipped = {"value": -row["gain"], "low": None if found["high"] is None else -found["high"]}
    return int(surely(found, 1.0)) - int(surely(flipped, 1.0))


PROTOCOL = f"""
A deep memory (two layers, width x 2) in one block of width 64, and the same without decay, without momentum, without
convolution, with a matrix in its place (residual and LayerNorm around it as before), without persistent tokens, and
with attention as MAC, MAG and MAL (segment and window of {WINDOW}; in MAG and MAL the attention has short convolutions
of its own); beside them, of no weight, one whose weights fade to those at birth instead of to 0, a matrix without
residual and LayerNorm, and, as a control, one that never writes; parameters matched within 5 % by the width of the MLP
(MAC 192). Keys are born one token late, gates at this package's defaults. Three tasks of each, 500 steps: recall (4 or
8 pairs, 16 to 128 filler words away; tested with 16 pairs, 256 away), rebinding (2 to 8 pairs, half of them bound anew;
tested with 16, 128 filler words between the bindings), prose (bytes of the documentation that ships with Python,
windows of 256; validated and tested on tenths of their own). {HOW_TRAINED} Here there are five seeds, for prose eight
and a further rate of {RATES[-1]}, and {TESTED} test sequences.
"""

CLAIM = Claim(
    id="components",
    title="Each component helps",
    statement="Decay, momentum, convolution, depth and persistent tokens each help, in this order, and "
    "attention beside the memory helps further.",
    source="Titans (arXiv 2501.00663), section 5.8, Table 5: perplexity rises by 2.03, 1.97, 1.72, 1.48 and "
    "0.62 without each, and falls with MAC, MAG and MAL.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by="A part whose absence costs nothing, or helps; another order; attention that does not help.",
    rule=f"Nine parts. Each of the five, taken away, costs at least {POINTS:.0%} of accuracy (recall, rebinding) "
    f"or {NATS} nats a byte (prose) on some task and gains as much on none; MAC, MAG and MAL each gain that on "
    "some task and lose as much on none; and the five losses on prose are ordered as in the paper, rank "
    f"correlation of each seed's own at least {ORDER} on average, its 95 % interval above 0. A difference counts if "
    "its 95 % interval (Student's t over seeds, each with its own counterpart) lies on its side of 0; recall and "
    f"rebinding count if every training of the whole model was right in {LEARNED:.0%} of its validation answers. A "
    "part that does not hold is called undecided where an interval leaves room for as much as is asked. All: "
    "reproduced; some: reproduced in part; none: not reproduced.",
    jobs=jobs,
    run_job=run_lab,
    judge=judge,
)
