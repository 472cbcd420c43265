"""What every test stands on: full float32 products, OpenBLAS under MLX where there is one, one seed."""

import os

import pytest

# MLX reads this once; with it on, float32 products on matrix units are rounded far beyond float32.
os.environ["MLX_ENABLE_TF32"] = "0"

from titans_mlx import _blas

# isort: split
# After titans_mlx, which puts OpenBLAS in place before MLX is loaded.
import mlx.core as mx


def pytest_report_header() -> str:
    return f"BLAS under MLX: {_blas.load_openblas() or 'its own'}"


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same random numbers in every test, whichever tests ran before it."""
    mx.random.seed(0)
