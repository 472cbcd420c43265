"""A run on disk: what was asked, what came out, where it came from, and how to go on."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.nn as nn
import mlx.optimizers as optim

from titans_mlx.training.checkpoint import load_checkpoint, save_checkpoint
from titans_mlx.training.config import TrainConfig
from titans_mlx.training.files import write_json, write_text
from titans_mlx.training.provenance import provenance

Record = dict[str, Any]
KEEP = 2


class RunFolder:
    """``config.json``, ``metrics.jsonl``, ``provenance.json`` and the last two of ``checkpoints/``.

    One process writes at a time. ``metrics.jsonl`` grows line by line, everything else is replaced whole,
    so a process killed at any moment leaves a folder that can be resumed: records later than the last
    checkpoint are dropped and made again.

    Args:
        path: the folder; made when the run begins.
        settings: what else defines the run (model, task, ...): JSON values or dataclasses, stored in
            ``config.json`` beside ``train`` and compared when the run is resumed.

    Raises:
        ValueError: ``settings`` has a key ``train``.
    """

    def __init__(self, path: Path | str, settings: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.settings = dict(settings or {})
        if "train" in self.settings:
            raise ValueError("settings must not have the key 'train': it holds the TrainConfig")

    @property
    def metrics_path(self) -> Path:
        """``metrics.jsonl``: one record a line."""
        return self.path / "metrics.jsonl"

    @property
    def config(self) -> dict[str, Any]:
        """The stored ``config.json``."""
        return json.loads((self.path / "config.json").read_text(encoding="utf-8"))

    @property
    def provenance(self) -> dict[str, Any]:
        """The stored ``provenance.json``: of the latest session, with the earlier ones under ``earlier``."""
        return json.loads((self.path / "provenance.json").read_text(encoding="utf-8"))

    def begin(self, config: TrainConfig) -> None:
        """Store the configuration, or compare it with the stored one, and note where this session runs.

        Raises:
            ValueError: the folder belongs to a run with another configuration; the message names the first
                difference.
        """
        given = json.loads(json.dumps({"train": config, **self.settings}, default=_dataclass_dict, allow_nan=False))
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "checkpoints").mkdir(exist_ok=True)
        if (self.path / "config.json").exists():
            self._compare(given)
        else:
            write_json(self.path / "config.json", given)
        now, earlier, seconds = provenance(), [], 0.0
        if (self.path / "provenance.json").exists():
            before = self.provenance
            seconds, earlier = before.pop("seconds"), before.pop("earlier")
            earlier.append({name: value for name, value in before.items() if now.get(name) != value})
        write_json(self.path / "provenance.json", {**now, "seconds": seconds, "earlier": earlier})

    def append(self, record: Record) -> None:
        """Add one line to ``metrics.jsonl``."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def records(self) -> list[Record]:
        """All whole records; a torn last line is left out.

        Raises:
            ValueError: a line before the last is no JSON.
        """
        if not self.metrics_path.exists():
            return []
        whole, _, _ = self.metrics_path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
        records = []
        for number, line in enumerate(whole.split("\n") if whole else [], start=1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{self.metrics_path} line {number} is no JSON: {line[:80]!r}") from error
        return records

    def checkpoints(self) -> list[Path]:
        """Stored checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*.safetensors"))

    def save(self, model: nn.Module, optimizer: optim.Optimizer, step: int, seconds: float) -> Path:
        """Write the checkpoint of ``step``, drop all but the newest two, note the seconds trained so far."""
        self._flush_metrics()
        path = self.path / "checkpoints" / f"step-{step:08d}.safetensors"
        save_checkpoint(path, model, optimizer, step)
        for old in self.checkpoints()[:-KEEP]:
            old.unlink()
        write_json(self.path / "provenance.json", {**self.provenance, "seconds": round(seconds, 3)})
        return path

    def restore(self, model: nn.Module, optimizer: optim.Optimizer) -> tuple[int | None, list[Record]]:
        """Go back to the newest checkpoint, and drop the records made after it.

        Returns:
            Its step and the records up to it; ``(None, [])`` where there is no checkpoint yet.

        Raises:
            ValueError: the checkpoint is damaged or belongs to another model.
        """
        checkpoints = self.checkpoints()
        step = load_checkpoint(checkpoints[-1], model, optimizer) if checkpoints else None
        kept = [] if step is None else [record for record in self.records() if record["step"] <= step]
        write_text(self.metrics_path, "".join(json.dumps(record) + "\n" for record in kept))
        return step, kept

    def _flush_metrics(self) -> None:
        """A checkpoint must never reach the disk before the records that lead to it."""
        with self.metrics_path.open("ab") as file:
            os.fsync(file.fileno())

    def _compare(self, given: dict[str, Any]) -> None:
        stored, wanted = _leaves(self.config), _leaves(given)
        for name in sorted(stored.keys() | wanted.keys()):
            old, new = stored.get(name, "absent"), wanted.get(name, "absent")
            if old != new:
                raise ValueError(
                    f"config of run folder {self.path} has {name} = {old!r}, got {new!r}: "
                    f"resume with the stored configuration or give another folder"
                )


def _dataclass_dict(value: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"settings must hold JSON values or dataclasses, got {type(value).__name__}")


def _leaves(tree: Any, name: str = "") -> dict[str, Any]:
    """Dotted names of a JSON tree's objects; lists are leaves."""
    if not isinstance(tree, dict):
        return {name: tree}
    return {
        path: leaf
        for key, value in tree.items()
        for path, leaf in _leaves(value, f"{name}.{key}" if name else key).items()
    }
