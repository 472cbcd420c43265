"""Text to train on: documents from files, folders, jsonl, a data set by name, or Python's own standard library."""

import hashlib
import json
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from titans_mlx.tasks.text import SHARES, Part

STANDARD_LIBRARY = "stdlib"
FEW = 100
"""With fewer documents each is cut into the parts, one of which might else be empty; with more each belongs to one."""
_LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "lib-dynload", "__pycache__"}


class Document(NamedTuple):
    """A text that stands on its own.

    Attributes:
        name: what decides the part it belongs to; documents of one name stay together.
        text: its contents.
    """

    name: str
    text: str


def documents(source: str) -> Iterator[Document]:
    """The documents of a source, always in the same order.

    Args:
        source: ``"stdlib"``: the source of the installed Python's standard library, named by top-level module, without
            its tests; a text file; a ``.jsonl`` file with a text under ``text`` in every line; a folder, of which every
            file in UTF-8 is a document; else the name of a Hugging Face data set with a column ``text``, which needs
            the package ``datasets`` and a network.

    Raises:
        ValueError: nothing of that name, or no text in it.
    """
    found = 0
    for document in _documents(source):
        if document.text:
            found += 1
            yield document
    if not found:
        raise ValueError(f"source must hold text, got {source!r}, which holds none")


def _documents(source: str) -> Iterable[Document]:
    path = Path(source)
    if source == STANDARD_LIBRARY:
        return _standard_library()
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".jsonl" and path.is_file():
        return _lines(path)
    if path.is_file():
        return [Document(path.name, path.read_text(encoding="utf-8", errors="replace"))]
    return _hugging_face(source)


def split(found: Iterable[Document]) -> Iterator[tuple[Part, Document]]:
    """Each document with its part: 80, 10 and 10 per cent train, validation and test.

    By a hash of its name; where there are fewer than 100 documents, each is cut into the three instead.
    """
    found = iter(found)
    first = [document for _, document in zip(range(FEW), found, strict=False)]
    if len(first) < FEW:
        for document in first:
            for part, (begin, end) in SHARES.items():
                begin, end = (round(share * len(document.text)) for share in (begin, end))
                if begin < end:
                    yield part, Document(document.name, document.text[begin:end])
        return
    for group in (first, found):
        for document in group:
            yield part_of(document.name), document


def part_of(name: str) -> Part:
    """The part of a document, by its name alone."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32
    return next(part for part, (begin, end) in SHARES.items() if begin <= share < end)


def _standard_library() -> Iterator[Document]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if not _LEFT_OUT.intersection(inside.parts):
            yield Document(inside.parts[0].removesuffix(".py"), path.read_text(encoding="utf-8", errors="replace"))


def _folder(folder: Path) -> Iterator[Document]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        yield Document(inside.as_posix(), text)


def _lines(path: Path) -> Iterator[Document]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)["text"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f"{path} line {number} must be a JSON object with a key 'text'") from error
            if not isinstance(text, str):
                raise ValueError(f"{path} line {number} must have a text under 'text', got {text!r}")
            # JSON can hold halves of characters that UTF-8 cannot.
            yield Document(f"{path.name}:{number}", text.encode(errors="replace").decode())


def _hugging_face(name: str) -> Iterator[Document]:
    problem = f"source must be 'stdlib', a file, a folder or a data set, got {name!r}: there is no such file or folder"
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ValueError(f"{problem}, and the package datasets is not installed") from error
    try:
        rows = load_dataset(name, split="train", streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{problem}, and no data set of that name can be had: {error}") from error
    for number, row in enumerate(rows):
        if "text" not in row:
            raise ValueError(f"data set {name!r} must have a column 'text', got {sorted(row)}")
        yield Document(f"{name}:{number}", row["text"])
