"""The system's OpenBLAS under MLX on Linux.

The Linux CPU wheel of MLX brings the unoptimised reference BLAS. A BLAS whose symbols are global before MLX
is loaded takes its place, because the dynamic linker looks there first when it binds `libmlx`. Loaded
afterwards it changes nothing: MLX is bound by then.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

LIBRARY = "libopenblas.so.0"


@functools.cache
def load_openblas() -> str | None:
    """Put the system's OpenBLAS under MLX; to be called before anything imports MLX.

    Does nothing except on Linux. Where it cannot help, it says why in one line on stderr, once in a process;
    `TITANS_MLX_QUIET=1` in the environment silences that line. The package works either way.

    Returns:
        The library now under MLX's CPU products ("preloaded" if the process was started with a BLAS of its
        own), or None where MLX keeps the BLAS it came with.
    """
    if sys.platform != "linux":
        return None
    if hasattr(ctypes.CDLL(None), "cblas_sgemm"):
        return "preloaded"
    try:
        ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        _say(
            "OpenBLAS not found; matrix products on the CPU will be 15 to 30 times slower. "
            "Install it with: apt-get install libopenblas0"
        )
        return None
    if "mlx.core" in sys.modules:
        _say(
            "MLX was imported too early for OpenBLAS; matrix products on the CPU will be 15 to 30 times "
            f"slower. Import titans_mlx before mlx, or start Python with LD_PRELOAD={LIBRARY}"
        )
        return None
    return LIBRARY


def _say(message: str) -> None:
    if os.environ.get("TITANS_MLX_QUIET") != "1":
        print(f"titans_mlx: {message}", file=sys.stderr)
