"""Token files: a corpus tokenised once, and read from the disk as it is needed."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np

from titans_mlx._check import check_count
from titans_mlx.lm.corpus import documents, split
from titans_mlx.lm.tokenizer import Bytes, encode
from titans_mlx.tasks.text import Part
from titans_mlx.training.files import replacing, write_json

META = "tokens.json"


@dataclass(frozen=True)
class Tokens:
    """One part of a corpus.

    Attributes:
        ids: (N,) the documents one after the other, each followed by the end of a document; on the disk.
        starts: (D,) where each document begins.
        bytes: of the text in UTF-8.
        text_sha256: of the texts of the whole corpus.
        ends: how many of the ids are ends of a document.
    """

    ids: np.ndarray
    starts: np.ndarray
    bytes: int
    text_sha256: str
    ends: int = 0

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text for a token, on average, ends of documents among them."""
        return self.bytes / len(self.ids)

    @property
    def bytes_per_token_within(self) -> float:
        """Bytes of text for a token within a document, on average."""
        return self.bytes / (len(self.ids) - self.ends)

    def batches(
        self, batch_size: int, length: int, seed: int | tuple[int, ...]
    ) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
        """Step -> (tokens, targets), each (batch_size, length) int32, windows from anywhere in the part.

        Raises:
            ValueError: a count is below 1, or the part has no more than ``length`` tokens.
        """
        check_count("batch_size", batch_size)
        check_count("length", length)
        if len(self.ids) <= length:
            raise ValueError(f"length must be below the {len(self.ids)} tokens of the part, got {length}")

        own = seed if isinstance(seed, tuple) else (seed,)

        def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
            starts = np.random.default_rng((*own, step)).integers(len(self.ids) - length, size=batch_size)
            return _windows(self.ids, starts, length)

        return batch

    def windows_within(self, length: int) -> np.ndarray:
        """Where windows of ``length`` tokens and a target begin that lie within a document: at its start, and one
        after the other."""
        check_count("length", length)
        sizes = np.diff(np.append(self.starts, len(self.ids)))
        counts = np.maximum(sizes - 1, 0) // length
        inside = np.concatenate([np.arange(count) for count in counts])
        return np.repeat(self.starts, counts) + inside * length

    def documents(self, count: int, length: int, seed: int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(tokens, targets), each (count, length), different windows that each lie within a document.

        Raises:
            ValueError: there are fewer such windows.
        """
        check_count("count", count)
        starts = self.windows_within(length)
        if len(starts) < count:
            raise ValueError(
                f"count must be at most the {len(starts)} windows of {length} tokens there are, got {count}"
            )
        return _windows(self.ids, np.random.default_rng(seed).permutation(starts)[:count], length)


@dataclass(frozen=True)
class Corpus:
    """A tokenised source on the disk.

    Attributes:
        folder: where its files are.
        meta: source, tokenizer, tokens and bytes of each part, and the SHA-256 of the text.
    """

    folder: Path
    meta: dict[str, Any]

    @cached_property
    def train(self) -> Tokens:
        """80 per cent, to learn from."""
        return self._part("train")

    @cached_property
    def validation(self) -> Tokens:
        """10 per cent, to choose by."""
        return self._part("validation")

    @cached_property
    def test(self) -> Tokens:
        """10 per cent, looked at once."""
        return self._part("test")

    def _part(self, part: Part) -> Tokens:
        path, wanted = self.folder / f"{part}.bin", self.meta["parts"][part]["tokens"]
        size = wanted * np.dtype(self.meta["dtype"]).itemsize
        if path.stat().st_size != size:
            raise ValueError(f"{path} is damaged: it has {path.stat().st_size} bytes, not {size}; remove its folder")
        ids = np.memmap(path, dtype=self.meta["dtype"], mode="r")
        starts = np.load(self.folder / f"{part}.starts.npy")
        counts = self.meta["parts"][part]
        # Folders prepared before ends were counted do not say how many.
        return Tokens(ids, starts, counts["bytes"], self.meta["text_sha256"], counts.get("ends", 0))


def prepare(source: str, folder: Path | str, tokenizer: Any = None) -> Corpus:
    """Tokenise a source into a folder, or open what was tokenised there before.

    Args:
        source: as for :func:`~titans_mlx.lm.corpus.documents`.
        folder: made where it is missing. Files are written under other names and renamed when whole.
        tokenizer: a Hugging Face tokenizer; None: bytes.

    Raises:
        ValueError: the source holds no text, or the folder the tokens of another source or tokenizer.
    """
    folder, tokenizer = Path(folder), Bytes() if tokenizer is None else tokenizer
    wanted = {"source": str(source), "tokenizer": _name(tokenizer), "vocab_size": len(tokenizer)}
    if (folder / META).exists():
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        for name, value in wanted.items():
            if meta[name] != value:
                raise ValueError(
                    f"{folder} holds tokens of {name} = {meta[name]!r}, got {value!r}: give another folder"
                )
        return Corpus(folder, meta)
    folder.mkdir(parents=True, exist_ok=True)
    meta = wanted | _write(source, folder, tokenizer)
    write_json(folder / META, meta)
    return Corpus(folder, meta)


def gather(source: str) -> dict[Part, Tokens]:
    """The parts of a source by its bytes, in memory: for corpora of some megabytes.

    Raises:
        ValueError: a part has no text.
    """
    ids: dict[Part, list[np.ndarray]] = {part: [] for part in get_args(Part)}
    written = _Written(source)
    for part, found in written.tokenised(Bytes(), np.uint16):
        ids[part].append(found)
    meta = written.meta()
    return {
        part: Tokens(
            np.concatenate(found),
            np.array(written.starts[part]),
            meta["parts"][part]["bytes"],
            meta["text_sha256"],
            meta["parts"][part]["ends"],
        )
        for part, found in ids.items()
    }


class _Written:
    """A source on its way into tokens, and what there is to say of it afterwards."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.parts: dict[str, dict[str, int]] = {part: {"tokens": 0, "bytes": 0, "ends": 0} for part in get_args(Part)}
        self.starts: dict[str, list[int]] = {part: [] for part in self.parts}
        self.digest = hashlib.sha256()

    def tokenised(self, tokenizer: Any, dtype: type) -> Iterator[tuple[Part, np.ndarray]]:
        """The part and the ids of each document, its end included."""
        end = tokenizer.eos_token_id
        for part, document in split(documents(self.source)):
            text = document.text.encode()
            if isinstance(tokenizer, Bytes):
                ids = np.frombuffer(text, dtype=np.uint8).astype(dtype)
            else:
                ids = np.array(encode(tokenizer, document.text), dtype=dtype)
            ids = ids if end is None else np.append(ids, np.array(end, dtype=dtype))
            self.digest.update(text)
            self.starts[part].append(self.parts[part]["tokens"])
            self.parts[part]["tokens"] += len(ids)
            self.parts[part]["bytes"] += len(text)
            self.parts[part]["ends"] += end is not None
            yield part, ids

    def meta(self) -> dict[str, Any]:
        for part, counts in self.parts.items():
            if not counts["tokens"]:
                raise ValueError(f"source must hold text for every part, got none for {part} from {self.source!r}")
        return {"text_sha256": self.digest.hexdigest(), "parts": self.parts}


def _write(source: str, folder: Path, tokenizer: Any) -> dict[str, Any]:
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    written = _Written(source)
    with ExitStack() as stack:
        paths = {part: stack.enter_context(replacing(folder / f"{part}.bin")) for part in written.parts}
        with ExitStack() as opened:
            files = {part: opened.enter_context(path.open("wb")) for part, path in paths.items()}
            for part, ids in written.tokenised(tokenizer, dtype):
                files[part].write(ids.tobytes())
        meta = written.meta()
    for part, starts in written.starts.items():
        with replacing(folder / f"{part}.starts.npy") as temporary, temporary.open("wb") as file:
            np.save(file, np.array(starts, dtype=np.int64))
    return {"dtype": np.dtype(dtype).name, **meta}


def _name(tokenizer: Any) -> str:
    """What tells one tokenizer from another: bytes, or the hash of its vocabulary."""
    if isinstance(tokenizer, Bytes):
        return "bytes"
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items())).encode()
    return f"{type(tokenizer).__name__} {hashlib.sha256(vocabulary).hexdigest()[:16]}"


def _windows(ids: np.ndarray, starts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    windows = np.stack([ids[start : start + length + 1] for start in starts]).astype(np.int32)
    return windows[:, :-1], windows[:, 1:]
