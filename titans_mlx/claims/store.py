"""Stored evidence: one small JSON file per job, with its settings and provenance, written whole or not at all."""

import json
import time
from pathlib import Path
from typing import Any

from titans_mlx.claims.base import Claim, Job, Progress, Row
from titans_mlx.training.files import write_json
from titans_mlx.training.provenance import provenance


def result_path(folder: Path, claim: Claim, job: Job) -> Path:
    """Where a job's result is kept."""
    return folder / claim.id / f"{job.id}.json"


def run_and_store(folder: Path, claim: Claim, job: Job, progress: Progress | None = None) -> list[Row]:
    """A job's rows: from the store when it holds the same settings, else run and stored.

    Raises:
        ValueError: if the store holds a result of this id with other settings.
    """
    path = result_path(folder, claim, job)
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["settings"] != json.loads(json.dumps(job.settings)):
            raise ValueError(f"{path} must hold the settings of job {job.id}; move it away or give the job another id")
        return stored["rows"]
    origin, started = provenance(), time.perf_counter()
    rows = claim.run_job(job, progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    seconds = round(time.perf_counter() - started, 1)
    write_json(path, {"settings": job.settings, "provenance": {**origin, "seconds": seconds}, "rows": rows})
    return rows


def stored_results(folder: Path, claim: Claim) -> list[dict[str, Any]]:
    """Every stored result of a claim: ``settings``, ``provenance`` and ``rows``."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / claim.id).glob("*.json"))]


def stored_rows(folder: Path, claim: Claim) -> list[Row]:
    """The tidy table of all stored results."""
    return [row for result in stored_results(folder, claim) for row in result["rows"]]
