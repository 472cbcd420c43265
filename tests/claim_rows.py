"""Tables as full runs would give them, and what every claim of the laboratory says of itself."""

from collections.abc import Callable
from typing import Any

from titans_mlx.claims import (
    CLAIMS,
    capacity,
    chunks,
    components,
    depth,
    family,
    frozen,
    gating,
    mqar,
    needles,
    stories,
    tracking,
    variants,
)
from titans_mlx.claims.lab import CONTROL, run_lab
from titans_mlx.claims.recall_jobs import FAR, SLIDING, TITANS

RUNS = (run_lab, capacity.run_capacity, depth.run_depth, frozen.run_frozen, stories.run_stories, variants.run_variants)
LAB = [claim for claim in CLAIMS.values() if claim.run_job in RUNS]


def rows_of(claim, share: Callable[[dict[str, Any], dict[str, Any]], float]) -> list[dict[str, Any]]:
    """A full table as the runs would give it, ``share(settings, test)`` of the answers right."""
    rows: list[dict[str, Any]] = []
    for job in claim.jobs("full"):
        if job.settings["model"] == depth.COST:
            rows += [{"model": depth.COST, "of": name, "milliseconds": 5.0 + layers} for name, layers in DEPTHS.items()]
            continue
        if job.settings["model"] == capacity.HAND:
            continue
        tests = job.settings.get("tests") or [_whole(job.settings)]
        for seed in job.settings["seeds"]:
            for test in tests:
                right = share(job.settings, test)
                row = {"model": job.settings["model"], "option": job.settings.get("option", "")}
                row |= {"nats": 2 - right, "bits": 2 - right}
                row |= {name: value for name, value in test.items() if name not in ("task", "change")}
                row |= {"seed": seed, "accuracy": right, "correct": [right] * 8, "queries": 1, "sequences": 8}
                row |= {
                    "chance": 0.02,
                    "parameters": 10**5,
                    "trained_length": 64,
                    "length": 64,
                    "train_seconds": 1.0,
                    "validation_accuracy": 0.9,
                }
                rows.append(row | {"seconds_per_sequence": 1.0, "peak_bytes": 10**6})
    return rows


def _whole(settings: dict[str, Any]) -> dict[str, Any]:
    """The test of a job that names none: text at the length trained, or recall at the farthest distance."""
    if "corpus" in settings:
        return {"kind": "near", "corpus": settings["corpus"]}
    return {"setting": settings["setting"], "distance": FAR}


DEPTHS = {depth.name(layers): layers for layers in depth.DEPTHS}
LENGTHS_NEAR = {True: needles.TRAINED, False: stories.TRAINED}
PARTS = dict(zip((*components.LESS, *components.MORE), (0.5, 0.6, 0.7, 0.8, 0.85, 0.97, 0.97, 0.97), strict=True))
"""Accuracy without each part, and with attention; the whole model is at 95 %."""


def as_claimed(settings: dict[str, Any], test: dict[str, Any]) -> float:
    """Every claim's own story."""
    model = settings["model"]
    if model == CONTROL:
        return 0.02
    if "distance" in test or "corpus" in test:
        return 0.9 if model == variants.LAYER else 0.95
    if settings["option"] == mqar.WITHOUT:
        return 0.3
    if settings["option"] == mqar.WITH:
        return {mqar.SUM: 0.5, mqar.DEEP: 0.7, **dict.fromkeys((*mqar.MIRAS, mqar.OMEGA), 0.8)}.get(model, 0.6)
    if settings["option"] == "family":
        if test["what"] == family.REBINDING:
            return 0.5 if model == family.SUM else 0.95
        return 0.95 if model in family.MIRAS else 0.85
    if "use" in test and "trained" in test:
        return 0.9 if (test["trained"], test["use"]) == (frozen.LEARNING, frozen.WRITES) else 0.5
    if test.get("use"):
        return {gating.WHOLE: 1.0, gating.BARE: 0.8}.get(test["use"], 0.02)
    if "gate" in test:
        return {"none": 0.9, "theta": 0.5 if test["x"] else 0.02}.get(test["gate"], 0.89)
    if model in PARTS:
        return PARTS[model]
    if model in DEPTHS:
        return 0.5 + (0.01 + 0.01 * depth.LENGTHS.index(test["x"])) * (DEPTHS[model] > 1)
    if test.get("what") in (*needles.KINDS, *map(str, stories.FACTS)):
        if model == variants.LAYER:
            return 0.9
        return 0.95 if model in TITANS or test["x"] == LENGTHS_NEAR[test["what"] in needles.KINDS] else 0.5
    if "group" in test:
        return 0.95 if model in tracking.MEMORIES else 0.3
    if "what" in test:
        return {SLIDING: 0.02, "MAL": 0.9}.get(model, 0.95)
    if "trained" in test:
        return 1.0 if test["trained"] <= 4 or test["pairs"] < chunks.JUDGED[0] else 0.9
    widths = {capacity.MATRIX[width]: width for width in capacity.MATRIX} | {capacity.ANCHORED: 64}
    return 1.0 if test["x"] <= widths.get(model, 128) else 0.5


def changed_rows(claim, differs: Callable[[dict[str, Any], dict[str, Any]], float | None]) -> str:
    def share(settings: dict[str, Any], test: dict[str, Any]) -> float:
        other = differs(settings, test)
        return as_claimed(settings, test) if other is None else other

    return claim.judge(rows_of(claim, share)).status


def with_seeds(claim, values: dict[str, tuple[float, ...]], where: Callable[[dict[str, Any]], bool]) -> str:
    """The verdict where the seeds of some models differ: ``values`` by model, in rows that ``where`` picks."""
    rows = rows_of(claim, as_claimed)
    for row in rows:
        if row["model"] in values and where(row):
            right = values[row["model"]][row["seed"]]
            row |= {"accuracy": right, "correct": [right] * 8, "nats": 2 - right}
    return claim.judge(rows).status
