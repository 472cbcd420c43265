"""What every test stands on: full float32 products, OpenBLAS under MLX where there is one, one seed."""

import os
from dataclasses import asdict
from pathlib import Path

import pytest

# MLX reads this once; with it on, float32 products on matrix units are rounded far beyond float32.
os.environ["MLX_ENABLE_TF32"] = "0"

from titans_mlx import _blas

# isort: split
# After titans_mlx, which puts OpenBLAS in place before MLX is loaded.
import mlx.core as mx

from titans_mlx import Titans, TitansConfig, preset
from titans_mlx.claims import CLAIMS
from titans_mlx.claims.store import TEXT_DEMO, run_and_store
from titans_mlx.memory import recipes
from titans_mlx.tasks import RecallTask
from titans_mlx.training.files import write_json


def pytest_report_header() -> str:
    return f"BLAS under MLX: {_blas.load_openblas() or 'its own'}"


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same random numbers in every test, whichever tests ran before it."""
    mx.random.seed(0)


@pytest.fixture(scope="session")
def smoke_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results: every claim's smoke profile, of a few steps, and a model that was never trained."""
    folder = tmp_path_factory.mktemp("results")
    for claim in CLAIMS.values():
        for job in claim.jobs("smoke"):
            run_and_store(folder, claim, job)
    task = RecallTask(num_keys=9, num_values=9, num_filler=5)
    memory = recipes.titans_matrix(chunk_size=8)
    size = {"vocab_size": task.vocab_size, "dim": 8, "num_heads": 2, "num_layers": 2, "segment_size": 32}
    for name, variant in (("demo", "lmm"), ("demo_mac", "mac")):
        config = TitansConfig(variant=variant, memory=memory, **size)
        (folder / name).mkdir()
        write_json(folder / name / "config.json", {"model": config.to_dict(), "task": asdict(task)})
        mx.random.seed(0)
        Titans(config).save_weights(str(folder / name / "model.safetensors"))
    (folder / TEXT_DEMO).mkdir()
    config = preset("tiny", "mac", dim=16)
    write_json(folder / TEXT_DEMO / "config.json", {"model": config.to_dict()})
    Titans(config).save_weights(str(folder / TEXT_DEMO / "model.safetensors"))
    return folder
