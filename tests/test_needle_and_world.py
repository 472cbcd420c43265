"""Needles in haystacks and people in a world: what is asked is what was told, and what bad input says."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

from titans_mlx.tasks import NeedleTask, WorldTask, needle, world

NEEDLES = {"passkey": r"\d{7}", "number": r"\d{7}", "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"}
WORLDS = [
    WorldTask(supporting, 12, asked, 200) for supporting, asked in [(1, 1), (1, 3), (2, 1), (2, 2), (3, 1), (3, 3)]
]
BABI = """\
1 Mary got the milk there.
2 John moved to the bedroom.
3 Mary travelled to the hallway.
4 Where is the milk? \thallway\t1 3
5 Mary went to the garden.
6 Mary put down the milk.
7 Mary went back to the office.
8 Where is the milk? \tgarden\t6 5
9 Where was the milk before the garden? \thallway\t6 5 3
1 Sandra journeyed to the kitchen.
2 Where is Sandra? \tkitchen\t1
"""


@pytest.mark.parametrize("module", [needle, world])
def test_worked_examples(module) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("task", [*map(NeedleTask, NEEDLES), *WORLDS], ids=str)
def test_shapes_ids_and_seeds(task) -> None:
    sample, again, other = (task.sample(6, seed) for seed in (1, 1, 2))
    assert sample.tokens.shape == sample.targets.shape == sample.mask.shape == (6, task.length)
    assert sample.tokens.dtype == sample.targets.dtype == np.int32
    assert sample.tokens.min() >= 0 and max(sample.tokens.max(), sample.targets.max()) < task.vocab_size
    assert (sample.tokens[:, 1:] == sample.targets[:, :-1]).all()
    assert (sample.tokens == again.tokens).all() and (sample.tokens != other.tokens).any()


@pytest.mark.parametrize("kind", NEEDLES)
def test_the_needle_is_in_the_haystack_once_and_is_what_is_asked(kind: str) -> None:
    task = NeedleTask(kind, length=500)
    sample = task.sample(300, 0)
    assert task.chance == (1 / 16 if kind == "uuid" else 1 / 10)
    places = []
    for tokens, targets, answers in zip(sample.tokens, sample.targets, sample.answers, strict=True):
        text = bytes([*tokens.tolist(), int(targets[-1])]).decode("latin-1")
        (found,) = re.finditer(rf"The magic (?:number|uuid) for ([a-z]{{5}}) is: ({NEEDLES[kind]})\. ", text)
        key, value = found.group(1, 2)
        end = re.search(rf"What is the magic (?:number|uuid) for {key}\? The magic \w+ for {key} is: {value}$", text)
        assert end is not None
        assert bytes(answers.tolist()).decode() == value.replace("-", "")
        places.append(found.start())
        assert found.end() <= end.start()
        hay = text[: found.start()] + text[found.end() : end.start()]
        assert (hay in needle.NOISE.decode() * 9) == (kind == "passkey")
    assert min(places) < 30 and max(places) > end.start() - len(found.group()) - 30, "anywhere"


def test_prose_of_another_part_hides_other_needles(tmp_path) -> None:
    path = tmp_path / "prose.txt"
    path.write_text("x" * 1600 + "y" * 200 + "z" * 200)
    shorts = {part: NeedleTask("number", 120, part, str(path)).sample(1, 0).tokens for part in ("train", "test")}
    assert ord("x") in shorts["train"] and ord("z") not in shorts["train"]
    assert ord("z") in shorts["test"] and ord("x") not in shorts["test"]


def answer(facts: list[list[str]], question: list[str]) -> str:
    """Found by following the facts, with nothing of the simulator's."""
    path: list[str] = []
    if question[2] != "the":
        moves = [fact for fact in facts if fact[0] == question[2] and fact[-2] in world.PLACES]
        return moves[-1][-2]
    thing, holder, where = question[3], None, dict.fromkeys(world.PEOPLE)
    for fact in facts:
        person, words = fact[0], set(fact)
        if words & set(world.PLACES):
            where[person] = fact[-2]
        elif thing in words:
            holder = person if words & {"got", "grabbed", "took", "picked"} else None
        else:
            continue
        if holder is not None and where[holder] is not None and path[-1:] != [where[holder]]:
            path.append(where[holder])
    if question[1] == "is":
        return path[-1]
    last = max(index for index, place in enumerate(path) if place == question[-2])
    return path[last - 1]


@pytest.mark.parametrize("task", WORLDS, ids=str)
def test_answers_follow_from_the_facts(task: WorldTask) -> None:
    sample = task.sample(80, 5)
    said = set()
    for tokens, answers, positions in zip(sample.tokens, sample.answers, sample.positions, strict=True):
        words = [word for word in task.spell(tokens).split() if not re.fullmatch(r"f\d+", word)]
        told = " ".join(words)
        sentences = re.findall(r"[a-z ]+[.?]", told)
        facts = [s.split() for s in sentences if s.endswith(".")]
        assert len(facts) == task.num_facts
        asked = [s[s.index("where") :].split() for s in sentences if s.endswith("?")]
        assert len(asked) == len(set(map(tuple, asked))) == task.num_questions == len(positions)
        assert [answer(facts, question) for question in asked] == task.spell(answers).split()
        said |= set(task.spell(answers).split())
    assert said == set(world.PLACES)


def test_facts_are_scattered_in_front_of_the_questions() -> None:
    task = WorldTask(num_facts=3, length=400)
    sample = task.sample(200, 1)
    facts = (sample.tokens < len(world.WORDS))[:, :-4]
    assert 0.4 < np.mean([row.nonzero()[0].mean() for row in facts]) / 400 < 0.6
    assert facts[:, :40].any() and facts[:, -40:].any()


def test_stories_of_babi_are_read(tmp_path) -> None:
    path = tmp_path / "qa.txt"
    path.write_text(BABI)
    found = world.stories(str(path))
    assert [len(story.facts) for story in found] == [3, 5 + 1, 6, 1]
    for story in found:
        (question,) = story.questions
        assert answer([list(fact) for fact in story.facts], list(question.words)) == question.answer
    task = WorldTask(path=str(path), length=60)
    sample = task.sample(50, 0)
    assert set(task.spell(sample.answers[:, 0]).split()) == {"hallway", "garden", "kitchen"}
    assert "mary put down the milk ." in re.sub(r"f\d+ ", "", " ".join(map(task.spell, sample.tokens)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: NeedleTask("key"), "needle must be one of .*got 'key'"),
        (lambda path: NeedleTask(length=60), "length must be an integer >= 114, got 60"),
        (lambda path: NeedleTask(part="rest"), "part must be one of .*got 'rest'"),
        (lambda path: NeedleTask().sample(0, 1), "batch must be an integer >= 1, got 0"),
        (lambda path: WorldTask(4), "supporting must be 1, 2 or 3, got 4"),
        (lambda path: WorldTask(2, num_questions=4), "num_questions must be at most 3, got 4"),
        (lambda path: WorldTask(3, num_facts=2), "num_facts must be at least 3 for what is asked, got 2"),
        (lambda path: WorldTask(length=20), "length must be an integer >= 72, got 20"),
        (lambda path: WorldTask().sample(1, -1), "seed must be an integer >= 0"),
        (lambda path: WorldTask(path="/nowhere"), "path must be a file of bAbI that can be read, got '/nowhere'"),
        (lambda path: WorldTask(path=_file(path, "Mary moved.")), "path must be a file of bAbI's tasks 1 to 3.*line 1"),
        (lambda path: WorldTask(path=_file(path, "1 Bill moved to the garden.")), "line 1 of .*Bill"),
        (lambda path: WorldTask(path=_file(path, "1 Mary went to the garden.")), "bAbI with questions"),
        (lambda path: WorldTask(path=_file(path, "1 Where is Mary?\t\t1")), "bAbI's tasks 1 to 3.*line 1"),
        (lambda path: WorldTask(path=_file(path, BABI), num_questions=2), "num_questions must be at most 1, got 2"),
    ],
)
def test_bad_input(make, message, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path)


def _file(folder: Path, text: str) -> str:
    (folder / "qa.txt").write_text(text)
    return str(folder / "qa.txt")
