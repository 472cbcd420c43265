"""A small run in a process of its own, for the test that kills it: ``python killed_run.py FOLDER [EVENT]``.

With EVENT = n the process kills itself with SIGKILL at its n-th flush, file replacement or record; in the
last case half a line is written first.
"""

import itertools
import os
import signal
import sys
import time

from titans_mlx.tasks import RecallTask
from titans_mlx.training import RunFolder, TrainConfig, answer_loss, run_folder, train

# isort: split
# After titans_mlx, which puts OpenBLAS in place before MLX is loaded.
import mlx.core as mx
import mlx.nn as nn

TASK = RecallTask(num_keys=6, num_values=4, num_filler=5, num_pairs=2, num_queries=2)
CONFIG = TrainConfig(
    steps=40, batch_size=8, learning_rate=0.01, warmup=5, eval_every=7, checkpoint_every=3, log_every=2
)


class Model(nn.Module):
    """Dropout makes the numbers depend on the random state, a mean over time on the whole sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TASK.vocab_size, 16)
        self.hidden = nn.Linear(16, 32)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(32, TASK.vocab_size)

    def __call__(self, tokens: mx.array) -> mx.array:
        x = self.embed(tokens)
        x = x + mx.cumsum(x, axis=1) / mx.arange(1, x.shape[1] + 1)[:, None]
        return self.head(self.drop(nn.relu(self.hidden(x))))


def batches(step: int):
    time.sleep(0.01)
    return TASK.sample(CONFIG.batch_size, (12, 20)[step % 2], seed=(1, step))


def evaluate(model: nn.Module) -> dict[str, mx.array]:
    """Draws random numbers too: the resumed run must not be a draw behind."""
    loss, metrics = answer_loss(model, *map(mx.array, TASK.sample(32, 16, seed=0)))
    return {"loss": loss, **metrics, "draw": mx.random.uniform()}


def die_at(event: int) -> None:
    """Kill this process at the `event`-th change that it makes to the run folder."""
    count = itertools.count(1)

    def counted(function):
        def call(*arguments):
            if next(count) == event:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return call

    def torn(folder, record):
        if next(count) == event:
            with folder.metrics_path.open("a") as file:
                file.write('{"step": 1, "kind": "tr')
            os.kill(os.getpid(), signal.SIGKILL)
        append(folder, record)

    append, run_folder.RunFolder.append = run_folder.RunFolder.append, torn
    os.fsync, os.replace = counted(os.fsync), counted(os.replace)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        die_at(int(sys.argv[2]))
    mx.random.seed(11)
    run = RunFolder(sys.argv[1], {"task": TASK})
    train(Model(), answer_loss, batches, CONFIG, run, evaluate, lambda step, record: None)
