"""Run folders, checkpoints, and runs that are killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from small_runs import assert_same, config, inputs, linear, squares, untimed, values

from titans_mlx.training import (
    RunFolder,
    TrainConfig,
    load_checkpoint,
    load_parameters,
    make_optimizer,
    provenance,
    save_checkpoint,
    source_hash,
    train,
)

ROOT = Path(__file__).parents[1]


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path):
    whole = RunFolder(tmp_path / "whole")
    expected = linear()
    reference = train(expected, squares, inputs, config(steps=9, checkpoint_every=2), whole)
    broken, calls = RunFolder(tmp_path / "broken"), []

    def stop(step, record):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(linear(), squares, inputs, config(steps=9, checkpoint_every=2), broken, progress=stop)
    assert [record["step"] for record in broken.records()] == [1, 2, 3, 4, 5]

    def watched(step):
        calls.append(step)
        return inputs(step)

    model = nn.Linear(3, 2)
    resumed = train(model, squares, watched, config(steps=9, checkpoint_every=2), broken)
    assert resumed.resumed_from == 4
    assert calls == [5, 6, 7, 8, 9]
    assert_same(values(model), values(expected))
    assert untimed(resumed.records) == untimed(reference.records) == untimed(broken.records())
    assert len(broken.provenance["earlier"]) == 1

    again = train(nn.Linear(3, 2), squares, watched, config(steps=9, checkpoint_every=2), broken)
    assert again.resumed_from == 9
    assert len(calls) == 5
    assert untimed(again.records) == untimed(reference.records)


def test_a_run_stopped_before_its_first_checkpoint_keeps_its_first_weights(tmp_path):
    run, expected = RunFolder(tmp_path / "run"), linear()
    train(expected, squares, inputs, config())

    def stop(step, record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(linear(), squares, inputs, config(), run, progress=stop)
    other = nn.Linear(3, 2)
    result = train(other, squares, inputs, config(), run)
    assert_same(values(other), values(expected))
    assert result.resumed_from == 0
    assert len(result.records) == 6


def test_torn_last_line_is_dropped(tmp_path):
    run = RunFolder(tmp_path)
    train(linear(), squares, inputs, config(), run)
    whole = run.metrics_path.read_text()
    with run.metrics_path.open("a") as file:
        file.write('{"step": 7, "kind": "tra')
    assert len(run.records()) == 6
    result = train(linear(), squares, inputs, config(), run)
    assert run.metrics_path.read_text() == whole
    assert len(result.records) == 6
    run.metrics_path.write_text("broken\n" + whole)
    with pytest.raises(ValueError, match="line 1 is no JSON: 'broken'"):
        run.records()


def test_another_configuration_is_refused(tmp_path):
    train(linear(), squares, inputs, config(), RunFolder(tmp_path, {"model": {"dim": 3}}))
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(ValueError, match=r"train.learning_rate = 0.05, got 0.1"):
        train(linear(), squares, inputs, config(learning_rate=0.1), RunFolder(tmp_path, {"model": {"dim": 3}}))
    with pytest.raises(ValueError, match=r"model.dim = 3, got 4"):
        train(linear(), squares, inputs, config(), RunFolder(tmp_path, {"model": {"dim": 4}}))
    with pytest.raises(ValueError, match=r"model.dim = 3, got 'absent'"):
        train(linear(), squares, inputs, config(), RunFolder(tmp_path))
    assert (tmp_path / "config.json").read_text() == before
    with pytest.raises(ValueError, match="settings must not have the key 'train'"):
        RunFolder(tmp_path, {"train": {}})


def test_a_folder_holds_what_it_says(tmp_path):
    run, options = RunFolder(tmp_path / "a" / "b", {"note": "x"}), config(steps=9, checkpoint_every=2)
    train(linear(), squares, inputs, options, run)
    assert TrainConfig.from_dict(run.config["train"]) == options
    assert run.config["note"] == "x"
    assert [path.stem for path in run.checkpoints()] == ["step-00000008", "step-00000009"]
    assert sorted(path.name for path in run.path.rglob("*") if path.is_file()) == [
        "config.json", "metrics.jsonl", "provenance.json", *[path.name for path in run.checkpoints()]
    ]  # fmt: skip
    stored, now = run.provenance, provenance()
    assert stored["source_hash"] == now["source_hash"] == source_hash()
    assert stored["versions"]["numpy"] == np.__version__
    assert stored["versions"]["mlx"]
    assert stored["cores"] == os.cpu_count()
    assert stored["seconds"] > 0
    assert stored["started"].endswith("+00:00")


def test_source_hash_depends_on_names_and_contents(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    hashes = [source_hash(tmp_path)]
    (tmp_path / "notes.txt").write_text("ignored")
    assert source_hash(tmp_path) == hashes[0]
    (tmp_path / "a.py").write_text("x = 2")
    hashes.append(source_hash(tmp_path))
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    hashes.append(source_hash(tmp_path))
    assert len(set(hashes)) == 3


def saved(tmp_path, model=None):
    model = model or linear()
    optimizer = make_optimizer(config(), model)
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, model, optimizer, 7)
    return path, model, optimizer


def test_checkpoint_restores_parameters_optimiser_and_random_state(tmp_path):
    mx.random.seed(2**63 + 5)
    mx.random.uniform(shape=(3,)).tolist()
    path, model, _ = saved(tmp_path)
    draw = mx.random.uniform(shape=(4,)).tolist()
    other = nn.Linear(3, 2)
    optimizer = make_optimizer(config(), other)
    assert load_checkpoint(path, other, optimizer) == 7
    assert mx.random.uniform(shape=(4,)).tolist() == draw
    assert_same(values(other), values(model))
    with pytest.raises(FileNotFoundError):
        load_parameters(tmp_path / "none.safetensors", other)
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        save_checkpoint(tmp_path / "x.npz", other, optimizer, 1)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: nn.Linear(3, 4), r"parameter 'weight' is .*\(2, 3\).*but .*\(4, 3\) in the model"),
        (lambda: nn.Linear(3, 2, bias=False), "has parameter 'bias', the model has not"),
        (lambda: nn.Sequential(nn.Linear(3, 2)), "has parameter 'bias', the model has not|'weight'"),
        (lambda: cast(nn.Linear(3, 2)), "parameter 'weight' is .*float32.*but .*bfloat16"),
    ],
)
def test_checkpoint_of_another_model_is_refused(tmp_path, other, message):
    path, _, _ = saved(tmp_path)
    model = other()
    before = {name: array.tolist() for name, array in tree_flatten(model.parameters())}
    key = mx.random.state[0].tolist()
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path, model, make_optimizer(config(), model))
    assert {name: array.tolist() for name, array in tree_flatten(model.parameters())} == before
    assert mx.random.state[0].tolist() == key


def cast(model):
    model.set_dtype(mx.bfloat16)
    return model


def test_checkpoint_that_lacks_a_parameter_is_refused(tmp_path):
    path, _, _ = saved(tmp_path, nn.Linear(3, 2, bias=False))
    with pytest.raises(ValueError, match="has no parameter 'bias', the model has"):
        load_parameters(path, linear())


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_checkpoint_is_refused(tmp_path, keep):
    path, model, optimizer = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"x\.safetensors is damaged"):
        load_checkpoint(path, model, optimizer)


def test_checkpoint_of_a_strange_random_state_changes_nothing(tmp_path):
    path, _, optimizer = saved(tmp_path)
    arrays, metadata = mx.load(str(path), return_metadata=True)
    (name,) = (name for name in arrays if "random" in name)
    arrays[name] = mx.zeros((3,), mx.uint32)
    mx.save_safetensors(str(tmp_path / "strange.safetensors"), arrays, metadata)
    other = nn.Linear(3, 2)
    before = values(other)
    with pytest.raises(ValueError, match="is damaged: it has no step or no random state"):
        load_checkpoint(tmp_path / "strange.safetensors", other, optimizer)
    assert_same(values(other), before)


def test_checkpoint_of_an_unknown_dtype_is_damaged(tmp_path):
    model = linear()
    optimizer = make_optimizer(config(), model)
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, model, optimizer, 1)
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F3X"'))
    with pytest.raises(ValueError, match=r"x\.safetensors is damaged: it cannot be read as safetensors"):
        load_checkpoint(path, model, optimizer)
    with pytest.raises(OSError, match=r"none/x\.safetensors cannot be written"):
        save_checkpoint(tmp_path / "none" / "x.safetensors", model, optimizer, 1)


def test_foreign_safetensors_is_refused(tmp_path):
    mx.save_safetensors(str(tmp_path / "y.safetensors"), {"weight": mx.zeros((2, 3))})
    with pytest.raises(ValueError, match="is not a checkpoint"):
        load_parameters(tmp_path / "y.safetensors", linear())


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """A process that trains in `folder`, or goes on there; what it says is kept for a failed test."""
    command = [sys.executable, str(ROOT / "tests" / "killed_run.py"), str(folder), *arguments]
    with report_of(folder).open("a") as report:
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=report, stderr=report)


def report_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".txt")


def outcome(folder: Path):
    run = RunFolder(folder)
    arrays = mx.load(str(run.checkpoints()[-1]))
    return {name: np.array(array) for name, array in arrays.items()}, untimed(run.records())


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    """What a run left alone ends with. MLX has then compiled and stored every kernel that the others need."""
    folder = tmp_path_factory.mktemp("never_killed") / "run"
    assert start(folder).wait(timeout=300) == 0, report_of(folder).read_text()
    return outcome(folder)


def assert_ends_as(folder: Path, expected) -> None:
    arrays, records = outcome(folder)
    assert_same(arrays, expected[0])
    assert records == expected[1]
    assert not list(folder.rglob(".tmp-*"))


@pytest.mark.slow
def test_killed_while_writing(tmp_path, never_killed):
    """Each process dies just before a flush, a replacement or a record, or after half a record."""
    chance, kills, folder = random.Random(0), 0, tmp_path / "run"
    process = start(folder, "1")
    while process.wait(timeout=300) == -signal.SIGKILL and kills < 60:
        kills += 1
        process = start(folder, str(chance.randint(1, 40)))
    assert process.returncode == 0, report_of(folder).read_text()
    assert kills >= 5
    assert_ends_as(folder, never_killed)


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path, never_killed):
    """Killed from outside, at no chosen instruction, six times on its way."""
    chance, kills, folder = random.Random(0), 0, tmp_path / "run"
    metrics = folder / "metrics.jsonl"
    for lines in (0, 3, 7, 11, 15, 19):
        process = start(folder)
        while process.poll() is None and (metrics.read_text().count("\n") if metrics.exists() else 0) < lines:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.04))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert start(folder).wait(timeout=300) == 0, report_of(folder).read_text()
    assert kills >= 3
    assert_ends_as(folder, never_killed)
