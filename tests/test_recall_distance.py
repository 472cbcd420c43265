"""The recall claim: models of equal size, jobs that can be run, and a verdict that follows from its rule."""

from typing import Any

import numpy as np
import pytest

from titans_mlx.claims import recall_distance, recall_runs
from titans_mlx.claims.matching import parameters
from titans_mlx.claims.recall_distance import judge, summarise
from titans_mlx.claims.recall_jobs import (
    DISTANCES,
    FAR,
    GRID,
    SLIDING,
    TITANS,
    WINDOW,
    make_job,
    model_configs,
)
from titans_mlx.tasks.recall import SETTINGS, RecallTask

CLAIM = recall_distance.CLAIM


@pytest.mark.parametrize("setting", SETTINGS)
def test_models_have_equal_size(setting: str) -> None:
    counts = {name: parameters(c) for name, c in model_configs(SETTINGS[setting].vocab_size).items()}
    assert max(counts.values()) <= 1.05 * min(counts.values()), counts


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
    assert "many: MAC" in judge(few).lacking
    assert judge(few + many).status == "reproduced"
    assert "MAC 99%" in judge(few + many).figure
    assert judge(few + fake_rows(bad, "many")).status == "reproduced in part"
    assert judge(fake_rows(bad, "few") + fake_rows(bad, "many")).status == "not reproduced"
    beside = [row | {"model": "DeltaNet"} for row in fake_rows({"MAC": 1.0}, "few") if row["model"] == "MAC"]
    assert "beside them DeltaNet 100%" in judge(few + beside).figure
    assert judge(few + many + beside).status == "reproduced"
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
