"""People who walk about and carry things, told in sentences scattered over filler: the world of bAbI."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from titans_mlx._check import check_count, set_count
from titans_mlx.tasks.batch import Batch, Seed, as_rng

PEOPLE = ("mary", "john", "sandra", "daniel")
PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
THINGS = ("apple", "football", "milk")
GO = ("moved to the", "went to the", "went back to the", "journeyed to the", "travelled to the")
TAKE = ("got the", "grabbed the", "took the", "picked up the")
LEAVE = ("left the", "dropped the", "discarded the", "put down the")
REST = ("there", "where", "is", "was", "before", ".", "?")
WORDS = tuple(dict.fromkeys([*PEOPLE, *PLACES, *THINGS, *" ".join(GO + TAKE + LEAVE).split(), *REST]))


class Question(NamedTuple):
    """Words of a question, without what follows it, and its answer."""

    words: tuple[str, ...]
    answer: str


class Story(NamedTuple):
    """Sentences, in order, and what can be asked after the last of them."""

    facts: list[tuple[str, ...]]
    questions: list[Question]


@dataclass
class _World:
    """What a reader of the facts knows: who is where, who carries what, and where each thing has been."""

    places: dict[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    been: dict[str, list[str]] = field(default_factory=dict)
    lying: dict[str, str | None] = field(default_factory=dict)

    def go(self, person: str, place: str) -> None:
        self.places[person] = place
        for thing, holder in self.held.items():
            if holder == person:
                self._at(thing, place)

    def take(self, person: str, thing: str) -> None:
        self.held[thing] = person
        self.lying.pop(thing, None)
        if person in self.places:
            self._at(thing, self.places[person])

    def leave(self, person: str, thing: str) -> None:
        del self.held[thing]
        self.lying[thing] = self.places.get(person)

    def can_take(self, person: str) -> list[str]:
        here = self.places.get(person)
        free = [thing for thing in THINGS if thing not in self.held]
        return [t for t in free if t not in self.lying or (here is not None and self.lying[t] == here)]

    def _at(self, thing: str, place: str) -> None:
        been = self.been.setdefault(thing, [])
        if not been or been[-1] != place:
            been.append(place)

    def questions(self, supporting: int) -> list[Question]:
        if supporting == 1:
            return [Question(("where", "is", person, "?"), place) for person, place in self.places.items()]
        if supporting == 2:
            return [Question(("where", "is", "the", thing, "?"), been[-1]) for thing, been in self.been.items()]
        return [
            Question(("where", "was", "the", thing, "before", "the", place, "?"), been[index - 1])
            for thing, been in self.been.items()
            for index, place in enumerate(been)
            if index and place not in been[index + 1 :]
        ]


def tell(num_facts: int, supporting: int, rng: np.random.Generator) -> Story:
    """A story of the simulator, with all that can be asked of ``supporting`` facts; there may be nothing."""
    world, facts = _World(), []

    def choose(options: Sequence[str]) -> str:
        return options[rng.integers(len(options))]

    for _ in range(num_facts):
        person = choose(PEOPLE)
        carried = [thing for thing, holder in world.held.items() if holder == person]
        free = world.can_take(person)
        # People with nothing to do with things only walk about, as in bAbI's first task.
        act = "go" if supporting == 1 else choose(["go", "go", *["take"] * bool(free), *["leave"] * bool(carried)])
        if act == "go":
            place = choose([place for place in PLACES if place != world.places.get(person)])
            world.go(person, place)
            facts.append((person, *choose(GO).split(), place, "."))
            continue
        thing = choose(free if act == "take" else carried)
        (world.take if act == "take" else world.leave)(person, thing)
        there = ("there",) if rng.random() < 0.5 else ()
        facts.append((person, *choose(TAKE if act == "take" else LEAVE).split(), thing, *there, "."))
    return Story(facts, world.questions(supporting))


@dataclass(frozen=True)
class WorldTask:
    """Facts scattered over filler words, in order, then questions: where is a person, a thing, where was it before.

    One supporting fact: where a person is. Two: where a thing is, which someone took, went with and perhaps left.
    Three: where it was before it came to a place. Sentences, words and questions are those of bAbI's tasks 1 to 3, and
    with ``path`` they are read from a file of them. Asked at every question mark; each answer but the
    last is read after it.

    >>> task = WorldTask(supporting=2, num_facts=2, length=24, num_filler=9)
    >>> batch = task.sample(1, seed=1)
    >>> print(task.spell(batch.tokens[0]))
    f4 f4 f6 f8 f0 john picked up the football there . john journeyed to the kitchen . f0 where is the football ?
    >>> print(task.spell(batch.answers[0]))
    kitchen

    Attributes:
        supporting: facts that an answer needs, 1 to 3.
        num_facts: told in a sequence.
        num_questions: asked in a sequence; 1 with ``path``.
        length: words read in a sequence.
        num_filler: filler words to draw from.
        path: a file of bAbI, whose stories are then told; ``num_facts`` is of no consequence.
    """

    supporting: int = 1
    num_facts: int = 8
    num_questions: int = 1
    length: int = 256
    num_filler: int = 100
    path: str = ""

    def __post_init__(self) -> None:
        for name in ("supporting", "num_facts", "num_questions", "num_filler"):
            set_count(self, name, 1)
        if self.supporting > 3:
            raise ValueError(f"supporting must be 1, 2 or 3, got {self.supporting}")
        most = 1 if self.path else len(PEOPLE if self.supporting == 1 else THINGS)
        if self.num_questions > most:
            raise ValueError(f"num_questions must be at most {most}, got {self.num_questions}")
        if self.num_facts < self.supporting * self.num_questions:
            least = self.supporting * self.num_questions
            raise ValueError(f"num_facts must be at least {least} for what is asked, got {self.num_facts}")
        set_count(self, "length", self._longest)

    @property
    def vocab_size(self) -> int:
        """Number of token ids: words of the world, then filler words."""
        return len(WORDS) + self.num_filler

    @property
    def chance(self) -> float:
        """Accuracy of a guess among all places."""
        return 1 / len(PLACES)

    @property
    def _longest(self) -> int:
        if self.path:
            return max(sum(map(len, story.facts)) + len(story.questions[0].words) for story in stories(self.path))
        return 8 * self.num_facts + 9 * self.num_questions - 1

    def sample(self, batch: int, seed: Seed) -> Batch:
        """Sequences of ``length`` words.

        Raises:
            ValueError: ``batch`` < 1 or a bad ``seed``.
        """
        check_count("batch", batch)
        rng = as_rng(seed)
        tokens = rng.integers(len(WORDS), self.vocab_size, size=(batch, self.length + 1), dtype=np.int32)
        mask = np.zeros((batch, self.length), dtype=np.float32)
        for row, marks in zip(tokens, mask, strict=True):
            story = self._story(rng)
            asked = [word for question in story.questions for word in (*question.words, question.answer)]
            row[-len(asked) :] = ids(asked)
            told = sum(map(len, story.facts))
            places = np.sort(rng.integers(self.length + 2 - len(asked) - told, size=len(story.facts)))
            for fact, before, filler in zip(story.facts, _before(story.facts), places, strict=True):
                row[before + filler : before + filler + len(fact)] = ids(fact)
            marks[np.flatnonzero(row[:-1] == ids(["?"])[0])] = 1
        return Batch(tokens[:, :-1], tokens[:, 1:], mask)

    def spell(self, tokens: np.ndarray) -> str:
        """One row of token ids as words; ``f0`` is a filler word."""
        names = [*WORDS, *(f"f{index}" for index in range(self.num_filler))]
        return " ".join(names[token] for token in tokens)

    def _story(self, rng: np.random.Generator) -> Story:
        if self.path:
            found = stories(self.path)
            return found[rng.integers(len(found))]
        while True:
            story = tell(self.num_facts, self.supporting, rng)
            if len(story.questions) >= self.num_questions:
                chosen = rng.permutation(len(story.questions))[: self.num_questions]
                return Story(story.facts, [story.questions[index] for index in chosen])


def _before(facts: Sequence[tuple[str, ...]]) -> list[int]:
    """Words told before each fact."""
    return [0, *np.cumsum([len(fact) for fact in facts])[:-1].tolist()]


def ids(words: Sequence[str]) -> list[int]:
    """Token ids of words of the world."""
    return [WORDS.index(word) for word in words]


@cache
def stories(path: str) -> list[Story]:
    """One story per question of a file of bAbI: what was told before it.

    Raises:
        ValueError: if it cannot be read, is not of that form, or says a word that this world does not know.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"path must be a file of bAbI that can be read, got {path!r}: {error}") from error
    told: list[tuple[str, ...]] = []
    found = []
    for place, line in enumerate(lines, 1):
        number, _, sentence = line.partition(" ")
        parts = [_words(part) for part in sentence.split("\t")[:2]]
        unknown = [word for words in parts for word in words if word not in WORDS]
        if not number.isdigit() or not all(parts) or unknown:
            raise ValueError(f"path must be a file of bAbI's tasks 1 to 3, got line {place} of {path!r}: {line!r}")
        if number == "1":
            told = []
        if len(parts) == 1:
            told.append(parts[0])
        else:
            found.append(Story(list(told), [Question(parts[0], parts[1][0])]))
    if not found:
        raise ValueError(f"path must be a file of bAbI with questions, got {path!r}")
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.lower().replace(".", " .").replace("?", " ?").split())
