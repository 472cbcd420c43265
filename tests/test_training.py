"""The trainer, its records and checkpoints, and runs that are killed."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from killed_run import CONFIG, Model, batches
from mlx.utils import tree_flatten

from titans_mlx.training import (
    RunFolder,
    TrainConfig,
    TrainingDiverged,
    answer_loss,
    count_parameters,
    load_checkpoint,
    load_parameters,
    make_optimizer,
    masked_cross_entropy,
    provenance,
    save_checkpoint,
    source_hash,
    train,
)
from titans_mlx.training.files import replacing, write_json

ROOT = Path(__file__).parents[1]


def config(**changes) -> TrainConfig:
    return TrainConfig(**{"steps": 6, "learning_rate": 0.05, "compile": False, **changes})


def linear(*shape: int) -> nn.Linear:
    mx.random.seed(3)
    model = nn.Linear(*(shape or (3, 2)))
    mx.eval(model.parameters())
    return model


def squares(model, x):
    return model(x).square().mean()


def inputs(step: int):
    return (np.random.default_rng(step).normal(size=(4, 3)).astype(np.float32),)


def values(model) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in tree_flatten(model.parameters())}


def untimed(records):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


# Optimiser


@pytest.mark.parametrize(("steps", "warmup", "ratio"), [(20, 5, 0.1), (20, 0, 0.0), (7, 7, 0.5)])
def test_warmup_and_cosine(steps, warmup, ratio):
    options = config(steps=steps, warmup=warmup, min_lr_ratio=ratio, learning_rate=0.01)
    result = train(linear(), squares, inputs, options)
    for record in result.train_records:
        step = record["step"]
        share = (
            step / warmup
            if step <= warmup
            else ratio + (1 - ratio) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
        )
        assert record["learning_rate"] == pytest.approx(0.01 * share, rel=1e-5, abs=1e-9)
    assert [record["step"] for record in result.train_records] == list(range(1, steps + 1))


def test_decay_acts_on_matrices_that_are_not_excepted():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    before = values(model)
    options = config(steps=1, min_lr_ratio=1, learning_rate=0.1, weight_decay=0.5, no_decay=("layers.1.*",))
    train(model, lambda model, x: 0 * model(x).sum(), inputs, options)
    after = values(model)
    np.testing.assert_allclose(after["layers.0.weight"], before["layers.0.weight"] * 0.95, rtol=1e-6)
    for name in ("layers.0.bias", "layers.1.weight", "layers.1.bias"):
        np.testing.assert_array_equal(after[name], before[name])


def test_first_step_is_bias_corrected():
    """AdamW's first step is the rate times the gradient's sign; without the correction it is smaller."""
    model = linear()
    before = values(model)["weight"]
    train(
        model, lambda model, x: model.weight.sum(), inputs, config(steps=1, min_lr_ratio=1, weight_decay=0.0)
    )
    np.testing.assert_allclose(before - values(model)["weight"], 0.05, rtol=1e-4)


@pytest.mark.parametrize("clip", [0.5, 1e9, None])
def test_clip_limits_what_the_optimiser_sees(tmp_path, clip):
    run = RunFolder(tmp_path)
    result = train(linear(), lambda m, x: 100 * squares(m, x), inputs, config(steps=1, clip=clip), run)
    arrays = mx.load(str(run.checkpoints()[-1]))
    seen = math.sqrt(sum((a / 0.1).square().sum().item() for n, a in arrays.items() if n.endswith(".m")))
    norm = result.train_records[0]["grad_norm"]
    assert norm > 5
    assert seen == pytest.approx(0.5 if clip == 0.5 else norm, rel=1e-4)


def test_count_parameters():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    model.layers[0].freeze()
    assert count_parameters(model) == 3 * 4 + 4 + 8
    assert count_parameters(model, trainable=True) == 8


# The loop


def test_compiled_equals_plain():
    """Two batch shapes and dropout: a trace must freeze neither its random numbers nor its shapes."""
    finals, histories = [], []
    for compiled in (True, False):
        mx.random.seed(0)
        model = Model()
        result = train(model, answer_loss, batches, replace(CONFIG, log_every=1, compile=compiled))
        finals.append(values(model))
        histories.append([record["loss"] for record in result.records])
    np.testing.assert_allclose(*histories, rtol=1e-5)
    for name, array in finals[0].items():
        np.testing.assert_allclose(array, finals[1][name], atol=1e-5, err_msg=name)
    assert len(set(histories[0])) == CONFIG.steps


def test_modes_hooks_and_frozen_parameters(tmp_path):
    model, seen, modes = linear(), [], []
    model.freeze(keys=["bias"])
    model.eval()
    bias = np.array(model.bias)

    def loss(model, x):
        modes.append(model.training)
        return squares(model, x), {"largest": mx.abs(x).max()}

    def evaluate(model):
        modes.append(model.training)
        return {"score": np.float32(0.5), "bad": float("nan"), "curve": mx.array([1.0, 2.0])}

    run, options = RunFolder(tmp_path), config(eval_every=4, log_every=5)
    result = train(model, loss, inputs, options, run, evaluate, lambda *told: seen.append(told))
    assert modes == [True] * 4 + [False] + [True] * 2 + [False]
    assert not model.training
    assert [(record["step"], record["kind"]) for record in result.records] == [
        (4, "eval"),
        (5, "train"),
        (6, "train"),
        (6, "eval"),
    ]
    assert seen == [(record["step"], record) for record in result.records]
    assert run.records() == result.records
    assert {**result.eval_records[0], "seconds": 0} == {
        "step": 4, "kind": "eval", "score": 0.5, "bad": None, "curve": [1.0, 2.0], "seconds": 0,
    }  # fmt: skip
    assert set(result.train_records[0]) == {
        "step", "kind", "loss", "learning_rate", "grad_norm", "largest", "seconds"
    }  # fmt: skip
    np.testing.assert_array_equal(np.array(model.bias), bias)


def test_masked_cross_entropy():
    logits = mx.array([[[0.0, 0.0], [5.0, -5.0], [9.0, 0.0]]])
    targets, mask = mx.array([[1, 0, 1]]), mx.array([[1.0, 1.0, 0.0]])
    loss, accuracy = masked_cross_entropy(logits, targets, mask)
    assert loss.item() == pytest.approx((math.log(2) + math.log1p(math.exp(-10))) / 2, rel=1e-5)
    assert accuracy.item() == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"targets and mask \(B, T\), got"):
        masked_cross_entropy(logits, targets[:, :2], mask)


def failing_at(step: int, value: float):
    """The loss becomes `value` at that step, through its input."""

    def batches(now: int):
        return (np.full((4, 3), value if now == step else 0.1 * now, dtype=np.float32),)

    return batches


def test_divergence_is_named(tmp_path):
    run, model = RunFolder(tmp_path), linear()
    with pytest.raises(TrainingDiverged) as caught:
        train(model, squares, failing_at(5, math.nan), config(checkpoint_every=2), run)
    error = caught.value
    assert (error.step, error.last_finite[0]) == (5, 4)
    assert error.last_finite[1] == pytest.approx(run.records()[-1]["loss"])
    assert error.checkpoint == run.checkpoints()[-1] == tmp_path / "checkpoints/step-00000004.safetensors"
    message = str(error)
    assert "diverged at step 5: loss nan" in message
    assert f"the last finite loss was {error.last_finite[1]:.6g} at step 4" in message
    assert str(error.checkpoint) in message
    assert load_parameters(error.checkpoint, model) == 4
    assert all(np.isfinite(array).all() for array in values(model).values())


def test_divergence_at_the_first_step_without_a_folder():
    with pytest.raises(TrainingDiverged, match=r"step 1: loss nan.*no finite loss.*there is no checkpoint"):
        train(linear(), squares, failing_at(1, math.nan), config())


def test_divergence_of_the_gradient_alone():
    """sqrt at 0: the loss is 0, its gradient is not finite."""
    with pytest.raises(TrainingDiverged, match=r"step 1: loss 0, gradient norm (nan|inf)"):
        train(linear(), lambda model, x: mx.sqrt(model(0 * x) - model.bias).sum(), inputs, config())


# Run folders


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
        train(
            linear(), squares, inputs, config(learning_rate=0.1), RunFolder(tmp_path, {"model": {"dim": 3}})
        )
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


# Checkpoints and files


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


def test_foreign_safetensors_is_refused(tmp_path):
    mx.save_safetensors(str(tmp_path / "y.safetensors"), {"weight": mx.zeros((2, 3))})
    with pytest.raises(ValueError, match="is not a checkpoint"):
        load_parameters(tmp_path / "y.safetensors", linear())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "config.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": math.nan})
    with pytest.raises(RuntimeError, match="half way"), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"batch_size": 2.0}, "batch_size must be an integer >= 1, got 2.0"),
        ({"warmup": 7}, "warmup must be at most steps=6, got 7"),
        ({"learning_rate": 0}, "learning_rate must be a finite number > 0, got 0"),
        ({"learning_rate": "1e-3"}, "learning_rate must be a finite number > 0, got '1e-3'"),
        ({"min_lr_ratio": 1.5}, "min_lr_ratio must be a finite number between 0 and 1, got 1.5"),
        ({"weight_decay": -0.1}, "weight_decay must be a finite number >= 0, got -0.1"),
        ({"no_decay": "bias"}, "no_decay must be a sequence of patterns, got 'bias'"),
        ({"betas": (0.9,)}, "betas must be two numbers"),
        ({"betas": (0.9, 1.0)}, "betas must be a finite number >= 0 and < 1, got 1.0"),
        ({"eps": 0.0}, "eps must be a finite number > 0, got 0.0"),
        ({"clip": math.nan}, "clip must be a finite number > 0, or None, got nan"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"log_every": 0}, "log_every must be an integer >= 1, got 0"),
        ({"eval_every": -1}, "eval_every must be an integer >= 0, got -1"),
        ({"checkpoint_every": True}, "checkpoint_every must be an integer >= 0, got True"),
        ({"compile": 1}, "compile must be True or False, got 1"),
    ],
)
def test_bad_configuration(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_bad_callables():
    with pytest.raises(ValueError, match="batches must give a tuple of arrays, got ndarray at step 1"):
        train(linear(), squares, lambda step: inputs(step)[0], config())
    with pytest.raises(ValueError, match="metrics must not use the name 'step'"):
        train(linear(), squares, inputs, config(), evaluate=lambda model: {"step": 1.0})


# SIGKILL


def start(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "tests" / "killed_run.py"), str(folder), *arguments]
    with report_of(environment).open("a") as report:
        return subprocess.Popen(command, env=environment, stdout=report, stderr=report)


def report_of(environment: dict[str, str]) -> Path:
    """What the processes said, for the message of a failed test."""
    return Path(environment["TMPDIR"]) / "report.txt"


def outcome(folder: Path):
    run = RunFolder(folder)
    arrays = mx.load(str(run.checkpoints()[-1]))
    return {name: np.array(array) for name, array in arrays.items()}, untimed(run.records())


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    """A run left alone, and the environment to repeat it in.

    MLX keeps compiled kernels in the folder for temporary files. These runs have one of their own, so that
    no kill leaves half a kernel where other processes look for it; it starts from those there are.
    """
    folder, kernels = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("kernels")
    known = Path(tempfile.gettempdir()) / "mlx"
    if known.is_dir():
        shutil.copytree(known, kernels / "mlx")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(kernels)}
    process = start(folder, environment)
    assert process.wait(timeout=300) == 0, report_of(environment).read_text()
    return outcome(folder), environment


def assert_ends_as(folder: Path, expected) -> None:
    arrays, records = outcome(folder)
    assert_same(arrays, expected[0])
    assert records == expected[1]
    assert not list(folder.rglob(".tmp-*"))


@pytest.mark.slow
def test_killed_while_writing(tmp_path, never_killed):
    """Each process dies just before a flush, a replacement or a record, or after half a record."""
    (expected, environment), chance, kills = never_killed, random.Random(0), 0
    process = start(tmp_path, environment, "1")
    while process.wait(timeout=300) == -signal.SIGKILL and kills < 60:
        kills += 1
        process = start(tmp_path, environment, str(chance.randint(1, 40)))
    assert process.returncode == 0, report_of(environment).read_text()
    assert kills >= 5
    assert_ends_as(tmp_path, expected)


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path, never_killed):
    """Killed from outside, at no chosen instruction, six times on its way."""
    (expected, environment), chance, kills = never_killed, random.Random(0), 0
    metrics = tmp_path / "metrics.jsonl"
    for lines in (0, 3, 7, 11, 15, 19):
        process = start(tmp_path, environment)
        while process.poll() is None and (metrics.read_text().count("\n") if metrics.exists() else 0) < lines:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.04))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert start(tmp_path, environment).wait(timeout=300) == 0, report_of(environment).read_text()
    assert kills >= 3
    assert_ends_as(tmp_path, expected)
