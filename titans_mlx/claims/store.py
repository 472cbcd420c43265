"""Stored evidence: one small JSON file per job, with its settings and provenance, written whole or not at all."""

import hashlib
import json
import shutil
import time
from functools import cache
from pathlib import Path
from typing import Any, get_args

from titans_mlx.claims.base import Claim, Job, Profile, Progress, Row
from titans_mlx.claims.fitting import kept_in
from titans_mlx.claims.recall_runs import training_options
from titans_mlx.config import TitansConfig
from titans_mlx.model import Titans
from titans_mlx.training.files import replacing, write_json
from titans_mlx.training.provenance import provenance

DEMOS = {"LMM matrix": "demo", "MAC": "demo_mac"}
"""Folder, among the results, of each small trained model whose memory the notebooks show at work."""
UNFINISHED = "unfinished"
"""Folder, among the results, of checkpoints of jobs that are under way or were stopped."""
TEXT_DEMO = "demo_text"
"""Folder, among the results, of the small model of text."""


def store_demo(folder: Path, model: Titans, told: dict[str, Any], origin: dict[str, Any]) -> None:
    """Write a demonstration model: its weights, what is told of it with its configuration, and where it is from.

    The old ``config.json`` goes first: a kill in between leaves no model, never new weights beside old figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    with replacing(folder / "model.safetensors") as temporary:
        model.save_weights(str(temporary))
    write_json(folder / "provenance.json", origin)
    write_json(folder / "config.json", {"model": model.config.to_dict(), **told})


def result_path(folder: Path, claim: Claim, job: Job) -> Path:
    """Where a job's result is kept."""
    return results_folder(folder, claim, job) / f"{job.id}.json"


def results_folder(folder: Path, claim: Claim, job: Job) -> Path:
    """Where a claim's results of a job are kept."""
    return folder / (job.held_by or claim.evidence or claim.id)


def run_and_store(
    folder: Path, claim: Claim, job: Job, progress: Progress | None = None, older: bool = False
) -> list[Row]:
    """A job's rows: from the store when it holds the same settings, else run and stored.

    With ``older`` a result of an older source is run again; it stays until the new one takes its place.

    A job that was killed goes on from the last checkpoint of its trainings, if source, libraries and settings are those
    that it began with; its ``seconds`` are those of the process that ended it, and it is marked ``resumed``.

    Raises:
        ValueError: if the store holds a result of this id with other settings.
    """
    path = result_path(folder, claim, job)
    origin, started = provenance(), time.perf_counter()
    if is_stored(folder, claim, job, origin["source_hash"] if older else ""):
        return _read(path)["rows"]
    unfinished = results_folder(folder / UNFINISHED, claim, job) / job.id
    kept = unfinished / _key(origin["source_hash"], origin["versions"], job.settings)
    resumed = kept.exists()
    with kept_in(kept):
        rows = claim.run_job(job, progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    origin |= {"seconds": round(time.perf_counter() - started, 1), **({"resumed": True} if resumed else {})}
    write_json(path, {"settings": job.settings, "provenance": origin, "rows": rows})
    shutil.rmtree(unfinished, ignore_errors=True)
    return rows


def is_stored(folder: Path, claim: Claim, job: Job, source: str = "") -> bool:
    """Whether the store holds the job's result; of the source with that hash, if one is given.

    Raises:
        ValueError: if it holds a result of this id with other settings.
    """
    path = result_path(folder, claim, job)
    if not path.exists():
        return False
    stored = _read(path)
    if _completed(stored["settings"]) != _as_stored(job.settings):
        raise ValueError(f"{path} must hold the settings of job {job.id}; move it away or give the job another id")
    return not source or stored["provenance"]["source_hash"] == source


def stored_results(folder: Path, claim: Claim) -> list[dict[str, Any]]:
    """Every stored result of a claim's jobs as they are now: ``settings``, ``provenance`` and ``rows``.

    Rows tell the ``processor`` that they are from: times of two cannot be compared.
    A result of other settings is of another protocol and is passed over, as is a file not yet put in its place.
    """
    jobs = [job for profile in get_args(Profile) for job in claim.jobs(profile)]
    settings = {result_path(folder, claim, job): _as_stored(job.settings) for job in jobs}
    results = [(settings[path], _read(path)) for path in sorted(settings) if path.exists()]
    return [_with_processor(result) for wanted, result in results if _completed(result["settings"]) == wanted]


def _with_processor(result: dict[str, Any]) -> dict[str, Any]:
    processor = result["provenance"].get("processor")
    return {**result, "rows": [{**row, "processor": processor} for row in result["rows"]]}


def took(results: list[dict[str, Any]]) -> str:
    """How long stored results took to make, one process each: minutes, or hours from one on.

    Of a resumed run only the last process and the trainings that were kept are known: the sum is then a lower bound.
    """
    minutes = sum(_seconds(result) for result in results) / 60
    bound = "at least " if any(result["provenance"].get("resumed") for result in results) else ""
    return bound + (f"{minutes / 60:.1f} hours" if minutes >= 60 else f"{minutes:.1f} minutes")


def _seconds(result: dict[str, Any]) -> float:
    origin = result["provenance"]
    if not origin.get("resumed"):
        return origin["seconds"]
    trainings = {row["seed"]: row.get("train_seconds", 0) for row in result["rows"] if "seed" in row}
    return max(origin["seconds"], sum(trainings.values()))


def _key(*parts: Any) -> str:
    """A name that is another where any of ``parts``, JSON values, is another."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _as_stored(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back: lists for tuples."""
    return json.loads(json.dumps(settings))


def _completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Stored settings with the fields that configurations have gained since: their defaults are what went before."""
    training, plain = _defaults()
    if "training" in settings:
        settings = settings | {"training": {**training, **settings["training"]}}
    if not settings.get("architecture"):
        return settings
    stored = settings["architecture"]
    memory = {**plain["memory"], **stored.get("memory", {})}
    return settings | {"architecture": {**plain, **stored, "memory": memory}}


@cache
def _defaults() -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of training and of a model, as JSON gives them back."""
    return training_options(1), _as_stored(TitansConfig().to_dict())


def stored_rows(folder: Path, claim: Claim) -> list[Row]:
    """The tidy table of all stored results."""
    return [row for result in stored_results(folder, claim) for row in result["rows"]]
