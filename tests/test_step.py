"""One update is the same whole, in parts, in pieces where nothing is carried, and over processes."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from distributed_run import batches
from mlx.utils import tree_flatten, tree_map
from models import build

from titans_mlx import Titans
from titans_mlx.lm.scores import text_loss
from titans_mlx.training import TrainConfig, TrainingDiverged, make_optimizer, train
from titans_mlx.training.optim import PROJECTIONS

CHILD = Path(__file__).with_name("distributed_run.py")


def trained(model: str = "mac-deep", column: str = "loss", **options: object) -> tuple[Titans, list[float]]:
    mx.random.seed(3)
    made = build(model)
    fields = {"steps": 4, "batch_size": 8, "learning_rate": 1e-2, "compile": False, **options}
    result = train(made, text_loss, batches, TrainConfig(**fields))
    return made, [record[column] for record in result.train_records]


@pytest.mark.parametrize("compiled", [False, True])
def test_accumulated_parts_make_the_same_update(compiled: bool) -> None:
    whole, losses = trained()
    parts, others = trained(accumulate=4, compile=compiled)
    assert losses == pytest.approx(others, rel=1e-4)
    # AdamW does not see a gradient's scale; its norm does.
    norms = [trained(column="grad_norm", **given)[1] for given in ({}, {"accumulate": 4, "compile": compiled})]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    for (name, a), (_, b) in zip(tree_flatten(whole.parameters()), tree_flatten(parts.parameters()), strict=True):
        assert mx.allclose(a, b, rtol=1e-3, atol=2e-3), name


def test_a_truncated_sequence_is_one_sequence_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first loss is that of whole sequences: what is carried is carried; only the gradient is cut."""
    for model in ("lmm-online", "mac-deep", "mag-deep", "mal-online", "sliding_window"):
        _, whole = trained(model, steps=1)
        _, pieces = trained(model, steps=1, truncate=11)
        assert whole == pytest.approx(pieces, rel=1e-5)
    _, longer = trained(truncate=40)
    assert longer == pytest.approx(trained()[1], rel=1e-4)


def test_truncation_cuts_the_gradient() -> None:
    def gradients(truncate: int) -> dict[str, mx.array]:
        mx.random.seed(3)
        model = build("lmm-online", num_layers=1, num_persistent=0)
        before = dict(tree_flatten(model.parameters()))
        config = TrainConfig(steps=1, batch_size=8, truncate=truncate, compile=False, weight_decay=0.0, clip=None)
        train(model, text_loss, batches, config)
        return {name: leaf - before[name] for name, leaf in tree_flatten(model.parameters())}

    whole, cut = gradients(0), gradients(8)
    assert any(not mx.allclose(whole[name], cut[name], atol=1e-5) for name in whole)


def test_a_truncated_gradient_is_that_of_a_loss_whose_carried_state_is_cut() -> None:
    piece = 8
    mx.random.seed(3)
    model = build("lmm-online")
    tokens, targets = map(mx.array, batches(1))

    def loss(model: Titans) -> mx.array:
        states, total = model.make_cache(), mx.array(0.0)
        for start in range(0, tokens.shape[1], piece):
            columns = slice(start, start + piece)
            share = tokens[:, columns].shape[1] / tokens.shape[1]
            total = total + share * text_loss(model, tokens[:, columns], targets[:, columns], states)
            states = [state.detach() for state in states]
        return total

    _, gradients = nn.value_and_grad(model, loss)(model)
    expected = mx.sqrt(sum(leaf.square().sum() for _, leaf in tree_flatten(gradients))).item()
    whole, cut = (trained("lmm-online", "grad_norm", steps=1, truncate=tokens)[1] for tokens in (0, piece))
    assert cut == pytest.approx([expected], rel=1e-4) and whole != pytest.approx(cut, rel=1e-3)


def test_bfloat16_is_near_and_parameters_stay_float32() -> None:
    model, losses = trained(dtype="bfloat16", compile=True)
    _, exact = trained()
    assert all(leaf.dtype == mx.float32 for _, leaf in tree_flatten(model.parameters()))
    assert losses != exact and losses == pytest.approx(exact, rel=2e-2)


def test_parameters_are_float32_also_after_a_step_that_was_interrupted() -> None:
    model = build("mac-deep")

    def interrupted(model: Titans, *batch: mx.array) -> mx.array:
        assert model.embedding.weight.dtype == mx.bfloat16
        raise KeyboardInterrupt

    config = TrainConfig(steps=1, batch_size=8, dtype="bfloat16", compile=False)
    with pytest.raises(KeyboardInterrupt):
        train(model, interrupted, batches, config)
    assert all(leaf.dtype == mx.float32 for _, leaf in tree_flatten(model.parameters()))


def test_muon_turns_projections_and_adamw_the_rest() -> None:
    model = build("mac-deep")
    optimizer = make_optimizer(TrainConfig(steps=5, optimizer="muon"), model)
    decayed, others, muon = (dict(tree_flatten(state)) for state in optimizer.state["states"])
    projections = [name for name, leaf in tree_flatten(model.parameters()) if name.endswith("_proj.weight")]
    assert PROJECTIONS == "*_proj.weight" and {f"{name}.v" for name in projections} <= muon.keys()
    assert not any("_proj" in name for name in (*decayed, *others))
    assert any("embedding" in name for name in decayed)
    _, losses = trained(steps=16, optimizer="muon", muon_learning_rate=0.02)
    assert losses[-1] < losses[0]


def test_weight_decay_is_decoupled_from_what_muon_turns() -> None:
    model = build("mac-deep")
    optimizer = make_optimizer(TrainConfig(steps=5, optimizer="muon", muon_learning_rate=0.02, min_lr_ratio=1.0), model)
    before = dict(tree_flatten(model.parameters()))
    optimizer.update(model, tree_map(mx.zeros_like, model.trainable_parameters()))
    after = dict(tree_flatten(model.parameters()))
    for name in (name for name in before if name.endswith("_proj.weight")):
        assert mx.allclose(after[name], (1 - 0.02 * 0.1) * before[name], rtol=1e-6, atol=0)


def test_a_loss_above_its_limit_ends_the_run() -> None:
    with pytest.raises(TrainingDiverged, match="diverged at step 1: loss"):
        trained(loss_limit=0.1)
    assert len(trained(loss_limit=2 * math.log(16))[1]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 3}, "accumulate must divide batch_size=8, got 3"),
        ({"accumulate": 0}, "accumulate must be an integer >= 1"),
        ({"truncate": -1}, "truncate must be an integer >= 0"),
        ({"optimizer": "sgd"}, r"optimizer must be one of \['adamw', 'muon'\], got 'sgd'"),
        ({"dtype": "float16"}, r"dtype must be one of \['float32', 'bfloat16'\], got 'float16'"),
        ({"loss_limit": 0}, "loss_limit must be a finite number > 0, or None"),
        ({"muon_learning_rate": math.nan}, "muon_learning_rate must be a finite number > 0"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trained(**options)


def first_losses(count: int, of: int) -> list[float]:
    """Of one process, the first steps of a run."""

    class Enough(Exception):
        pass

    def some(step: int) -> tuple[np.ndarray, np.ndarray]:
        if step > count:
            raise Enough
        return batches(step)

    losses: list[float] = []
    mx.random.seed(3)
    config = TrainConfig(steps=of, batch_size=8, learning_rate=1e-2, compile=False)
    with pytest.raises(Enough):
        train(build("mac-deep"), text_loss, some, config, progress=lambda _, record: losses.append(record["loss"]))
    return losses


def launch(count: int, folder: Path, steps: int) -> subprocess.Popen:
    """``mlx.launch`` of the small run with ``count`` processes on this machine."""
    command = [str(Path(sys.executable).with_name("mlx.launch")), "-n", str(count), "--backend", "ring"]
    command += ["--starting-port", str(free_ports())]
    environment = {**os.environ, "PYTHONPATH": str(CHILD.parents[1]) + os.pathsep + str(CHILD.parent)}
    command += [sys.executable, str(CHILD), str(folder), str(steps)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def free_ports() -> int:
    """The first of a few ports in a row that nobody listens to: other tests, or users, may run at the same time."""
    for first in np.random.default_rng().integers(20_000, 60_000, size=50).tolist():
        with ExitStack() as stack:
            try:
                for port in range(first, first + 8):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no eight free ports in a row")


def records_in(folder: Path, column: str = "loss") -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record[column] for record in map(json.loads, lines) if record["kind"] == "train"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_learn_as_one_with_the_whole_batch(tmp_path: Path, count: int) -> None:
    done = launch(count, tmp_path / "run", 6)
    output, _ = done.communicate(timeout=300)
    assert done.returncode == 0, output
    for column, near in (("loss", 1e-4), ("grad_norm", 1e-3)):
        assert records_in(tmp_path / "run", column) == pytest.approx(trained(column=column, steps=6)[1], rel=near)


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_a_checkpoint_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    running = launch(2, folder, 400)
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoints/step-*[1-9].safetensors")) and time.monotonic() < deadline:
        time.sleep(0.1)
    children = (folder / "pids").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    output, _ = running.communicate(timeout=120)
    # mlx.launch ends the others, says so, and exits with 0 all the same.
    assert "exited with code -9" in output and output.count("exited with code") == 2
    checkpoints = sorted(folder.glob("checkpoints/step-*.safetensors"))
    assert checkpoints
    reached = int(checkpoints[-1].stem.split("-")[1])
    again = launch(2, folder, 400)
    deadline = time.monotonic() + 120
    while len(records_in(folder)) <= reached + 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    again.terminate()
    again.communicate(timeout=60)
    # mlx.launch leaves its processes to themselves when it is ended.
    for process in (folder / "pids").read_text().split()[-2:]:
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    mine = records_in(folder)
    assert len(mine) > reached
    assert mine[: reached + 2] == pytest.approx(first_losses(reached + 2, of=400), rel=1e-3)
