"""Claim: Titans copy and complete patterns through more distractors, and more items, than they were trained with."""

from typing import Any

from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.judging import scale_of, summarise, verdict
from titans_mlx.claims.lab import CONTROL, HOW_TRAINED, control_job, lab_job, make_task, run_lab
from titans_mlx.claims.recall_jobs import FULL, SLIDING, TITANS, model_configs
from titans_mlx.claims.statistics import share

MODELS = (*TITANS, "Linear attention", "Gated DeltaNet", SLIDING, FULL[1])
DISTRACTORS = (16, 64, 256, 1024, 4096)
ITEMS = (4, 8, 16, 24, 32)
TRAINED, FAR, FAR_ITEMS = 64, 1024, 16
GOOD = 0.9
COPY, ALIKE, INDUCTION, STORED = "copy", "copy, distractors alike", "induction", "copy, more items"
PARTS = (COPY, ALIKE, INDUCTION, STORED)


def _copy(items: int, distractors: int, alike: bool = False) -> dict[str, Any]:
    return {"kind": "copy", "num_items": items, "num_distractors": distractors, "alike": alike}


def _induction(distractors: int) -> dict[str, Any]:
    return {"kind": "induction", "num_distractors": distractors}


def _tests(task: str, most: int) -> list[dict[str, Any]]:
    if task == INDUCTION:
        return [{"what": INDUCTION, "x": x, "task": _induction(x)} for x in DISTRACTORS if x <= most]
    tests = [{"what": COPY, "x": x, "task": _copy(8, x)} for x in DISTRACTORS if x <= most]
    tests += [{"what": ALIKE, "x": x, "task": _copy(8, x, alike=True)} for x in DISTRACTORS if x <= most]
    return tests + [{"what": STORED, "x": x, "task": _copy(x, TRAINED)} for x in ITEMS]


def jobs(profile: Profile) -> list[Job]:
    """Per model and the control, one job for copying (both kinds of distractors) and one for induction.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    train = {
        COPY: [_copy(n, d, alike) for n in (4, 8) for d in (16, TRAINED) for alike in (False, True)],
        INDUCTION: [_induction(d) for d in (16, 32, TRAINED)],
    }

    def job(model: str, task: str, most: int = DISTRACTORS[-1], **options: Any) -> Job:
        config = model_configs(make_task(train[task][0]).vocab_size)[TITANS[0] if model == CONTROL else model]
        if model == CONTROL:
            return control_job(config, train[task], _tests(task, most), option=task, **options)
        return lab_job(model, config, train[task], _tests(task, most), option=task, **options)

    if profile == "full":
        return [job(model, task, steps=300) for task in train for model in (*MODELS, CONTROL)]
    small: dict[str, Any] = {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),)}
    small |= {"steps": 3, "sequences": 4, "most": 64} if profile == "smoke" else {"steps": 150, "sequences": 32}
    return [job(model, COPY, **small) for model in (TITANS[0], SLIDING)]


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    table = {(r["model"], r["what"], r["x"]): r for r in summarise(rows, ("model", "what", "x"))}
    parts: dict[str, bool | None] = {}
    figures = []
    for what in PARTS:
        at = FAR_ITEMS if what == STORED else FAR
        found = {model: table.get((model, what, at)) for model in (*TITANS, SLIDING)}
        if None in found.values():
            parts[what] = None
            continue
        window = found.pop(SLIDING)
        best = max(found, key=lambda model: found[model]["accuracy"])
        parts[what] = found[best]["accuracy"] >= GOOD and window["accuracy"] <= found[best]["accuracy"] / 2
        rest = {model: table.get((model, what, at)) for model in (*MODELS, CONTROL) if model not in (best, SLIDING)}
        listed = ", ".join(f"{model} {row['accuracy']:.0%}" for model, row in rest.items() if row is not None)
        figures.append(f"{what} at {at:,}: {best} {share(found[best])}, {SLIDING} {share(window)}, {listed}")
    return verdict(parts, "; ".join(figures), scale_of(rows, f"up to {DISTRACTORS[-1]:,} distractors"))


PROTOCOL = f"""
Copying: a sign, eight distinct symbols of 50, distractors, the sign again, and the symbols must follow in order;
distractors are words of their own (30) or symbols that are not among the eight ("alike"). Induction: symbols of 50 at
random, among them once a sign; after the sign at the end, the symbol that had followed it. Two trainings of each model:
copying with four and eight items, 16 and {TRAINED} distractors of both kinds; induction with 16, 32 and {TRAINED}
distractors; 300 steps. {HOW_TRAINED} Copying is validated on eight items and {TRAINED} distractors that are alike. The
models of the claim on recall over distance, with linear attention and Gated DeltaNet in the place of RetNet and without
the Transformer that has positions, matched in parameters within 5 %, with that claim's births; and the matrix that
never writes, the control. Tested with {DISTRACTORS[0]} to {DISTRACTORS[-1]:,} distractors, and with {ITEMS[0]} to
{ITEMS[-1]} items at {TRAINED} distractors.
"""

CLAIM = Claim(
    id="distractors",
    title="Copying and induction with distractors",
    statement=f"For each of four tasks some Titans model copies or completes patterns through {FAR:,} distractors, or "
    f"copies {FAR_ITEMS} items, trained with {TRAINED} and eight.",
    source="Titans (arXiv 2501.00663), sections 1 and 3.1: memory that keeps what surprises and forgets what is not "
    "needed; copying and induction as in Mamba (arXiv 2312.00752), section 4.1.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by=f"No Titans variant at {GOOD:.0%} there, or a sliding window that does at least half as well.",
    rule=f"Four parts: copying, copying with distractors alike, induction, each at {FAR:,} distractors, and copying "
    f"{FAR_ITEMS} items at {TRAINED}. A part holds if some Titans variant is right in at least {GOOD:.0%} of its "
    "answers, mean over seeds, and the sliding window in at most half as many. All: reproduced; some: reproduced in "
    "part; none: not reproduced.",
    jobs=jobs,
    run_job=run_lab,
    judge=judge,
)
