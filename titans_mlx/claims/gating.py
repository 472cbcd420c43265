"""Claim: recall comes from writes at test time, with gates as strong as training made them."""

from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.lab import lab_job, make_task, run_lab, scale_of, summarise, verdict
from titans_mlx.claims.recall_jobs import TITANS, WINDOW, model_configs
from titans_mlx.claims.statistics import share

GATES = ("alpha", "eta", "theta")
FACTORS = (0.0, 0.25, 0.5, 2.0, 4.0, 8.0)
DISTANCE = 200
AS_GOOD, MATTERS = 0.02, 0.10
WHOLE, FROZEN, RESET, BARE = "whole", "no writes", f"reset every {WINDOW} tokens", "no persistent tokens"


def recall(distance: int) -> dict:
    """Eight pairs, all of them asked, few filler words."""
    return {"kind": "recall", "distance": distance}


TESTS = [
    {"gate": "none", "x": 1.0, "use": WHOLE, "change": {}},
    *[{"gate": gate, "x": factor, "use": "", "change": {gate: factor}} for gate in GATES for factor in FACTORS],
    {"gate": "", "x": 1.0, "use": FROZEN, "change": {"alpha": 0.0, "theta": 0.0}},
    {"gate": "", "x": 1.0, "use": RESET, "change": {"reset_every": WINDOW}},
    {"gate": "", "x": 1.0, "use": BARE, "change": {"persistent": False}},
]


def jobs(profile: Profile) -> list[Job]:
    """A job per Titans variant; in the smaller profiles the matrix memory alone.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    tests = [{"task": recall(DISTANCE), **test} for test in TESTS]
    configs = model_configs(make_task(recall(0)).vocab_size)
    train = [recall(distance) for distance in (16, 64, DISTANCE)]

    def job(model: str, **options: object) -> Job:
        config = configs[model]
        return lab_job(model, config.replace(memory=config.memory.replace(decay_init=0.001)), train, tests, **options)

    if profile == "smoke":
        return [job(TITANS[0], label="smoke", seeds=(0,), grid=((4e-3, 0.1),), steps=3, sequences=4)]
    if profile == "quick":
        return [job(TITANS[0], label="quick", seeds=(0,), grid=((4e-3, 0.1),), steps=250)]
    return [job(model) for model in TITANS]


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    table = {(r["model"], r["gate"], r["x"]): r for r in summarise(rows, ("model", "gate", "x", "use")) if r["gate"]}
    parts: dict[str, bool | None] = {}
    figures = []
    for model in TITANS:
        trained = table.get((model, "none", 1.0))
        if trained is None:
            parts[model] = None
            continue
        others = {(gate, x): table[model, gate, x] for gate in GATES for x in FACTORS}
        closed = others["theta", 0.0]
        gate, factor = max(others, key=lambda key: others[key]["accuracy"])
        best = others[gate, factor]
        parts[model] = (
            closed["accuracy"] <= 2 * closed["chance"]
            and trained["accuracy"] >= best["accuracy"] - AS_GOOD
            and min(r["accuracy"] for (_, x), r in others.items() if x) <= trained["accuracy"] - MATTERS
        )
        found = f"{model} {share(trained)}, without writes {closed['accuracy']:.0%}"
        if best["accuracy"] > trained["accuracy"]:
            found += f", at best {best['accuracy']:.0%} ({gate} x {factor:g})"
        figures.append(found)
    return verdict(parts, "; ".join(figures), scale_of(rows, f"distance {DISTANCE}"))


PROTOCOL = f"""
Eight key-value pairs, 16, 64 or {DISTANCE} filler words (30 of them to draw from), all keys asked. One block of width
64, window and segment {WINDOW}, births as in the claim on recall over distance but for alpha at 0.001, 400 steps of
2,048 tokens, weight decay 0.1, learning rate 0.002 or 0.004 by validation at {DISTANCE}, three seeds.
Tested at {DISTANCE} on 64 sequences, with one gate of all memories times a factor: 0, 1/4, 1/2, 2, 4, 8 (alpha and eta
kept below 1, theta at most 1/2), and unchanged.
"""

CLAIM = Claim(
    id="gating",
    title="Gating strength",
    statement="What is recalled was written at test time, and gates of another strength than training gave them do not "
    "recall better.",
    source="Titans (arXiv 2501.00663), section 3.1, eq. 9-14: theta, eta and alpha per token decide what is stored.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by="Recall above twice chance with theta at 0, a factor that is better by more than 2 points, or no factor "
    "but 0 that costs 10 points.",
    rule=f"A Titans variant holds if, mean over seeds, it is right at most at twice chance with theta closed, if no "
    f"factor on any gate beats the gates as trained by more than {AS_GOOD:.0%}, and if some factor other than 0 costs "
    f"at least {MATTERS:.0%}. All five: reproduced; some: reproduced in part; none: not reproduced.",
    jobs=jobs,
    run_job=run_lab,
    judge=judge,
)
