"""The laboratory: matching, intervals, streaming evaluation, storage and report."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from titans_mlx import Titans
from titans_mlx.claims import CLAIMS, recall_distance, streaming
from titans_mlx.claims.base import Job
from titans_mlx.claims.fitting import fit, kept_in
from titans_mlx.claims.matching import match_parameters, parameters
from titans_mlx.claims.recall_jobs import model_configs
from titans_mlx.claims.report import CLAIMS_TABLE, RECIPES_TABLE, missing_lines, write_table
from titans_mlx.claims.statistics import accuracy_interval, gain, surely
from titans_mlx.claims.store import UNFINISHED, result_path, run_and_store, store_demo, stored_rows, took
from titans_mlx.claims.streaming import recall_by_distance
from titans_mlx.claims.training import asked_logits, recall_batches, recall_loss
from titans_mlx.config import TitansConfig, Variant
from titans_mlx.tasks.recall import RecallTask
from titans_mlx.training import TrainConfig
from titans_mlx.training.provenance import source_hash

CLAIM = recall_distance.CLAIM
BEGIN, END = CLAIMS_TABLE


def test_a_size_out_of_reach_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"target must be within 5 %.*got 1000"):
        match_parameters(TitansConfig(dim=64), 1000)


@pytest.mark.parametrize("variant", get_args(Variant))
def test_the_width_that_a_size_has_is_found_again(variant: Variant) -> None:
    config = TitansConfig(variant=variant, dim=32, num_layers=3, mlp_hidden=77)
    assert match_parameters(config.replace(mlp_hidden=5), parameters(config)) == config


def test_interval_of_three_seeds_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        seeds = np.clip(rng.normal(0.6, 0.1, size=3), 0, 1)
        correct = [rng.random((8, 4)) < p for p in seeds]
        low, high = accuracy_interval(correct, seed=trial)
        covered += low <= 0.6 <= high
    assert 184 <= covered <= 198, "neither too narrow nor everything"


def test_interval_of_one_seed_is_of_its_sequences() -> None:
    correct = np.random.default_rng(2).random((400, 2)) < 0.5
    low, high = accuracy_interval([correct])
    assert low < correct.mean() < high and high - low == pytest.approx(4 * (0.25 / 800) ** 0.5, rel=0.15)
    low, high = accuracy_interval([np.ones((8, 8))] * 3)
    assert high == 1 and low**24 == pytest.approx(0.025), "24 of 24, as if each were drawn for itself"
    assert accuracy_interval([np.zeros((8, 8))] * 3) == pytest.approx((0.0, 1 - low))


def test_a_gain_is_sure_beyond_the_noise_of_its_seeds() -> None:
    def rows(*values: float) -> list[dict[str, Any]]:
        return [{"seed": seed, "accuracy": value} for seed, value in enumerate(values)]

    found = gain(rows(0.9, 0.5, 0.7), rows(0.8, 0.4, 0.6))
    assert found["value"] == pytest.approx(0.1) and found["low"] == pytest.approx(0.1), "seeds are paired"
    assert surely(found, 0.09) and not surely(found, 0.11)
    assert not surely(gain(rows(0.9, 0.5, 0.7), rows(0.4, 0.5, 0.9)), 0.09), "0.1 on average, once less"
    assert not surely(gain(rows(0.9), rows(0.1)), 0.1), "one seed tells nothing of others"


@pytest.mark.parametrize("count", [0, 11])
def test_interval_of_too_few_or_many_models_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"correct must hold 1 to 10 models, got {count}"):
        accuracy_interval([np.ones((2, 2))] * count)


def test_interval_counts_sequences_not_answers() -> None:
    """Eight answers that stand and fall together are one observation, not eight."""
    whole = np.repeat(np.random.default_rng(1).random((16, 1)) < 0.5, 8, axis=1)
    independent = np.random.default_rng(1).random((16, 8)) < 0.5
    together, apart = (np.diff(accuracy_interval([c]))[0] for c in (whole, independent))
    assert together > 2 * apart


def tiny(name: str, task: RecallTask) -> Titans:
    mx.random.seed(0)
    return Titans(model_configs(task.vocab_size)[name].replace(dim=16, num_layers=2, mlp_hidden=16))


@pytest.mark.parametrize("name", ["LMM matrix", "MAC", "Transformer, no positions"])
def test_streaming_gives_what_whole_sequences_give(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = RecallTask(num_pairs=2, num_queries=2)
    model, logits = tiny(name, task), []

    def kept(*arguments: Any) -> mx.array:
        logits.append(asked_logits(*arguments))
        return logits[-1]

    monkeypatch.setattr(streaming, "asked_logits", kept)
    results = recall_by_distance(model, task, [5, 40, 90], sequences=3, seed=7, piece=16)
    assert [r.distance for r in results] == [5, 40, 90]
    assert all(r.correct.shape == (3, 2) and r.peak_bytes > 0 for r in results)
    assert (results[0].filler_step is None) == name.startswith("Transformer")
    whole = in_one_call(model, task, [5, 40, 90], 3, 7, 16)
    for streamed, (expected, answers), result in zip(logits, whole, results, strict=True):
        assert mx.abs(streamed - expected).max().item() < 1e-5
        assert np.array_equal(np.array(mx.argmax(expected, axis=-1)) == answers, result.correct)
    assert mx.abs(logits[0] - logits[2]).max().item() > 1e-4, "what was read in between must show"


def in_one_call(
    model: Titans, task: RecallTask, distances: list[int], sequences: int, seed: int, piece: int
) -> list[tuple[mx.array, np.ndarray]]:
    """Logits where it is asked, and the answers, at each distance."""
    rng = np.random.default_rng(seed)
    context = task.context(sequences, rng)
    queries = task.queries(context.keys, context.values, rng)
    filler, at, found = [context.tokens], 0, []
    for distance in distances:
        while at < distance:
            count = min(piece, distance - at)
            filler.append(task.filler(sequences, count, rng))
            at += count
        logits = model(mx.array(np.concatenate([*filler, queries.tokens], axis=1)))[:, -task.query_length :]
        found.append((mx.take_along_axis(logits, mx.array(queries.positions)[:, :, None], axis=1), queries.answers))
    return found


def test_distances_must_increase() -> None:
    task = RecallTask(num_pairs=2, num_queries=2)
    with pytest.raises(ValueError, match=r"distances must be .*increase, got \[8, 4\]"):
        recall_by_distance(tiny("LMM matrix", task), task, [8, 4], 1, 0)


def test_training_batches_are_a_function_of_the_step() -> None:
    task = RecallTask()
    batches = recall_batches(task, (64, 128), seed=3, pairs=(8, 16), tokens=256)
    for step in range(1, 6):
        for first, second in zip(batches(step), batches(step), strict=True):
            assert np.array_equal(first, second)
    shapes = {(batches(step)[0].shape, batches(step)[1].shape[1]) for step in range(1, 40)}
    assert shapes == {((4, 64), 8), ((4, 64), 16), ((2, 128), 8), ((2, 128), 16)}


def test_length_without_room_is_an_error_before_training() -> None:
    with pytest.raises(ValueError, match="length must be an integer >= 31"):
        recall_batches(RecallTask(), (64, 30), seed=0)


def test_write_cost_adds_the_mean_step_of_every_memory() -> None:
    task = RecallTask(num_pairs=2, num_queries=2)
    model = tiny("MAC", task)
    tokens, positions, answers = (mx.array(part) for part in recall_batches(task, (80,), 0, tokens=160)(1))
    plain, _ = recall_loss(0.0)(model, tokens, positions, answers)
    costly, _ = recall_loss(0.1)(model, tokens, positions, answers)
    means: dict[int, list[mx.array]] = {}
    model.hidden(tokens, observe=lambda *shown: means.setdefault(id(shown[0]), []).append(shown[2].gates.step))
    expected = sum(mx.concatenate(steps, axis=-1).mean().item() for steps in means.values())
    assert len(means) == 2
    assert (costly - plain).item() == pytest.approx(0.1 * expected, rel=1e-4)


def test_smoke_runs_are_stored_once_and_reported(tmp_path: Path) -> None:
    job = CLAIM.jobs("smoke")[0]
    told: list[float] = []
    rows = run_and_store(tmp_path, CLAIM, job, lambda what, share: told.append(share))
    assert told and all(0 <= share <= 1 for share in told)
    path = result_path(tmp_path, CLAIM, job)
    stored = json.loads(path.read_text())
    assert stored["provenance"]["source_hash"] and stored["provenance"]["seconds"] > 0
    before = path.stat().st_mtime_ns
    assert run_and_store(tmp_path, CLAIM, job) == rows
    processor = stored["provenance"]["processor"]
    assert stored_rows(tmp_path, CLAIM) == [{**row, "processor": processor} for row in rows]
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="must hold the settings of job"):
        run_and_store(tmp_path, CLAIM, Job(job.id, {**job.settings, "write_cost": 5}))
    run_and_store(tmp_path, CLAIM, job, older=True)
    assert path.stat().st_mtime_ns == before, "it is of this source"
    stored["provenance"]["source_hash"] = "another"
    path.write_text(json.dumps(stored))
    run_and_store(tmp_path, CLAIM, job)
    assert json.loads(path.read_text()) == stored
    run_and_store(tmp_path, CLAIM, job, older=True)
    assert json.loads(path.read_text())["provenance"]["source_hash"] == source_hash()
    readme = tmp_path / "README.md"
    readme.write_text("\n".join(["before", BEGIN, "what was there", END, *RECIPES_TABLE, "after\n"]))
    assert any(CLAIM.statement in line for line in missing_lines(readme, tmp_path))
    write_table(readme, tmp_path)
    assert missing_lines(readme, tmp_path) == []
    text = readme.read_text()
    assert CLAIM.statement in text and "what was there" not in text
    assert text.startswith("before\n") and text.endswith("after\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list", "gating"], "gating: "),
        (["list", "nothing"], "claim must be one of recall_distance, "),
        (["run", "nothing"], "got 'nothing'"),
        (["run", "gating", "--jobs", "0"], "must be an integer >= 1, got '0'"),
        (["run", "gating", "--match", "nothing"], "--match must be part of a job's id"),
    ],
)
def test_the_command_says_what_it_is_asked(arguments: list[str], told: str) -> None:
    script = Path(__file__).parents[1] / "scripts" / "claims.py"
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    assert told in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert (done.returncode == 0) == (arguments == ["list", "gating"])


class Killed(BaseException):
    """As a process that is ended from outside."""


def test_a_killed_job_goes_on_within_its_training(tmp_path: Path) -> None:
    """It gives what a job never killed gives, and leaves nothing behind but its result."""
    job = CLAIM.jobs("smoke")[0]
    job = Job(job.id, {**job.settings, "training": {**job.settings["training"], "steps": 16}, "seeds": [0, 1]})
    expected = CLAIM.run_job(job, None)

    def kill(what: str, share: float) -> None:
        if "training" in what and share > 0.6 * total:
            raise Killed

    shares: list[float] = []
    CLAIM.run_job(job, lambda what, share: shares.append(share) if "training" in what else None)
    total = max(shares)
    with pytest.raises(Killed):
        run_and_store(tmp_path, CLAIM, job, kill)
    runs = sorted((tmp_path / UNFINISHED / CLAIM.id / job.id).glob("*/*"))
    assert len(runs) == 2 and not result_path(tmp_path, CLAIM, job).exists()
    made: list[float] = []
    rows = run_and_store(tmp_path, CLAIM, job, lambda what, share: made.append(share) if "training" in what else None)
    assert 0 < len(made) < len(shares) / 2
    assert json.loads(result_path(tmp_path, CLAIM, job).read_text())["provenance"]["resumed"]
    timed = ("train_seconds", "seconds_per_sequence", "peak_bytes")
    for row, wanted in zip(rows, expected, strict=True):
        assert {k: v for k, v in row.items() if k not in timed} == {k: v for k, v in wanted.items() if k not in timed}
    assert not (tmp_path / UNFINISHED / CLAIM.id / job.id).exists()


def test_two_trainings_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    """The second of a job does not take the first's parameters for its own."""
    schedule = TrainConfig(steps=2, warmup=0, learning_rate=0.1)

    def fitted() -> list[float]:
        models = [nn.Linear(1, 1, bias=False) for _ in range(2)]
        for start, model in enumerate(models):
            model.weight = mx.full((1, 1), float(start))
            fit(model, lambda model, x: model(x).square().sum(), lambda step: (mx.ones((1, 1)),), schedule, "it", None)
        return [model.weight.item() for model in models]

    alone = fitted()
    assert alone[0] != alone[1]
    for _ in range(2):
        with kept_in(tmp_path):
            assert fitted() == alone


@pytest.mark.parametrize(
    "text", ["none", BEGIN, f"{END} {BEGIN}", f"{BEGIN} {END} {END}", f"{BEGIN} {BEGIN} {END}", f"{BEGIN} {END}"]
)
def test_a_readme_without_its_marks_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ValueError, match="must hold the marks"):
        write_table(readme, tmp_path)
    assert readme.read_text() == text


def test_every_claim_says_what_it_must() -> None:
    for name, claim in CLAIMS.items():
        assert claim.id == name
        assert all((claim.statement, claim.source, claim.protocol, claim.refuted_by, claim.rule))
        ids = [job.id for profile in ("smoke", "quick", "full") for job in claim.jobs(profile)]
        assert len(ids) == len(set(ids))
    with pytest.raises(ValueError, match="profile must be one of"):
        CLAIM.run("long")


def test_a_result_of_other_settings_is_no_evidence(tmp_path: Path) -> None:
    job = CLAIM.jobs("smoke")[0]
    path = result_path(tmp_path, CLAIM, job)
    path.parent.mkdir(parents=True)
    result = {"settings": json.loads(json.dumps(job.settings)), "provenance": {}, "rows": [{"accuracy": 1.0}]}
    path.write_text(json.dumps(result))
    (path.parent / f".tmp-{path.name}").write_text('{"settings": ')
    assert stored_rows(tmp_path, CLAIM) == [{"accuracy": 1.0, "processor": None}]
    result["settings"]["training"]["steps"] += 1
    path.write_text(json.dumps(result))
    assert stored_rows(tmp_path, CLAIM) == []
    with pytest.raises(ValueError, match=f"must hold the settings of job {job.id}"):
        run_and_store(tmp_path, CLAIM, job)


@pytest.mark.parametrize(("field", "kept"), [("recompute", True), ("conv_birth", False)])
def test_a_field_gained_since_counts_as_its_default(tmp_path: Path, field: str, kept: bool) -> None:
    job = CLAIM.jobs("smoke")[0]
    path = result_path(tmp_path, CLAIM, job)
    path.parent.mkdir(parents=True)
    settings = json.loads(json.dumps(job.settings))
    del settings["architecture"]["memory"][field]
    path.write_text(json.dumps({"settings": settings, "provenance": {}, "rows": [{"accuracy": 1.0}]}))
    assert bool(stored_rows(tmp_path, CLAIM)) == kept


def test_a_result_of_a_value_no_longer_allowed_is_passed_over(tmp_path: Path) -> None:
    job = CLAIM.jobs("smoke")[0]
    path = result_path(tmp_path, CLAIM, job)
    path.parent.mkdir(parents=True)
    settings = json.loads(json.dumps(job.settings))
    settings["architecture"]["memory"]["activation"] = "tanh"
    path.write_text(json.dumps({"settings": settings, "provenance": {}, "rows": [{"accuracy": 1.0}]}))
    assert stored_rows(tmp_path, CLAIM) == []


def test_a_demonstration_model_is_never_beside_the_figures_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Titans(TitansConfig(vocab_size=8, dim=8, num_heads=2, num_layers=1))
    store_demo(tmp_path, model, {"scores": 1}, {"commit": "a"})
    told = json.loads((tmp_path / "config.json").read_text())
    assert told["scores"] == 1 and TitansConfig.from_dict(told["model"]) == model.config

    def killed(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "save_weights", killed)
    with pytest.raises(KeyboardInterrupt):
        store_demo(tmp_path, model, {"scores": 2}, {"commit": "b"})
    assert not (tmp_path / "config.json").exists()


def test_time_of_resumed_runs_is_a_lower_bound() -> None:
    """The process that ended a run knows nothing of those before it, the trainings it kept do."""
    rows = [{"seed": seed, "train_seconds": 60.0} for seed in (0, 0, 1)]
    resumed = {"provenance": {"seconds": 30.0, "resumed": True}, "rows": rows}
    whole = {"provenance": {"seconds": 30.0}, "rows": rows}
    assert took([whole]) == "0.5 minutes"
    assert took([resumed, whole]) == "at least 2.5 minutes"
