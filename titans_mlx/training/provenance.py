"""Where a number came from: commit, source, versions, machine, time."""

import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlx.core as mx

PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARIES = ("mlx", "mlx-lm", "numpy")


def provenance() -> dict[str, Any]:
    """A JSON-serialisable record of the code and the machine, now.

    Returns:
        ``commit`` (None outside a git repository that tracks the package) and ``dirty`` (the package's
        files differ from it), ``source_hash``, ``versions``, ``platform``, ``machine``, ``processor``,
        ``cores``, ``started`` (UTC).
    """
    commit, dirty = _git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "source_hash": source_hash(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _LIBRARIES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": mx.device_info().get("device_name") or platform.processor(),
        "cores": os.cpu_count(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def source_hash(folder: Path = PACKAGE) -> str:
    """SHA-256 over names and contents of all Python files below ``folder``, in the order of their names."""
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_state() -> tuple[str | None, bool | None]:
    # An environment inside somebody else's repository must not lend us its commit.
    if _git("ls-files", "--error-unmatch", __file__) is None:
        return None, None
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", str(PACKAGE))
    return commit, None if changes is None else bool(changes)


def _git(*arguments: str) -> str | None:
    """Output of a git command run at the package; None where git or the repository is missing."""
    command = ["git", "-C", str(PACKAGE), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
