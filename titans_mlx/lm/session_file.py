"""A session on the disk: whole or absent, and of one model only."""

import hashlib
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from titans_mlx.model import Titans
from titans_mlx.training.checkpoint import read_arrays, write_arrays

FORMAT = "titans_mlx.session.3"


def write_session(path: Path, model: Titans, arrays: dict[str, mx.array], position: int) -> None:
    """Write a session's arrays to a safetensors file, whole or not at all, with the model's fingerprint and a digest.

    Raises:
        OSError: the file cannot be written.
        ValueError: ``path`` does not end in ``.safetensors``.
    """
    metadata = {"format": FORMAT, "position": str(position), "model": fingerprint(model)}
    metadata["digest"] = _digest(arrays, metadata)
    write_arrays(path, arrays, metadata)


def read_session(path: Path, model: Titans) -> tuple[dict[str, mx.array], int]:
    """The arrays, evaluated, and the position that :func:`write_session` stored.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or no session's, or of another model.
    """
    arrays, metadata = read_arrays(path, "session")
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not a session: its format is {metadata.get('format')!r}, not {FORMAT!r}")
    if metadata.get("digest") != _digest(arrays, metadata):
        raise ValueError(f"session {path} is damaged: its contents are not those that were saved")
    if metadata["model"] != fingerprint(model):
        raise ValueError(f"session {path} is another model's: configuration or weights differ from this one's")
    mx.eval(list(arrays.values()))
    return arrays, int(metadata["position"])


def fingerprint(model: Titans) -> str:
    """SHA-256 of a model's configuration and of all its parameters."""
    arrays = dict(tree_flatten(model.parameters()))
    return _digest(arrays, {"config": json.dumps(model.config.changes(), sort_keys=True)})


def _digest(arrays: dict[str, mx.array], texts: dict[str, str]) -> str:
    """SHA-256 of named arrays and of texts, but for one called ``digest``."""
    found = hashlib.sha256()
    for name, text in sorted(texts.items()):
        if name != "digest":
            found.update(f"{name}\0{text}\0".encode())
    for name, array in sorted(arrays.items()):
        found.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
        found.update(np.ascontiguousarray(np.array(mx.contiguous(array).view(mx.uint8))))
    return found.hexdigest()
