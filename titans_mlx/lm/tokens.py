"""Token files: a corpus tokenised once, and read from the disk as it is needed."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np

from titans_mlx._check import check_count
from titans_mlx.lm.corpus import documents, split
from titans_mlx.lm.tokenizer import END_ID, Bytes
from titans_mlx.tasks.text import Part
from titans_mlx.training.files import TEMPORARY, replacing, write_json

META = "tokens.json"


@dataclass(frozen=True)
class Tokens:
    """One part of a corpus.

    Attributes:
        ids: (N,) the documents one after the other, each followed by the end of a document; on the disk.
        starts: (D,) where each document begins.
        bytes: of the text in UTF-8.
        text_sha256: of the texts of the whole corpus.
    """

    ids: np.ndarray
    starts: np.ndarray
    bytes: int
    text_sha256: str

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text for a token, on average."""
        return self.bytes / len(self.ids)

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

    def documents(self, count: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(tokens, targets), each (count, length), windows that begin where a document does and stay within it.

        Documents are drawn without replacement as long as there are enough.

        Raises:
            ValueError: no document has ``length + 1`` tokens.
        """
        check_count("count", count)
        check_count("length", length)
        sizes = np.diff(np.append(self.starts, len(self.ids)))
        fitting = self.starts[sizes > length]
        if not len(fitting):
            raise ValueError(f"length must be below the longest document, {sizes.max()} tokens, got {length}")
        rng = np.random.default_rng(seed)
        starts = rng.permutation(fitting)[:count]
        if len(starts) < count:
            starts = np.append(starts, rng.choice(fitting, count - len(starts)))
        return _windows(self.ids, starts, length)


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
        ids = np.memmap(self.folder / f"{part}.bin", dtype=self.meta["dtype"], mode="r")
        starts = np.load(self.folder / f"{part}.starts.npy")
        return Tokens(ids, starts, self.meta["parts"][part]["bytes"], self.meta["text_sha256"])


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
    """The parts of a source by its bytes, in memory: for corpora of some megabytes."""
    parts: dict[Part, list[bytes]] = {part: [] for part in get_args(Part)}
    digest = hashlib.sha256()
    for part, document in split(documents(source)):
        parts[part].append(document.text.encode())
        digest.update(parts[part][-1])
    found = {}
    for part, texts in parts.items():
        ends = np.cumsum([len(text) + 1 for text in texts])
        ids = np.full(ends[-1], END_ID, dtype=np.uint16)
        starts = np.concatenate([[0], ends[:-1]])
        for start, text in zip(starts, texts, strict=True):
            ids[start : start + len(text)] = np.frombuffer(text, dtype=np.uint8)
        found[part] = Tokens(ids, starts, sum(map(len, texts)), digest.hexdigest())
    return found


def _write(source: str, folder: Path, tokenizer: Any) -> dict[str, Any]:
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    end = tokenizer.eos_token_id
    digest = hashlib.sha256()
    parts: dict[str, dict[str, int]] = {part: {"tokens": 0, "bytes": 0} for part in get_args(Part)}
    starts: dict[str, list[int]] = {part: [] for part in parts}
    files = {part: (folder / f"{TEMPORARY}{part}.bin").open("wb") for part in parts}
    try:
        for part, document in split(documents(source)):
            ids = list(tokenizer.encode(document.text)) + ([] if end is None else [end])
            size = len(document.text.encode())
            digest.update(document.text.encode())
            starts[part].append(parts[part]["tokens"])
            files[part].write(np.array(ids, dtype=dtype).tobytes())
            parts[part] = {"tokens": parts[part]["tokens"] + len(ids), "bytes": parts[part]["bytes"] + size}
    finally:
        for file in files.values():
            file.close()
    for part, file in files.items():
        if not parts[part]["tokens"]:
            raise ValueError(f"source must hold text for every part, got none for {part} from {source!r}")
        Path(file.name).replace(folder / f"{part}.bin")
        with replacing(folder / f"{part}.starts.npy") as temporary, temporary.open("wb") as written:
            np.save(written, np.array(starts[part], dtype=np.int64))
    return {"dtype": np.dtype(dtype).name, "text_sha256": digest.hexdigest(), "parts": parts}


def _name(tokenizer: Any) -> str:
    """What tells one tokenizer from another: bytes, or the hash of its vocabulary."""
    if isinstance(tokenizer, Bytes):
        return "bytes"
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items())).encode()
    return f"{type(tokenizer).__name__} {hashlib.sha256(vocabulary).hexdigest()[:16]}"


def _windows(ids: np.ndarray, starts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    windows = np.stack([ids[start : start + length + 1] for start in starts]).astype(np.int32)
    return windows[:, :-1], windows[:, 1:]
