"""The optimiser and the training loop."""

import math
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from killed_run import CONFIG, Model, batches
from mlx.utils import tree_flatten
from small_runs import config, inputs, linear, squares, values

from titans_mlx.memory import NeuralMemory
from titans_mlx.training import (
    RunFolder,
    TrainingDiverged,
    answer_loss,
    count_parameters,
    load_parameters,
    masked_cross_entropy,
    train,
)
from titans_mlx.training.optim import decays


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


def test_decay_spares_gains_and_biases_whatever_their_axes():
    """With heads, a memory's gains are matrices by their shape."""
    memory = NeuralMemory(8, 2, depth=2)
    named = tree_flatten(memory.trainable_parameters())
    spared = {name for name, array in named if not decays(config(steps=1), name, array)}
    vectors = {name for name, array in named if array.ndim == 1}
    assert spared == vectors | {"readout.gain", "norm_gain", "norm_bias"}


def test_first_step_is_bias_corrected():
    """AdamW's first step is the rate times the gradient's sign; without the correction it is smaller."""
    model = linear()
    before = values(model)["weight"]
    train(model, lambda model, x: model.weight.sum(), inputs, config(steps=1, min_lr_ratio=1, weight_decay=0.0))
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


@pytest.mark.slow
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
        ({"betas": 0.9}, "betas must be two numbers, got 0.9"),
        ({"no_decay": None}, "no_decay must be a sequence of patterns, got None"),
        ({"learning_rate": True}, "learning_rate must be a finite number > 0, got True"),
        ({"betas": (0.9, 1.0)}, "betas must be a finite number >= 0 and < 1, got 1.0"),
        ({"eps": 0.0}, "eps must be a finite number > 0, got 0.0"),
        ({"clip": math.nan}, "clip must be a finite number > 0, or None, got nan"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": 2**64}, r"seed must be an integer from 0 to 2\*\*64 - 1, got 18446744073709551616"),
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
