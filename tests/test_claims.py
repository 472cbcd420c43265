"""The laboratory: matching, intervals, streaming evaluation, storage, and a verdict that follows from its rule."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx import Titans
from titans_mlx.claims import CLAIMS, recall_distance, recall_runs, streaming
from titans_mlx.claims.base import Job
from titans_mlx.claims.matching import match_parameters, parameters
from titans_mlx.claims.recall_distance import (
    DISTANCES,
    FAR,
    GRID,
    SLIDING,
    TITANS,
    WINDOW,
    judge,
    make_job,
    model_configs,
    summarise,
)
from titans_mlx.claims.report import BEGIN, END, write_table
from titans_mlx.claims.statistics import accuracy_interval
from titans_mlx.claims.store import result_path, run_and_store, stored_rows
from titans_mlx.claims.streaming import recall_by_distance
from titans_mlx.claims.training import asked_logits, recall_batches, recall_loss
from titans_mlx.config import TitansConfig
from titans_mlx.tasks.recall import SETTINGS, RecallTask

CLAIM = recall_distance.CLAIM


@pytest.mark.parametrize("setting", SETTINGS)
def test_models_have_equal_size(setting: str) -> None:
    counts = {name: parameters(c) for name, c in model_configs(SETTINGS[setting].vocab_size).items()}
    assert max(counts.values()) <= 1.05 * min(counts.values()), counts


def test_a_size_out_of_reach_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"target must be within 5 %.*got 1000"):
        match_parameters(TitansConfig(dim=64), 1000)


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
    assert accuracy_interval([np.ones((8, 8))] * 3) == (1.0, 1.0)


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


def fake_rows(accuracy: dict[str, float], setting: str, seeds: int = 3, window: float = 0.02) -> list[dict]:
    """A table as the runs give it, its accuracies set by hand, to try the rule on."""
    rows = []
    for model in (*TITANS, SLIDING):
        for seed in range(seeds):
            for distance in DISTANCES:
                share = window if model == SLIDING else accuracy.get(model, 0.5)
                correct = np.random.default_rng(seed).binomial(8, share, size=64).tolist()
                rows.append(
                    {
                        "setting": setting,
                        "model": model,
                        "option": "paper",
                        "seed": seed,
                        "distance": distance,
                        "accuracy": sum(correct) / 512,
                        "correct": correct,
                        "sequences": 64,
                        "queries": 8,
                        "chance": 0.02,
                        "trained_length": 1024,
                        "parameters": 100_000,
                        "seconds_per_sequence": 1.0,
                        "peak_bytes": 10**6,
                        "filler_step": None,
                    }
                )
    return rows


def test_verdicts_follow_the_rule() -> None:
    good, bad = {"MAC": 0.99}, {"MAC": 0.9}
    few, many = (fake_rows(good, setting) for setting in ("few", "many"))
    assert judge([]).status == "not run"
    assert judge(few).status == "unfinished"
    assert "many: MAC" in judge(few).figure
    assert judge(few + many).status == "reproduced"
    assert "MAC 99%" in judge(few + many).figure
    assert judge(few + fake_rows(bad, "many")).status == "reproduced in part"
    assert judge(fake_rows(bad, "few") + fake_rows(bad, "many")).status == "not reproduced"
    seeing = [fake_rows(good, setting, window=0.5) for setting in ("few", "many")]
    assert judge(seeing[0] + seeing[1]).status == "not reproduced", "a window above chance refutes the claim"


@pytest.mark.parametrize(("right", "status"), [(8, "not reproduced"), (1, "not reproduced"), (0, "reproduced")])
def test_one_seed_of_the_window_may_move_its_mean_above_twice_chance(right: int, status: str) -> None:
    """Others at 2 %: this one at 100, 12.5 and 0 %."""
    rows = [row for setting in SETTINGS for row in fake_rows({"MAC": 0.99}, setting)]
    for row in rows:
        if row["model"] == SLIDING and row["seed"] == 1 and row["distance"] == 1024:
            row["correct"], row["accuracy"] = [right] * 64, right / 8
    assert judge(rows).status == status
    assert (right == 0) or "at 1,024, its best" in judge(rows).figure


@pytest.mark.parametrize(
    "missing",
    [{"seed": 2}, {"model": SLIDING, "distance": 1024}, {"model": "MAL", "distance": FAR, "seed": 0}],
    ids=str,
)
def test_nothing_is_judged_before_every_seed_and_distance_is_there(missing: dict) -> None:
    rows = [row for setting in SETTINGS for row in fake_rows({"MAC": 0.99}, setting)]
    rows = [row for row in rows if any(row[name] != value for name, value in missing.items())]
    assert judge(rows).status == "unfinished"


def test_write_cost_never_counts() -> None:
    rows = [{**row, "option": "write cost"} for setting in SETTINGS for row in fake_rows({"MAC": 1.0}, setting)]
    rows += [row for setting in SETTINGS for row in fake_rows({"MAC": 0.4}, setting)]
    assert judge(rows).status == "not reproduced"


def test_summary_pools_seeds() -> None:
    table = summarise(fake_rows({"MAC": 0.7}, "few"))
    (row,) = [r for r in table if r["model"] == "MAC" and r["distance"] == FAR]
    assert row["seeds"] == 3 and row["answers"] == 3 * 512
    assert row["low"] < row["accuracy"] < row["high"]


def test_smoke_runs_are_stored_once_and_reported(tmp_path: Path) -> None:
    job = CLAIM.jobs("smoke")[0]
    told: list[float] = []
    rows = run_and_store(tmp_path, CLAIM, job, lambda what, share: told.append(share))
    assert told and all(0 <= share <= 1 for share in told)
    path = result_path(tmp_path, CLAIM, job)
    stored = json.loads(path.read_text())
    assert stored["provenance"]["source_hash"] and stored["provenance"]["seconds"] > 0
    before = path.stat().st_mtime_ns
    assert run_and_store(tmp_path, CLAIM, job) == rows == stored_rows(tmp_path, CLAIM)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="must hold the settings of job"):
        run_and_store(tmp_path, CLAIM, Job(job.id, {**job.settings, "write_cost": 5}))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_table(readme, tmp_path)
    text = readme.read_text()
    assert CLAIM.statement in text and "old" not in text
    assert text.startswith("before\n") and text.endswith("after\n")


@pytest.mark.parametrize("text", ["none", BEGIN, f"{END} {BEGIN}", f"{BEGIN} {END} {END}", f"{BEGIN} {BEGIN} {END}"])
def test_a_readme_without_its_marks_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ValueError, match="must hold the marks"):
        write_table(readme, tmp_path)
    assert readme.read_text() == text


@pytest.mark.parametrize(
    ("scores", "asked", "kept"),
    [
        ([0.4, 1.0, 1.0], 2, 1),
        ([1.0, 0.2, 0.2], 1, 0),
        ([0.4, 0.4, 0.3], 3, 0),
        ([0.4, 0.5, 0.9], 3, 2),
    ],
)
def test_the_best_of_the_grid_is_kept_and_the_earlier_of_equals(
    monkeypatch: pytest.MonkeyPatch, scores: list[float], asked: int, kept: int
) -> None:
    grid = ((0.2, 1.0), (0.2, 0.1), (0.4, 0.1))
    tried = []

    def validated(settings: dict, task: RecallTask, entry: Any, seed: int, progress: Any) -> recall_runs.Trained:
        tried.append((tuple(entry), seed))
        return recall_runs.Trained(None, tuple(entry), seed, 0.0, scores[grid.index(tuple(entry))])

    monkeypatch.setattr(recall_runs, "_train_and_validate", validated)
    monkeypatch.setattr(recall_runs, "_test", lambda settings, task, trained, progress: [{"entry": trained.entry}])
    rows = recall_runs.run_job(make_job("MAC", grid=grid, seeds=(5, 6, 7)))
    assert tried == [(entry, 5) for entry in grid[:asked]] + [(grid[kept], 6), (grid[kept], 7)]
    assert [row["entry"] for row in rows] == [grid[kept]] * 3
    assert [score["accuracy"] for score in rows[0]["grid_scores"]] == scores[:asked]


def test_an_option_may_have_its_own_decay() -> None:
    grid = make_job("LMM matrix", option="plain decay", grid=GRID).settings["grid"]
    assert grid == [[2e-3, 0.1], [4e-3, 0.1]]


@pytest.mark.slow
def test_the_quick_profile_shows_the_claim() -> None:
    table = {(row["model"], row["distance"]): row for row in summarise(CLAIM.run("quick"))}
    (memory,) = {model for model, _ in table} - {SLIDING}
    assert all(table[memory, d]["accuracy"] >= 0.9 for d in (16, 256, 1024))
    chance = table[SLIDING, 16]["chance"]
    assert all(row["accuracy"] <= 3 * chance for (m, d), row in table.items() if m == SLIDING and d > 4 * WINDOW)


def test_every_claim_says_what_it_must() -> None:
    for name, claim in CLAIMS.items():
        assert claim.id == name
        assert all((claim.statement, claim.source, claim.protocol, claim.refuted_by, claim.rule))
        ids = [job.id for profile in ("smoke", "quick", "full") for job in claim.jobs(profile)]
        assert len(ids) == len(set(ids))
    with pytest.raises(ValueError, match="profile must be one of"):
        CLAIM.run("long")


@pytest.mark.parametrize("name", ["model", "setting", "option"])
def test_unknown_names_are_errors(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be one of .* got 'nothing'"):
        make_job(**{"model": "MAC", name: "nothing"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, r"seeds must have at least one entry, got \(\)"),
        ({"grid": ()}, "grid must have at least one entry"),
        ({"lengths": ()}, "lengths must have at least one entry"),
        ({"distances": (64, 16)}, r"distances must be .*increase, got \(64, 16\)"),
        ({"distances": ()}, "distances must be one or more"),
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"far_sequences": 0}, "far_sequences must be an integer >= 1, got 0"),
        ({"lengths": (30,)}, "length must be an integer >= 31, got 30"),
        ({"num_pairs": 0}, "num_pairs must be"),
        ({"num_pairs": 60}, "num_keys must be|num_pairs must be"),
        ({"train_pairs": (60,)}, "num_keys must be|num_pairs must be"),
        ({"seeds": (-1,)}, "seed must be an integer >= 0, got -1"),
        ({"grid": ((0.0, 0.1),)}, "learning_rate must be"),
        ({"distances": (1.5,)}, "distances must be"),
        ({"model": "Mamba"}, "model must be one of .*got 'Mamba'"),
    ],
    ids=str,
)
def test_a_job_that_could_not_be_run_is_not_made(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_job(**{"model": "LMM matrix", **changes})


def test_a_result_of_other_settings_is_no_evidence(tmp_path: Path) -> None:
    job = CLAIM.jobs("smoke")[0]
    path = result_path(tmp_path, CLAIM, job)
    path.parent.mkdir(parents=True)
    result = {"settings": json.loads(json.dumps(job.settings)), "provenance": {}, "rows": [{"accuracy": 1.0}]}
    path.write_text(json.dumps(result))
    (path.parent / f".tmp-{path.name}").write_text('{"settings": ')
    assert stored_rows(tmp_path, CLAIM) == result["rows"]
    result["settings"]["training"]["steps"] += 1
    path.write_text(json.dumps(result))
    assert stored_rows(tmp_path, CLAIM) == []
    with pytest.raises(ValueError, match=f"must hold the settings of job {job.id}"):
        run_and_store(tmp_path, CLAIM, job)
