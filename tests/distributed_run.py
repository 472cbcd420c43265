"""A small distributed run, for the tests that launch it: ``mlx.launch -n N distributed_run.py FOLDER STEPS``."""

import os
import sys
from pathlib import Path

from titans_mlx.lm.scores import text_loss
from titans_mlx.training import RunFolder, TrainConfig, train

# isort: split
# After titans_mlx, which puts OpenBLAS in place before MLX is loaded.
import mlx.core as mx
import numpy as np
from models import build

DATA = np.random.default_rng(0).integers(0, 16, size=(8, 8, 41)).astype(np.int32)


def batches(step: int) -> tuple[np.ndarray, np.ndarray]:
    windows = DATA[(step - 1) % len(DATA)]
    return windows[:, :-1], windows[:, 1:]


if __name__ == "__main__":
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    group = mx.distributed.init(strict=True, backend="ring")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    # Every process but the first begins elsewhere: it must be given the first one's parameters.
    mx.random.seed(3 + group.rank())
    config = TrainConfig(steps=steps, batch_size=8, learning_rate=1e-2, compile=False, checkpoint_every=3)
    train(build("mac-deep"), text_loss, batches, config, RunFolder(folder), group=group)
