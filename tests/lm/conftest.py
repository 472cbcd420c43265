"""Small language models of bytes, trained a little, and their folders."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from titans_mlx import MemoryConfig, Titans, TitansConfig
from titans_mlx.lm import MemorySession
from titans_mlx.lm.pretrained import save_pretrained
from titans_mlx.lm.scores import text_loss
from titans_mlx.memory import recipes
from titans_mlx.training import TrainConfig, train

TEXT = "the cat sat on the mat, and the dog sat on the log. " * 40
MEMORIES = {
    "deep": MemoryConfig(chunk_size=8),
    "matrix": recipes.titans_matrix(chunk_size=8),
    "omega": MemoryConfig(chunk_size=8, omega=3, decay_per="row"),
}
MODELS = (
    "lmm",
    "lmm-matrix",
    "mac",
    "mac-omega",
    "mag-omega",
    "mag",
    "mal",
    "sliding_window",
    "transformer",
    "transformer-conv",
)


def config_of(name: str, **changes: object) -> TitansConfig:
    """A small model of bytes: ``variant``, with ``-matrix``, ``-omega`` or ``-conv``."""
    variant, _, option = name.partition("-")
    return TitansConfig(
        variant=variant,
        vocab_size=257,
        dim=32,
        num_layers=2,
        num_heads=2,
        segment_size=12,
        window_size=10,
        num_persistent=2,
        attention_conv_size=4 if option == "conv" else 0,
        memory=MEMORIES.get(option, MEMORIES["deep"]),
    ).replace(**changes)


def ids_of(text: str) -> list[int]:
    return list(text.encode())


def trained(config: TitansConfig, steps: int = 30) -> Titans:
    """A model that has seen some of ``TEXT``: what it says is not left to ties."""
    mx.random.seed(0)
    model, data = Titans(config), np.array(ids_of(TEXT), dtype=np.int32)

    def batches(step: int) -> tuple[np.ndarray, np.ndarray]:
        starts = np.random.default_rng(step).integers(len(data) - 33, size=8)
        windows = np.stack([data[start : start + 33] for start in starts])
        return windows[:, :-1], windows[:, 1:]

    train(model, text_loss, batches, TrainConfig(steps=steps, learning_rate=1e-2, compile=False))
    return model


def arrays_of(session: MemorySession) -> list[np.ndarray]:
    """Everything a session holds."""
    now = session.snapshot()
    leaves = [leaf for _, leaf in tree_flatten([*now.states, now.logits]) if isinstance(leaf, mx.array)]
    return [np.array(leaf) for leaf in leaves]


def same(a: MemorySession, b: MemorySession) -> bool:
    """Bit for bit."""
    pairs = zip(arrays_of(a), arrays_of(b), strict=True)
    return a.position == b.position and all(np.array_equal(x, y) for x, y in pairs)


@pytest.fixture(scope="session")
def model_of() -> Callable[[str], Titans]:
    """The trained model of a name, made once."""
    made: dict[str, Titans] = {}

    def get(name: str) -> Titans:
        if name not in made:
            made[name] = trained(config_of(name))
        return made[name]

    return get


@pytest.fixture(scope="session")
def folder_of(model_of: Callable[[str], Titans], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the trained model of a name, as mlx-lm loads it."""

    def get(name: str) -> Path:
        folder = tmp_path_factory.getbasetemp() / f"model-{name}"
        if not (folder / "config.json").exists():
            save_pretrained(model_of(name), folder)
        return folder

    return get
