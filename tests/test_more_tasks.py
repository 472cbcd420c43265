"""Rebinding, copying, induction, tracking and texts: their worked examples, their answers, and what bad input says."""

import doctest
from itertools import permutations

import numpy as np
import pytest

from titans_mlx.tasks import (
    AnomalyTask,
    CopyTask,
    InductionTask,
    RebindingTask,
    TextTask,
    TrackingTask,
    copying,
    rebinding,
    text,
    tracking,
)

REBINDING = [RebindingTask(ask=ask, num_pairs=5, num_rebound=2, distance=7) for ask in ("all", "rebound", "kept")]
REBINDING.append(RebindingTask(num_pairs=5, num_rebound=2, lead=9))
TASKS = [
    *REBINDING,
    CopyTask(num_items=5, num_distractors=9),
    CopyTask(alike=True, num_distractors=0),
    InductionTask(),
    TrackingTask("s5", 12, asked=3),
    AnomalyTask(),
    TextTask(40),
]


@pytest.mark.parametrize("module", [rebinding, copying, tracking, text])
def test_worked_examples(module) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_shapes_ids_and_seeds(task) -> None:
    sample, again, other = (task.sample(6, seed) for seed in (1, 1, 2))
    assert sample.tokens.shape == sample.targets.shape == sample.mask.shape == (6, task.length)
    assert sample.tokens.dtype == sample.targets.dtype == np.int32
    assert sample.tokens.min() >= 0
    assert max(sample.tokens.max(), sample.targets.max()) < task.vocab_size
    assert (sample.tokens == again.tokens).all() and (sample.tokens != other.tokens).any()
    assert 1 / task.vocab_size <= task.chance <= 1 / 2


@pytest.mark.parametrize("task", REBINDING, ids=str)
def test_the_last_value_counts(task: RebindingTask) -> None:
    sample = task.sample(64, 0)
    for tokens, positions, answers in zip(sample.tokens, sample.positions, sample.answers, strict=True):
        writes, seen = {}, {}
        for place in range(positions[0]):
            if tokens[place] < task.num_keys:
                seen[tokens[place]] = seen.get(tokens[place], 0) + 1
                changed = writes.get(tokens[place]) != tokens[place + 1]
                assert changed, "a rebound key has another value"
                writes[tokens[place]] = tokens[place + 1]
        asked = tokens[positions]
        assert len(set(asked)) == len(asked) == task.num_queries
        assert [writes[key] for key in asked] == list(answers)
        times = {"all": {1, 2}, "rebound": {2}, "kept": {1}}[task.ask]
        assert {seen[key] for key in asked} == times
        assert sorted(seen.values()) == [1, 1, 1, 2, 2]


def test_a_lead_puts_the_pairs_anywhere() -> None:
    task = RebindingTask(num_pairs=3, num_rebound=1, gap=0, distance=2, lead=7)
    sample = task.sample(400, 1)
    written = sample.tokens[:, : task.length - 2 * 3 + 1] < task.num_keys + task.num_values
    starts = written.argmax(axis=1)
    assert set(starts) == set(range(8))
    assert (written.sum(axis=1) == 8).all()
    assert all(row[start : start + 8].all() for row, start in zip(written, starts, strict=True)), "in one piece"


def test_rebound_keys_are_in_an_order_of_their_own() -> None:
    task = RebindingTask(num_pairs=4, num_rebound=4, gap=0, distance=0)
    first, second = task.sample(100, 0).tokens[:, 0:8:2], task.sample(100, 0).tokens[:, 8:16:2]
    assert (np.sort(first) == np.sort(second)).all()
    assert 0.1 < (first[:, 0] == second[:, 0]).mean() < 0.4


@pytest.mark.parametrize("alike", [False, True])
def test_copies_follow_the_second_start(alike: bool) -> None:
    task = CopyTask(num_symbols=20, num_items=6, num_distractors=30, alike=alike)
    sample = task.sample(32, 3)
    start = task.vocab_size - 1
    for tokens, answers in zip(sample.tokens, sample.answers, strict=True):
        items, between, rest = tokens[1:7], tokens[7:37], tokens[37:]
        assert tokens[0] == rest[0] == start
        assert len(set(items)) == 6
        assert list(answers) == list(items) and list(rest[1:]) == list(items[:-1])
        assert not set(between) & set(items)
        assert (between < task.num_symbols).all() == alike


def test_the_sign_is_followed_by_the_answer() -> None:
    task = InductionTask(num_symbols=9, num_distractors=12)
    sample = task.sample(500, 4)
    places = [np.flatnonzero(row == 9) for row in sample.tokens]
    assert all(len(two) == 2 and two[1] == task.length - 1 for two in places)
    followers = [row[two[0] + 1] for row, two in zip(sample.tokens, places, strict=True)]
    assert followers == list(sample.answers[:, 0])
    assert {two[0] for two in places} == set(range(12)), "anywhere"


@pytest.mark.parametrize(("group", "size"), [("parity", 2), ("mod5", 5)])
def test_sums_are_tracked(group: str, size: int) -> None:
    sample = TrackingTask(group, 20).sample(16, 5)
    assert (sample.answers - size == np.cumsum(sample.tokens, axis=1) % size).all()


def test_permutations_are_composed() -> None:
    sample = TrackingTask("s5", 15).sample(16, 6)
    swaps = [(a, b) for a in range(5) for b in range(a + 1, 5)]
    orders = {order: index for index, order in enumerate(permutations(range(5)))}
    for tokens, answers in zip(sample.tokens, sample.answers, strict=True):
        things = list(range(5))
        for move, answer in zip(tokens, answers, strict=True):
            if move:
                a, b = swaps[move - 1]
                things[a], things[b] = things[b], things[a]
            assert orders[tuple(things)] == answer - 11
    assert TrackingTask("s5").chance == 1 / 120


def test_only_the_last_are_asked() -> None:
    assert TrackingTask("parity", 10, asked=4).sample(2, 0).positions.tolist() == [[6, 7, 8, 9]] * 2
    assert TrackingTask("parity", 10).sample(2, 0).positions.shape == (2, 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RebindingTask(num_rebound=9), "num_rebound must be 0 to 8 with ask='all', got 9"),
        (lambda: RebindingTask(num_rebound=0, ask="rebound"), "num_rebound must be 1 to 8 with ask='rebound', got 0"),
        (lambda: RebindingTask(num_rebound=8, ask="kept"), "num_rebound must be 0 to 7 with ask='kept', got 8"),
        (lambda: RebindingTask(ask="some"), "ask must be one of .*got 'some'"),
        (lambda: RebindingTask(num_keys=7), "num_keys must be an integer >= 8, got 7"),
        (lambda: RebindingTask(gap=-1), "gap must be an integer >= 0, got -1"),
        (lambda: CopyTask(num_symbols=8, alike=True), "num_symbols must be an integer >= 9, got 8"),
        (lambda: CopyTask(num_items=0), "num_items must be an integer >= 1, got 0"),
        (lambda: CopyTask().sample(0, 1), "batch must be an integer >= 1, got 0"),
        (lambda: InductionTask(num_distractors=0), "num_distractors must be an integer >= 1, got 0"),
        (lambda: TrackingTask("s4"), "group must be one of .*got 's4'"),
        (lambda: TrackingTask(length=4, asked=5), "asked must be at most length=4, got 5"),
        (lambda: TrackingTask().sample(2, -1), "seed must be an integer >= 0"),
    ],
)
def test_bad_input(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_anomalies_are_what_breaks_the_motif() -> None:
    task = AnomalyTask(num_symbols=20, period=7, length=300, rate=0.1)
    batch = task.sample(40, 3)
    strange = task.anomalies(batch.tokens)
    assert not strange[:, :7].any() and 0.08 < strange[:, 7:].mean() < 0.12
    for tokens, marks in zip(batch.tokens, strange, strict=True):
        assert len(set(tokens[:7])) == 7
        assert all(marks[place] == (token != tokens[place % 7]) for place, token in enumerate(tokens))
    assert (batch.targets[:, :-1] == batch.tokens[:, 1:]).all()
    assert (batch.targets[:, -1] == batch.tokens[:, 300 % 7]).all(), "the last target is the motif's"
    assert (batch.mask[:, :6] == 0).all() and (batch.mask[:, 6:] == 1).all()


def test_parts_of_a_text_do_not_overlap(tmp_path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(bytes(range(100)))
    seen = {}
    for part in ("train", "validation", "test"):
        batch = TextTask(4, part, str(path)).sample(500, 0)
        whole = np.concatenate([batch.tokens, batch.targets[:, -1:]], axis=1)
        assert (np.diff(whole) == 1).all(), "windows of the text"
        assert batch.mask.all()
        seen[part] = set(whole.ravel())
    assert seen["train"] == set(range(80))
    assert seen["validation"] == set(range(80, 90)) and seen["test"] == set(range(90, 100))


def test_the_text_that_ships_with_python_is_prose() -> None:
    batch = TextTask(200).sample(20, 0)
    assert 0.1 < TextTask(200).chance < 0.3, "spaces"
    assert (batch.tokens[:, 1:] == batch.targets[:, :-1]).all()
    assert " the " in bytes(batch.tokens.astype(np.uint8).ravel()).decode(errors="ignore")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextTask(0), "length must be an integer >= 1, got 0"),
        (lambda: TextTask(part="all"), "part must be one of .*got 'all'"),
        (lambda: TextTask(10**7), "length must be below the"),
        (lambda: TextTask(path="nowhere.txt"), "path must be a text file that can be read, got 'nowhere.txt'"),
        (lambda: AnomalyTask(period=0), "period must be an integer >= 1, got 0"),
        (lambda: AnomalyTask(num_symbols=3, period=4), "num_symbols must be an integer >= 4, got 3"),
        (lambda: AnomalyTask(period=4, length=4), "length must be an integer >= 5, got 4"),
        (lambda: AnomalyTask(rate=1), "rate must lie strictly between 0 and 1, got 1"),
    ],
)
def test_bad_texts(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
