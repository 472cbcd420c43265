"""The laboratory: jobs that say all about themselves, trainings that are tested, verdicts that follow from rules."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from titans_mlx.claims import (
    CLAIMS,
    capacity,
    contextual,
    depth,
    distractors,
    frozen,
    gating,
    language,
    needles,
    recall_distance,
    variants,
)
from titans_mlx.claims.base import Job
from titans_mlx.claims.interventions import changed, memories
from titans_mlx.claims.judging import scale_of, summarise, verdict
from titans_mlx.claims.lab import (
    CONTROL,
    TASKS,
    lab_job,
    make_task,
    run_lab,
    test_model,
    train_model,
    train_models,
)
from titans_mlx.claims.recall_jobs import model_configs
from titans_mlx.claims.search import Trained, train_all
from titans_mlx.config import TitansConfig
from titans_mlx.model import Titans
from titans_mlx.training import TrainingDiverged

# No test of this file's.
test_model.__test__ = False

RECALL = {"kind": "recall", "distance": 8, "num_pairs": 2, "num_queries": 2}
LAB = [claim for claim in CLAIMS.values() if claim.run_job in (run_lab, depth.run_depth, frozen.run_frozen)]


def small_job(**options: Any) -> Job:
    config = model_configs(make_task(RECALL).vocab_size)["LMM matrix"]
    tests = [{"x": 8, "task": RECALL}, {"x": 16, "task": {**RECALL, "distance": 16}, "change": {"theta": 0.0}}]
    few = {"steps": 2, "seeds": (0, 1), "grid": ((1e-3, 0.1), (2e-3, 0.1)), "sequences": 20}
    return lab_job("LMM matrix", config, [RECALL], tests, **{**few, **options})


def test_a_job_is_run() -> None:
    seen: list[float] = []
    rows = run_lab(small_job(), lambda what, done: seen.append(done))
    assert [(row["seed"], row["x"]) for row in rows] == [(0, 8), (0, 16), (1, 8), (1, 16)]
    assert all(len(row["correct"]) == row["sequences"] == 20 and row["queries"] == 2 for row in rows)
    assert all(row["accuracy"] == pytest.approx(sum(row["correct"]) / 40) for row in rows)
    assert {row["learning_rate"] for row in rows} <= {1e-3, 2e-3}
    assert len(rows[0]["grid_scores"]) == 2
    assert seen == sorted(seen) and 0.9 < seen[-1] <= 1
    again = run_lab(small_job())
    assert [row["correct"] for row in again] == [row["correct"] for row in rows], "the same settings, the same numbers"


@pytest.mark.parametrize("kind", TASKS)
def test_every_task_can_be_made_and_drawn(kind: str) -> None:
    task = make_task({"kind": kind})
    batch = task.sample(3, (1, 2))
    assert batch.tokens.shape == (3, task.length)
    assert batch.tokens.max() < task.vocab_size and 0 < task.chance <= 0.5


def test_intervals_are_over_seeds() -> None:
    common = {"chance": 0.1, "parameters": 10, "trained_length": 5, "length": 6, "sequences": 4, "queries": 2}
    common |= {"train_seconds": 1.0, "seconds_per_sequence": 1.0, "peak_bytes": 2e6}
    rows = [
        {"x": x, "accuracy": share, "correct": [2 * share] * 4, **common} for x, share in ((1, 0.4), (1, 0.6), (2, 1.0))
    ]
    first, second = summarise(rows, ["x"])
    assert (first["x"], first["seeds"], first["answers"]) == (1, 2, 16)
    assert first["accuracy"] == pytest.approx(0.5)
    assert first["low"] == 0 and first["high"] == 1, "two seeds that far apart say next to nothing"
    assert (second["accuracy"], second["high"]) == (1, 1) and second["low"] ** 4 == pytest.approx(0.025)


def test_verdicts_of_parts() -> None:
    assert verdict({"a": None}, "", "").status == "not run"
    with pytest.raises(ValueError, match="parts must have at least one entry"):
        verdict({}, "", "tiny")
    assert verdict({"a": None}, "", "tiny").status == "unfinished"
    assert verdict({"a": True, "b": None}, "f", "tiny").lacking == "not run yet: b"
    found = [verdict({"a": a, "b": b}, "", "tiny").status for a, b in ((1, 1), (1, 0), (0, 0))]
    assert found == ["reproduced", "reproduced in part", "not reproduced"]
    half = verdict({"a": True, "b": None, "c": False}, "f", "tiny")
    assert half.status == "unfinished" and half.lacking == "does not hold: c. not run yet: b"
    partly = verdict({"a": True, "b": False}, "f", "tiny")
    assert partly.headline == "**reproduced in part** (does not hold: b)" and partly.figure == "f"
    assert scale_of([], "x") == ""


def test_the_scale_tells_the_seeds_of_each_task() -> None:
    of = {"parameters": 60_000, "trained_length": 32}
    rows = [of | {"what": what, "seed": seed} for what, count in (("recall", 3), ("prose", 5)) for seed in range(count)]
    assert scale_of(rows, "x") == "0.06M parameters, trained at up to 32 tokens, x, 3 to 5 seeds"
    assert scale_of(rows[:3], "x").endswith("x, 3 seeds")


def test_gates_closed_in_training_are_not_trained_and_open_in_the_tests() -> None:
    config = frozen.architectures()["MAG"]
    prose = frozen.prose(48, "train")
    closed = {"steps": 3, "seeds": (0,), "grid": ((1e-2, 0.1),), "train_change": frozen.CHANGES[frozen.CLOSED]}
    ((trained,), _) = train_models(lab_job("MAG", config, [prose], [{"task": prose}], **closed).settings)
    (memory,) = memories(trained.model)
    assert memory.change_gates is None
    born = Titans(config).layers[0].memory
    for name in ("decay_gate", "momentum_gate", "step_gate"):
        # Weight decay leaves biases alone, so without a gradient they stay where they were.
        assert mx.array_equal(memory[name].bias, born[name].bias), name
        assert not mx.array_equal(memory[name].weight, born[name].weight), "weights decay"
    shut = changed(trained.model, frozen.CHANGES[frozen.CLOSED])
    cache = shut.make_cache()
    shut.hidden(mx.array(make_task(prose).sample(2, 0).tokens), cache)
    for weights, initial in zip(cache[0].memory.weights, memory.initial_weights, strict=True):
        assert mx.abs(weights - initial).max() < 1e-6, "the memory of a backbone stands still"
    with pytest.raises(ValueError, match=r"train_change must be of .*got \{'chunk_size': 4\}"):
        small_job(train_change={"chunk_size": 4})


def trained_at(entry: tuple[float, float], seed: int, validation: float) -> Trained:
    return Trained(Titans(TitansConfig(dim=8, num_layers=1, num_heads=1)), entry, seed, 1.0, validation)


def test_a_rate_that_diverges_is_passed_over() -> None:
    def train(entry: tuple[float, float], seed: int, _: Any) -> Trained:
        if entry[0] > 0.5:
            raise TrainingDiverged(3, math.nan, 1.0, None, None)
        return trained_at(entry, seed, 0.7)

    trained, scores = train_all([(1.0, 0.1), (0.1, 0.1)], [0, 1], train)
    assert [(each.entry, each.seed) for each in trained] == [((0.1, 0.1), 0), ((0.1, 0.1), 1)]
    assert [score["accuracy"] for score in scores] == [None, 0.7]
    _, scores = train_all([(0.1, 0.1), (1.0, 0.1)], [0], train)
    assert [score["accuracy"] for score in scores] == [0.7, None]
    with pytest.raises(TrainingDiverged):
        train_all([(1.0, 0.1), (2.0, 0.1)], [0], train)


def test_a_rate_at_which_another_seed_diverges_is_passed_over_for_all() -> None:
    def train(entry: tuple[float, float], seed: int, _: Any) -> Trained:
        if entry[0] > 0.5 and seed:
            raise TrainingDiverged(3, math.nan, 1.0, None, None)
        return trained_at(entry, seed, entry[0] / 2)

    trained, scores = train_all([(0.1, 0.1), (1.0, 0.1), (0.2, 0.1)], [0, 1, 2], train)
    assert [(each.entry[0], each.seed) for each in trained] == [(0.2, 0), (0.2, 1), (0.2, 2)]
    assert [score["accuracy"] for score in scores] == [0.05, 0.5, 0.1], "what the search saw stands"
    assert [score.get("another_seed_diverged") for score in scores] == [None, True, None]
    with pytest.raises(TrainingDiverged):
        train_all([(1.0, 0.1), (0.7, 0.1)], [0, 1], train)


def test_a_model_that_gives_nan_is_wrong_and_its_row_can_be_stored() -> None:
    job = small_job()
    model = Titans(TitansConfig.from_dict(job.settings["architecture"]))
    model.norm.weight = model.norm.weight * mx.nan
    rows = test_model(job.settings, Trained(model, (1e-3, 0.1), 0, 1.0, 0.0))
    assert all(row["nats"] is None and row["accuracy"] < 0.1 for row in rows)
    assert "nats" not in summarise(rows, ("model",))[0] and json.dumps(rows, allow_nan=False)


def test_the_control_without_a_memory_learns_nothing_that_it_read() -> None:
    """Its weights do not depend on the tokens, persistent ones and their momentum included."""
    (job,) = [job for job in capacity.CLAIM.jobs("full") if job.settings["model"] == CONTROL]
    model = changed(Titans(TitansConfig.from_dict(job.settings["architecture"])), job.settings["train_change"])
    assert model.config.num_persistent and all(test["change"] for test in job.settings["tests"])
    states = []
    for seed in range(2):
        cache = model.make_cache()
        model.hidden(mx.random.randint(0, 200, (1, 40), key=mx.random.key(seed)), cache)
        states.append(cache[0].weights[0])
    assert mx.abs(states[0]).max() > 0 and mx.array_equal(*states)


def test_a_memory_is_added_to_a_backbone_that_stays_as_it_was() -> None:
    (job,) = [job for job in frozen.CLAIM.jobs("full") if job.settings.get("added") == frozen.WRITES]
    settings = job.settings | {"training": job.settings["training"] | {"steps": 2, "warmup": 1}}
    backbone = train_models(settings | {"seeds": [0], "grid": [[4e-3, 0.1]]})[0][0]
    before = {name: mx.array(value) for name, value in tree_flatten(backbone.model.parameters())}
    added = train_model(settings | {"train_change": {}}, backbone.entry, 0, backbone=backbone.model)
    moved = {name for name, value in tree_flatten(added.model.parameters()) if not mx.array_equal(value, before[name])}
    assert moved == {name for name in before if ".memory." in name}


def test_where_a_memory_is_added_it_is_trained_after_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def trained(settings, entry, seed, progress=None, backbone=None):
        seen.append((seed, settings["train_change"], backbone))
        return Trained(f"model {len(seen)}", entry, seed, 1.0, 0.5)

    monkeypatch.setattr(frozen, "train_model", trained)
    monkeypatch.setattr(frozen, "test_model", lambda settings, each: [{"seconds": each.seconds}])
    shut = frozen.CHANGES[frozen.CLOSED]
    for use, second in ((frozen.WRITES, {}), (frozen.CLOSED, shut)):
        (job,) = [job for job in frozen.CLAIM.jobs("full") if job.settings.get("added") == use]
        seen.clear()
        rows = frozen.run_frozen(job)
        assert seen[:2] == [(0, shut, None), (0, second, "model 1")] and len(seen) == 8
        assert [row["seconds"] for row in rows] == [2.0] * 3


def test_claims_that_share_runs_share_jobs() -> None:
    assert [job.id for job in contextual.CLAIM.jobs("full")] == [job.id for job in gating.CLAIM.jobs("full")]
    assert contextual.CLAIM.evidence == gating.CLAIM.id
    short, far = distractors.CLAIM.jobs("full"), recall_distance.CLAIM.jobs("full")
    asked = [job for job in variants.CLAIM.jobs("full") if not job.held_by]
    assert asked == short
    text, found = language.CLAIM.jobs("full"), [job for job in variants.CLAIM.jobs("full") if job.held_by]
    others = [replace(job, held_by="") for job in found if job.held_by != variants.ID]
    assert len(others) == 18 and all(job in far or job in text for job in others)
    own = [job for job in found if job.held_by == variants.ID]
    near = {job.settings["model"]: job.settings for job in needles.CLAIM.jobs("full")}
    assert [job.settings | {"seeds": [0, 1, 2]} for job in own] == [near[job.settings["model"]] for job in own]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"seeds": ()}, r"seeds must have at least one entry, got \(\)"),
        ({"grid": ()}, "grid must have at least one entry"),
        ({"sequences": 0}, "sequences must be an integer >= 1, got 0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_job(**options)


def test_bad_tasks() -> None:
    config = model_configs(make_task(RECALL).vocab_size)["LMM matrix"]
    with pytest.raises(ValueError, match="copy must have fields that there are"):
        make_task({"kind": "copy", "length": 5})
    with pytest.raises(ValueError, match="learning_rate must be a finite number"):
        small_job(grid=((-1.0, 0.1),))
    with pytest.raises(ValueError, match=r"kind must be one of .*got 'riddle'"):
        lab_job("m", config, [{"kind": "riddle"}], [{"task": RECALL}])
    with pytest.raises(ValueError, match="vocab_size must hold the 8192 ids"):
        lab_job("m", config, [RECALL], [{"task": {"kind": "mqar"}}])
    with pytest.raises(ValueError, match=r"change must be of .*got 'speed'"):
        lab_job("m", config, [RECALL], [{"task": RECALL, "change": {"speed": 2}}])
    assert np.isclose(make_task(RECALL).chance, 0.02)


def test_claims_that_share_results_run_a_job_once(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "scripts" / "claims.py"
    command = [sys.executable, str(script), "run", "gating", "contextual", "--profile", "smoke", "--jobs", "2"]
    done = subprocess.run([*command, "--results", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = f"1 run, 0 stored before; results in {tmp_path / 'smoke'}"
    assert done.stdout.splitlines()[-2:] == ["1/1 gating: smoke-lmm_matrix", told]
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")] == [
        "smoke/gating/smoke-lmm_matrix.json"
    ]
