"""A memory that lasts a session: what a model learns while it reads, as a value that can be kept, copied and undone."""

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from titans_mlx._check import check_count, check_type
from titans_mlx.lm import slots
from titans_mlx.lm.generate import generate
from titans_mlx.lm.session_file import read_session, write_session
from titans_mlx.lm.tokenizer import Bytes, encode
from titans_mlx.memory import MemoryState, NeuralMemory
from titans_mlx.memory.trace import Recorder, Work
from titans_mlx.model import Titans

FILE_PIECE = 1 << 20
"""Characters of a file tokenised at a time; a piece ends with a line where there is one."""

Source = str | Path | Sequence[int] | np.ndarray | mx.array


class Snapshot(NamedTuple):
    """A session's whole state at one moment; a value.

    Attributes:
        states: one block state per layer, all None before the first token.
        logits: (1, vocab_size) after the last token, or None.
        position: tokens read.
    """

    states: tuple[Any, ...]
    logits: mx.array | None
    position: int


class Surprise(NamedTuple):
    """How unexpected a text is to a session.

    Attributes:
        ids: the T tokens.
        bits: (T,) ``-log2 p`` of each token; NaN for the first where nothing was read before it.
        works: what each memory of the model did at each token (its surprise ``||u_t||``, gates, movement), where asked.
    """

    ids: list[int]
    bits: np.ndarray
    works: list[Work]


class MemorySession:
    """A model and what it has read so far. Its learning is its own: sessions of one model never see each other.

    A session ends with its object; only :meth:`save` keeps it, and only :meth:`promote` makes it part of a model, of a
    new one. One thread at a time may use a session; any number of sessions may run at once.

    Args:
        model: a trained :class:`~titans_mlx.model.Titans`; never changed.
        tokenizer: a Hugging Face tokenizer, or mlx-lm's wrapper of one; None: bytes, for a model of 256 ids or more.
        piece: tokens read at a time. Memory in use does not depend on how much is read.

    Raises:
        ValueError: ``model`` is no Titans, ``piece`` is below 1, or the tokenizer has more ids than the model.
    """

    def __init__(self, model: Titans, tokenizer: Any = None, piece: int = 1024) -> None:
        check_type("model", model, Titans)
        check_count("piece", piece)
        if tokenizer is None and model.config.vocab_size < 256:
            raise ValueError(
                f"tokenizer must be given for a model of fewer ids than bytes, vocab_size={model.config.vocab_size}"
            )
        if tokenizer is not None and len(tokenizer) > model.config.vocab_size:
            raise ValueError(f"tokenizer must have at most {model.config.vocab_size} ids, got {len(tokenizer)}")
        self.model = model
        self.tokenizer = Bytes() if tokenizer is None else tokenizer
        self.piece = piece
        self._now = self._born()

    def _born(self) -> Snapshot:
        return Snapshot((None,) * len(self.model.layers), None, 0)

    @property
    def position(self) -> int:
        """Tokens read since birth, generated ones included."""
        return self._now.position

    @property
    def nbytes(self) -> int:
        """Bytes of the state; without full attention it stops growing when the window is full."""
        return sum(array.nbytes for _, array in tree_flatten(self._now.states) if isinstance(array, mx.array))

    def feed(self, source: Source, progress: Callable[[int], None] | None = None) -> int:
        """Read on, in constant memory, and learn from it.

        Args:
            source: a text, a ``Path`` of a text file in UTF-8, or token ids (T,); a memory-mapped array is read from
                its file as it is needed.
            progress: called with the tokens read so far, after each piece.

        Returns:
            Tokens read.

        Raises:
            FileNotFoundError: no such file.
            ValueError: ids that are no ids of the model; the session is as it was.
        """
        now = self._now
        try:
            for ids in self._pieces(source):
                self._read(ids, now.position, progress)
        except BaseException:
            self._now = now
            raise
        return self.position - now.position

    def generate(self, prompt: str = "", max_tokens: int = 256, **options: Any) -> str:
        """Continue a prompt. The prompt and what is generated are read like everything else.

        Args:
            prompt: may be empty where something was read before.
            max_tokens: at least 1; the tokenizer's end of a document ends a text before.
            options: ``temperature``, ``top_p``, ``min_p``, ``top_k`` and ``seed`` of
                :func:`~titans_mlx.lm.generate.generate`; greedy without.

        Raises:
            ValueError: nothing to continue, or an option out of its range; the session is as it was.
        """
        ids = self._encode(prompt, "prompt")
        if not ids and self._now.logits is None:
            raise ValueError("prompt must not be empty before anything was read, got ''")
        now = self._now
        try:
            new = self._generate(ids, max_tokens, options)
        except BaseException:
            self._now = now
            raise
        return self.tokenizer.decode(new)

    def _generate(self, ids: list[int], max_tokens: int, options: dict[str, Any]) -> list[int]:
        if ids:
            self._read(ids, self.position, None)
        end = getattr(self.tokenizer, "eos_token_id", None)
        stop = (end,) if end is not None and end < self.model.config.vocab_size else ()
        states, before = list(self._now.states), self._now
        new = generate(self.model, None, max_tokens, cache=states, logits=before.logits, stop=stop, **options)
        new = new[0].tolist()
        # The cache holds all of it but the last token.
        self._now = Snapshot(tuple(states), before.logits, before.position + len(new) - 1)
        self._read(new[-1:], self.position, None)
        return [number for number in new if number not in stop]

    def surprise(self, source: str | Sequence[int], trace: bool = False) -> Surprise:
        """How unexpected a text would be if it came next. The session does not read it.

        Args:
            source: a text or token ids.
            trace: also what each memory did at every token, by the definition: slow, for some thousand tokens.

        Raises:
            ValueError: nothing to read, or ids that are no ids of the model.
        """
        ids = self._encode(source)
        tokens = self._tokens(ids)
        self.model.check_tokens("source", tokens)
        states, recorder = list(self._now.states), Recorder()
        before = self._now.logits
        if before is None:
            before = mx.full((1, self.model.config.vocab_size), mx.nan)
        bits = []
        for start in range(0, len(ids), self.piece):
            piece = tokens[:, start : start + self.piece]
            logits = self.model.logits(self.model.hidden(piece, states, recorder if trace else None))[0]
            seen = mx.concatenate([before, logits[:-1]]).astype(mx.float32)
            log_probs = mx.take_along_axis(nn.log_softmax(seen), piece[0][:, None], axis=-1)[:, 0]
            bits.append(np.array(-log_probs / np.log(2)))
            before = logits[-1:]
            mx.eval(before, states)
        return Surprise(ids, np.concatenate(bits), recorder.traces() if trace else [])

    def snapshot(self) -> Snapshot:
        """The state as it is now, for :meth:`restore`."""
        return self._now

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of a session of this model, or forward.

        Raises:
            ValueError: it is of another model's shape.
        """
        check_type("snapshot", snapshot, Snapshot)
        self.model.check_cache(list(snapshot.states), 1)
        if snapshot.logits is not None and snapshot.logits.shape != (1, self.model.config.vocab_size):
            raise ValueError(
                f"snapshot must be of a model of {self.model.config.vocab_size} ids, got logits of shape "
                f"{snapshot.logits.shape}"
            )
        self._now = snapshot

    def fork(self) -> "MemorySession":
        """A session that has read the same, and goes its own way from here."""
        other = MemorySession(self.model, self.tokenizer, self.piece)
        other._now = self._now
        return other

    def reset(self) -> None:
        """Forget everything read."""
        self._now = self._born()

    def save(self, path: Path | str) -> None:
        """Write the state to a safetensors file, whole or not at all, with the fingerprint of the model.

        Raises:
            OSError: the file cannot be written.
            ValueError: ``path`` does not end in ``.safetensors``, or nothing was read.
        """
        if self.position == 0:
            raise ValueError("session must have read something to be saved, got position 0")
        write_session(Path(path), self.model, self._arrays(), self.position)

    def load(self, path: Path | str) -> None:
        """Go on from a file that :meth:`save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged or no session's, or of another model; the session is as it was.
        """
        self.restore(self._snapshot(*read_session(Path(path), self.model)))

    def promote(self) -> Titans:
        """A new model that is born with what this session's memories hold; the session's own model is left as it is.

        Their weights become the initial weights ``W_0``; momentum and attention's cache are left behind. Where a block
        has its memory absorb persistent tokens at birth (LMM, MAG, MAL), it does so here once more.

        Raises:
            ValueError: the model has no memory, or the session has read nothing.
        """
        if self.position == 0:
            raise ValueError("session must have read something to be promoted, got position 0")
        memories = [_memory(layer) for layer in self.model.layers]
        if None in memories:
            raise ValueError(f"model must have a memory to be promoted, got variant={self.model.config.variant!r}")
        model = copy.deepcopy(self.model)
        for layer, state in zip(model.layers, self._now.states, strict=True):
            memory = _memory(layer)
            weights = (state if isinstance(state, MemoryState) else state.memory).weights
            for index, (weight, born) in enumerate(zip(weights, memory.initial_weights, strict=True), 1):
                memory[f"initial_weights_{index}"] = weight[0].astype(born.dtype)
        mx.eval(model.parameters())
        return model

    def _read(self, ids: Sequence[int] | np.ndarray, since: int, progress: Callable[[int], None] | None) -> None:
        states, before = list(self._now.states), self._now.position
        told = None if progress is None else lambda count: progress(before - since + count)
        logits = self.model.read(self._tokens(ids), states, self.piece, told, "source")
        mx.eval(logits, states)
        self._now = Snapshot(tuple(states), logits, before + len(ids))

    def _tokens(self, ids: Sequence[int] | np.ndarray) -> mx.array | np.ndarray:
        if isinstance(ids, np.ndarray):
            return ids[None]
        return mx.array(np.array(ids, dtype=np.int64))[None]

    def _encode(self, source: str | Sequence[int], name: str = "source") -> list[int]:
        if isinstance(source, str):
            return encode(self.tokenizer, source)
        return _ids(source, name, "a text").tolist()

    def _pieces(self, source: Source) -> Iterator[Sequence[int] | np.ndarray]:
        """Token ids of the source, a file's piece by piece."""
        if isinstance(source, Path):
            for text in _file_pieces(source):
                yield self._encode(text)
        elif isinstance(source, str):
            if ids := self._encode(source):
                yield ids
        else:
            ids = _ids(source, "source", "a text, a Path")
            if ids.size:
                yield ids

    def _arrays(self) -> dict[str, mx.array]:
        config, arrays = self.model.config, {"logits": self._now.logits}
        for layer, state in enumerate(self._now.states):
            held = slots.pack(config, state)
            if config.variant == "transformer":
                held = [*held, state.keys, state.values]
            arrays |= {f"{layer}.{index}": array for index, array in enumerate(held)}
        return arrays

    def _snapshot(self, arrays: dict[str, mx.array], position: int) -> Snapshot:
        config, states = self.model.config, []
        count = slots.count(config)
        for layer in range(len(self.model.layers)):
            held = [arrays[f"{layer}.{index}"] for index in range(count)]
            full = config.variant == "transformer"
            keys_values = (arrays[f"{layer}.{count}"], arrays[f"{layer}.{count + 1}"]) if full else None
            states.append(slots.unpack(config, held, position, keys_values))
        # What is sliced here would else be computed where it is used, and a stream belongs to its thread.
        mx.eval(states)
        return Snapshot(tuple(states), arrays["logits"], position)


def _ids(source: Sequence[int] | np.ndarray | mx.array, name: str, others: str) -> np.ndarray:
    """Token ids (T,), those of a memory-mapped file still there; ``others``, what else may be given, is for people."""
    ids = source if isinstance(source, np.ndarray) else np.array(source)
    if ids.size == 0:
        ids = ids.astype(np.int64)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{name} must be {others} or integers (T,), got {ids.dtype} of shape {ids.shape}")
    return ids


def _memory(layer: nn.Module) -> NeuralMemory | None:
    return next((part for part in layer.modules() if isinstance(part, NeuralMemory)), None)


def _file_pieces(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        while text := file.read(FILE_PIECE):
            yield text + file.readline(FILE_PIECE)
