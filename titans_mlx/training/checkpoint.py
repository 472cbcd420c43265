"""Checkpoints: one safetensors file with everything a step depends on."""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map_with_path

from titans_mlx._random import set_random_state
from titans_mlx.training.files import replacing

FORMAT = "titans_mlx.checkpoint.1"
_MODEL, _OPTIMIZER, _RANDOM = "model.", "optimizer.", "random"


def save_checkpoint(path: Path | str, model: nn.Module, optimizer: optim.Optimizer, step: int) -> None:
    """Write parameters, optimiser state, this thread's random state and the step, whole or not at all.

    Args:
        path: the file, ending in ``.safetensors``.
        model: all its parameters are stored, frozen ones too.
        optimizer: its state must have been formed (``optimizer.init``).
        step: updates made so far.

    Raises:
        OSError: the file cannot be written.
        ValueError: ``path`` does not end in ``.safetensors``.
    """
    arrays = _named(_MODEL, model.parameters()) | _named(_OPTIMIZER, optimizer.state)
    write_arrays(Path(path), arrays | {_RANDOM: mx.random.state[0]}, {"format": FORMAT, "step": str(step)})


def load_checkpoint(path: Path | str, model: nn.Module, optimizer: optim.Optimizer) -> int:
    """Restore what :func:`save_checkpoint` stored, in place, and return the step.

    Every name, shape and dtype is compared first; on any error model, optimiser and random state are as
    before.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or no checkpoint, or does not fit the model (the message names the
            parameter).
    """
    arrays, step = _read(Path(path))
    _check(path, _MODEL, _named(_MODEL, model.parameters()), arrays)
    _check(path, _OPTIMIZER, _named(_OPTIMIZER, optimizer.state), arrays)
    model.update(_filled(_MODEL, model.parameters(), arrays))
    optimizer.state = _filled(_OPTIMIZER, optimizer.state, arrays)
    optimizer.init(model.trainable_parameters())
    set_random_state(arrays[_RANDOM])
    return step


def load_parameters(path: Path | str, model: nn.Module) -> int:
    """Restore the model's parameters alone from a checkpoint, for evaluation, and return the step.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as :func:`load_checkpoint`.
    """
    arrays, step = _read(Path(path))
    _check(path, _MODEL, _named(_MODEL, model.parameters()), arrays)
    model.update(_filled(_MODEL, model.parameters(), arrays))
    return step


def _named(prefix: str, tree: dict) -> dict[str, mx.array]:
    return {prefix + name: leaf for name, leaf in tree_flatten(tree) if isinstance(leaf, mx.array)}


def _filled(prefix: str, tree: dict, arrays: dict[str, mx.array]) -> dict:
    return tree_map_with_path(lambda name, leaf: arrays.get(prefix + name, leaf), tree)


def _read(path: Path) -> tuple[dict[str, mx.array], int]:
    """All arrays, evaluated: MLX reads lazily, and the file may be replaced later."""
    arrays, metadata = read_arrays(path, "checkpoint")
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint: its format is {metadata.get('format')!r}, not {FORMAT!r}")
    step = metadata.get("step", "")
    random = arrays.get(_RANDOM)
    if not step.isdecimal() or random is None or (random.shape, random.dtype) != ((2,), mx.uint32):
        raise ValueError(f"checkpoint {path} is damaged: it has no step or no random state")
    mx.eval(list(arrays.values()))
    return arrays, int(step)


def write_arrays(path: Path, arrays: dict[str, mx.array], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OSError: the file cannot be written.
        ValueError: ``path`` does not end in ``.safetensors``.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {str(path)!r}")
    with replacing(path) as temporary:
        try:
            mx.save_safetensors(str(temporary), arrays, metadata)
        except RuntimeError as error:
            raise OSError(f"{path} cannot be written: {error}") from error


def read_arrays(path: Path, what: str) -> tuple[dict[str, mx.array], dict[str, str]]:
    """Arrays, not evaluated, and metadata of a whole safetensors file; ``what`` is for the messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged.
    """
    _check_complete(path, what)
    try:
        return mx.load(str(path), return_metadata=True)
    except RuntimeError as error:
        raise ValueError(f"{what} {path} is damaged: it cannot be read as safetensors") from error


def _check_complete(path: Path, what: str) -> None:
    """Compare the size of the file with what its header promises."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        header = file.read(header_size) if 8 + header_size <= size else b""
    try:
        entries = json.loads(header)
        promised = max(entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{what} {path} is damaged: it has no readable safetensors header") from error
    if size != 8 + header_size + promised:
        raise ValueError(
            f"{what} {path} is damaged: it has {size} bytes where its header promises {8 + header_size + promised}"
            + ("; remove it to resume from the one before" if what == "checkpoint" else "")
        )


def _check(path: Path | str, prefix: str, wanted: dict[str, mx.array], found: dict[str, mx.array]) -> None:
    """Raise on the first name that differs, is missing or is too many."""
    what = "parameter" if prefix == _MODEL else "optimizer state"
    surplus = [name for name in found if name.startswith(prefix) and name not in wanted]
    if surplus:
        raise ValueError(f"checkpoint {path} has {what} {surplus[0].removeprefix(prefix)!r}, the model has not")
    for name, array in wanted.items():
        shown = repr(name.removeprefix(prefix))
        if name not in found:
            raise ValueError(f"checkpoint {path} has no {what} {shown}, the model has")
        ours, theirs = (array.shape, array.dtype), (found[name].shape, found[name].dtype)
        if ours != theirs:
            raise ValueError(
                f"{what} {shown} is {theirs[1]} of shape {theirs[0]} in checkpoint {path}, "
                f"but {ours[1]} of shape {ours[0]} in the model"
            )
