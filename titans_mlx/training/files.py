"""Files that are whole or absent, whenever the process is killed."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

TEMPORARY = ".tmp-"
_turns: dict[str, RLock] = {}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block ends well, its file takes the place of ``path``.

    File and folder are flushed to the disk, so that neither SIGKILL nor a power cut leaves half a file
    under the name. Threads that write the same file take turns; of several processes one may write it at a time.
    """
    temporary = path.with_name(TEMPORARY + path.name)
    # One step of the interpreter, as a look-up by Path would not be.
    with _turns.setdefault(str(path.absolute()), RLock()):
        try:
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole file, or leave what was there."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; NaN and infinity are a ``ValueError``."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def replace_between(path: Path, texts: Mapping[tuple[str, str], str]) -> None:
    """Replace what stands between pairs of marks of a text file, the marks themselves kept: all of it, or nothing.

    Raises:
        ValueError: unless each mark is there once, those of a pair in order.
    """
    whole = path.read_text(encoding="utf-8")
    for (begin, end), text in texts.items():
        if any(whole.count(mark) != 1 for mark in (begin, end)) or whole.index(begin) > whole.index(end):
            raise ValueError(f"{path.name} must hold the marks {begin} and {end} once each, in this order")
        before, after = whole[: whole.index(begin)], whole[whole.index(end) + len(end) :]
        whole = f"{before}{begin}\n{text}\n{end}{after}"
    write_text(path, whole)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
