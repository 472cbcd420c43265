"""A needle in a haystack of bytes: the single needles of RULER (S-NIAH) in miniature."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from titans_mlx._check import check_count, set_count
from titans_mlx._config import choose
from titans_mlx.tasks.batch import Batch, Seed, as_rng
from titans_mlx.tasks.text import Part, TextTask

Needle = Literal["passkey", "number", "uuid"]
NOISE = b"The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
KEY, VALUE = b"#####", {"passkey": b"0" * 7, "number": b"0" * 7, "uuid": b"00000000-0000-0000-0000-000000000000"}
NAMES = {"passkey": b"number", "number": b"number", "uuid": b"uuid"}
DIGITS = b"0123456789abcdef"


@dataclass(frozen=True)
class NeedleTask:
    """``haystack | needle | haystack | question``, in bytes; asked for the needle's value, digit by digit.

    ``passkey``: a number in noise, five sentences over and over. ``number``: the same in prose. ``uuid``: 32
    hexadecimal digits in prose; the hyphens between them are not asked for. The needle lies anywhere, its key is a word
    of five letters. The prose is that of :class:`~titans_mlx.tasks.text.TextTask`.

    >>> batch = NeedleTask("passkey", length=150).sample(1, seed=3)
    >>> read, said = (bytes(ids.tolist()).decode() for ids in (batch.tokens[0], batch.answers[0]))
    >>> read[:82]
    ' anThe magic number for geguw is: 5003464. d back again. The grass is green. What '
    >>> read[82:], said
    ('is the magic number for geguw? The magic number for geguw is: 500346', '5003464')

    Attributes:
        needle: its kind, and that of the haystack.
        length: bytes read in a sequence; the last digit of the answer is a target, never read.
        part: of the prose, so that nothing tested was trained on.
        path: a text file of prose; empty: the reference documentation that ships with Python.
    """

    needle: Needle = "passkey"
    length: int = 2048
    part: Part = "train"
    path: str = ""

    def __post_init__(self) -> None:
        choose("needle", self.needle, get_args(Needle))
        set_count(self, "length", len(self._hidden) + len(self._question))
        self._prose(self.length)

    @property
    def vocab_size(self) -> int:
        """Number of token ids: bytes."""
        return 256

    @property
    def chance(self) -> float:
        """Accuracy of a guess among all digits."""
        return 1 / self._base

    @property
    def origin(self) -> dict[str, str]:
        """As of :class:`~titans_mlx.tasks.text.TextTask`, where there is prose."""
        return {} if self.needle == "passkey" else self._prose(self.length).origin

    def sample(self, batch: int, seed: Seed) -> Batch:
        """Sequences of ``length`` bytes.

        Raises:
            ValueError: ``batch`` < 1 or a bad ``seed``.
        """
        check_count("batch", batch)
        rng = as_rng(seed)
        count = self.length + 1 - len(self._hidden) - len(self._question)
        hay = self._hay(batch, count, rng)
        places = rng.integers(count + 1, size=batch)
        key, value = self._draw_key(batch, rng), self._draw_value(batch, rng)
        hidden, question = (_fill(text, key, value) for text in (self._hidden, self._question))
        rows = zip(hay, places, hidden, question, strict=True)
        whole = np.stack([np.concatenate([straw[:at], pin, straw[at:], asked]) for straw, at, pin, asked in rows])
        whole = whole.astype(np.int32)
        mask = np.zeros((batch, self.length), dtype=np.float32)
        answered = np.frombuffer(VALUE[self.needle], dtype=np.uint8) == ord("0")
        mask[:, -len(answered) :] = answered
        return Batch(whole[:, :-1], whole[:, 1:], mask)

    @property
    def _base(self) -> int:
        return 16 if self.needle == "uuid" else 10

    @property
    def _hidden(self) -> bytes:
        return b"The magic %s for %s is: %s. " % (NAMES[self.needle], KEY, VALUE[self.needle])

    @property
    def _question(self) -> bytes:
        name = NAMES[self.needle]
        return b"What is the magic %s for %s? The magic %s for %s is: %s" % (name, KEY, name, KEY, VALUE[self.needle])

    def _prose(self, count: int) -> TextTask:
        return TextTask(count, self.part, self.path)

    def _hay(self, batch: int, count: int, rng: np.random.Generator) -> np.ndarray:
        if self.needle != "passkey":
            return self._prose(count).sample(batch, rng).tokens[:, :count]
        noise = np.frombuffer(NOISE, dtype=np.uint8)
        return noise[(rng.integers(len(noise), size=(batch, 1)) + np.arange(count)) % len(noise)]

    def _draw_key(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        letters = [np.frombuffer(text, dtype=np.uint8) for text in (b"bdfghjklmnprstvwyz", b"aeiou")]
        return np.stack([rng.choice(letters[place % 2], size=batch) for place in range(len(KEY))], axis=1)

    def _draw_value(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        shape = np.frombuffer(VALUE[self.needle], dtype=np.uint8)
        drawn = rng.choice(np.frombuffer(DIGITS[: self._base], dtype=np.uint8), size=(batch, len(shape)))
        return np.where(shape == ord("0"), drawn, shape)


def _fill(text: bytes, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(B, bytes of the text): its places for key and value filled in, row by row."""
    filled = np.tile(np.frombuffer(text, dtype=np.uint8), (len(key), 1))
    first = text.index(KEY)
    while first >= 0:
        filled[:, first : first + len(KEY)] = key
        first = text.find(KEY, first + 1)
    last = text.rindex(b" is: ") + len(b" is: ")
    filled[:, last : last + value.shape[1]] = value
    return filled
