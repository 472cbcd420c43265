"""OpenBLAS under MLX: the gain where it is, one line where it is not, nothing on macOS."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from titans_mlx import _blas

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is loaded on Linux only")

# Seconds of the fastest of three products of two 1024 x 1024 float32 matrices.
TIME_A_PRODUCT = """
import time
import mlx.core as mx
a, b = mx.random.normal((2, 1024, 1024))
mx.eval(a, b)
seconds = []
for _ in range(3):
    start = time.perf_counter()
    mx.eval(mx.matmul(a, b, stream=mx.cpu))
    seconds.append(time.perf_counter() - start)
print(min(seconds))
"""

# A machine without OpenBLAS: the loader refuses that one name.
HIDE_OPENBLAS = """
import ctypes
class CDLL(ctypes.CDLL):
    def __init__(self, name, *args, **kwargs):
        if name is not None and "openblas" in name:
            raise OSError(f"{name}: cannot open shared object file")
        super().__init__(name, *args, **kwargs)
ctypes.CDLL = CDLL
"""

MULTIPLY = """
import titans_mlx
from titans_mlx import _blas
_blas.load_openblas()
import mlx.core as mx
a = mx.arange(6, dtype=mx.float32).reshape(2, 3)
assert (a @ a.T).tolist() == [[5.0, 14.0], [14.0, 50.0]]
"""


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, without a BLAS that this one may have been started with."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "TITANS_MLX_QUIET")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def openblas_installed() -> bool:
    try:
        ctypes.CDLL(_blas.LIBRARY)
    except OSError:
        return False
    return True


needs_openblas = pytest.mark.skipif(
    sys.platform != "linux" or not openblas_installed(), reason=f"needs Linux with {_blas.LIBRARY}"
)


@needs_openblas
def test_products_are_at_least_five_times_faster():
    without = float(run_python(TIME_A_PRODUCT).stdout)
    done = run_python("import titans_mlx\n" + TIME_A_PRODUCT)
    assert done.stderr == ""
    assert without / float(done.stdout) >= 5


@needs_openblas
def test_mlx_imported_first_is_told_what_to_do():
    lines = run_python("import mlx.core\n" + MULTIPLY).stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("titans_mlx: MLX was imported too early")
    assert _blas.LIBRARY in lines[0]


@needs_openblas
def test_a_blas_the_process_was_started_with_is_kept():
    code = "import mlx.core\n" + MULTIPLY + "print(_blas.load_openblas())"
    done = run_python(code, LD_PRELOAD=_blas.LIBRARY)
    assert (done.stdout, done.stderr) == ("preloaded\n", "")


@linux_only
def test_without_openblas_one_line_says_what_to_install():
    lines = run_python(HIDE_OPENBLAS + MULTIPLY).stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("titans_mlx: OpenBLAS not found")
    assert lines[0].endswith("apt-get install libopenblas0")


@linux_only
def test_the_line_can_be_silenced():
    assert run_python(HIDE_OPENBLAS + MULTIPLY, TITANS_MLX_QUIET="1").stderr == ""


def test_on_macos_nothing_is_loaded_and_nothing_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    loaded: list[object] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: loaded.append(args))
    assert _blas.load_openblas.__wrapped__() is None
    assert loaded == []
    assert capsys.readouterr() == ("", "")


ROOT = Path(__file__).parents[1]


@linux_only
@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "scripts").glob("*.py")))
def test_scripts_are_in_time(name: str) -> None:
    alone = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "TITANS_MLX_QUIET")}
    command = [sys.executable, str(ROOT / "scripts" / name), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=alone)
    assert done.returncode == 0 and "too early" not in done.stderr, done.stderr


@linux_only
def test_so_is_what_the_readme_shows() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    alone = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "TITANS_MLX_QUIET")}
    for block in blocks:
        first = [line for line in block.splitlines() if line.startswith(("import ", "from "))]
        if any("mlx" in line for line in first):
            done = subprocess.run(
                [sys.executable, "-c", "\n".join(first)], capture_output=True, text=True, timeout=120, env=alone
            )
            assert done.returncode == 0 and "too early" not in done.stderr, (first, done.stderr)
