"""The tasks: what a sequence looks like, that its answers are right, and what bad input says."""

import doctest
from dataclasses import replace

import numpy as np
import pytest

from titans_mlx import tasks
from titans_mlx.tasks import MQARTask, RecallTask, batch, mqar, recall

RECALL = [RecallTask(), RecallTask(noise=5, num_queries=3), RecallTask(num_pairs=1, num_queries=1, noise=4)]


@pytest.mark.parametrize("module", [recall, mqar])
def test_worked_examples(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("task", RECALL)
@pytest.mark.parametrize("distance", [0, 1, 50])
def test_recall_answers_are_the_stored_values(task, distance):
    length = task.length(distance)
    sample = task.sample(32, length, seed=1)
    assert sample.tokens.shape == sample.targets.shape == sample.mask.shape == (32, length)
    assert sample.tokens.dtype == sample.targets.dtype == np.int32
    assert (sample.mask.sum(axis=1) == task.num_queries).all()
    for tokens, positions, answers in zip(sample.tokens, sample.positions, sample.answers, strict=True):
        context = tokens[: task.context_length]
        stored = {key: context[i + 1] for i, key in enumerate(context) if key < task.num_keys}
        assert len(stored) == task.num_pairs
        asked = tokens[positions]
        assert len(set(asked)) == task.num_queries
        assert [stored[key] for key in asked] == list(answers)


def test_a_moved_pair_leaves_everything_else_in_order() -> None:
    task = RecallTask(num_pairs=3, num_queries=2)
    tokens = task.sample(4, 20, seed=1).tokens
    assert (task.move_pair(tokens, 0) == tokens).all()
    last = 20 - task.query_length - 2
    for place in (1, 7, last):
        moved = task.move_pair(tokens, place)
        assert (moved[:, place : place + 2] == tokens[:, :2]).all()
        assert (np.delete(moved, [place, place + 1], axis=1) == tokens[:, 2:]).all()
        assert (moved[:, -task.query_length :] == tokens[:, -task.query_length :]).all()
    with pytest.raises(ValueError, match=f"place must be at most {last}, where the queries begin, got {last + 1}"):
        task.move_pair(tokens, last + 1)
    with pytest.raises(ValueError, match="noise must be 0 for a pair to be moved, got 2"):
        RecallTask(noise=2).move_pair(tokens, 0)


def test_recall_distance_is_the_filler_between_last_value_and_first_query():
    task = RecallTask(noise=6, num_queries=2)
    first_word = task.num_keys + task.num_values
    sample = task.sample(16, task.length(37), seed=0)
    for tokens, positions in zip(sample.tokens, sample.positions, strict=True):
        words = tokens >= first_word
        last_value = np.flatnonzero((tokens >= task.num_keys) & ~words)
        last_value = last_value[last_value < positions[0]].max()
        assert last_value == task.context_length - 1
        assert words[last_value + 1 : positions[0]].all()
        assert positions[0] - last_value - 1 == 37 == task.distance(len(tokens))


def test_recall_targets_are_next_tokens():
    sample = RecallTask(noise=2).sample(4, 100, seed=3)
    assert (sample.targets[:, :-1] == sample.tokens[:, 1:]).all()
    assert (sample.targets[:, -1] == sample.answers[:, -1]).all()


def test_recall_noise_moves_the_pairs_but_not_their_number():
    task = RecallTask(num_pairs=3, num_queries=1, noise=9)
    tokens, keys, values = task.context(200, 0)
    starts = [tuple(np.flatnonzero(row < task.num_keys)) for row in tokens]
    assert len(set(starts)) > 50
    assert {len(places) for places in starts} == {3}
    assert (tokens[:, -1] == values[:, -1]).all()
    assert (tokens[tokens < task.num_keys].reshape(200, 3) == keys).all()


def test_recall_stream_pieces_make_one_sequence():
    """What a streaming evaluation reads piece by piece is what `sample` gives whole."""
    task, rng = RecallTask(num_queries=4), np.random.default_rng(5)
    context = task.context(8, rng)
    filler = task.filler(8, 40, rng)
    queries = task.queries(context.keys, context.values, rng)
    whole = task.sample(8, task.length(40), seed=5)
    assert (np.concatenate([context.tokens, filler, queries.tokens], axis=1) == whole.tokens).all()
    assert (queries.targets[queries.mask == 1] == whole.targets[whole.mask == 1]).all()


def test_recall_draws_are_uniform():
    task = RecallTask(num_keys=8, num_values=4, num_filler=5, num_pairs=2, num_queries=1)
    tokens, keys, values = task.context(20_000, 0)
    assert tokens.max() < 12
    np.testing.assert_allclose(np.bincount(keys[:, 0], minlength=8) / 20_000, 1 / 8, atol=0.01)
    np.testing.assert_allclose(np.bincount(values[:, 1] - 8, minlength=4) / 20_000, task.chance, atol=0.015)
    words = task.filler(1, 50_000, 0)[0] - 12
    np.testing.assert_allclose(np.bincount(words, minlength=5) / 50_000, 1 / 5, atol=0.01)
    asked = task.queries(keys, values, 0).tokens[:, 0]
    assert abs((asked == keys[:, 0]).mean() - 0.5) < 0.02


def test_same_seed_same_batch():
    task = RecallTask()
    first, again, other = (task.sample(2, 64, seed) for seed in ((7, 1), (7, 1), (7, 2)))
    assert (first.tokens == again.tokens).all()
    assert (first.tokens != other.tokens).any()
    rng = np.random.default_rng(0)
    assert (task.sample(2, 64, rng).tokens != task.sample(2, 64, rng).tokens).any()


def test_recall_settings():
    few, many = tasks.SETTINGS["few"], tasks.SETTINGS["many"]
    assert (few.num_filler, many.num_filler) == (30, 1000)
    assert replace(many, num_filler=30) == few
    assert few.sample(4, 64, 0).tokens.max() < few.vocab_size


@pytest.mark.parametrize("task", [*tasks.ZOOLOGY_FIGURE_2, *tasks.BASED_TEST, *tasks.BASED_TRAIN], ids=str)
def test_mqar_published_settings(task):
    sample = task.sample(3, seed=2)
    written, half = 2 * task.num_pairs, task.vocab_size // 2
    assert sample.tokens.shape == (3, task.length)
    assert (sample.mask.sum(axis=1) == task.num_pairs).all()
    for tokens, positions, answers in zip(sample.tokens, sample.positions, sample.answers, strict=True):
        keys, values = tokens[0:written:2], tokens[1:written:2]
        assert len(set(keys)) == len(set(values)) == task.num_pairs
        assert ((keys >= 1) & (keys < half)).all()
        assert ((values >= half) & (values < task.vocab_size)).all()
        assert ((positions - written) % 2 == 0).all()
        assert positions.min() >= written
        stored = dict(zip(keys, values, strict=True))
        assert [stored[key] for key in tokens[positions]] == list(answers)


def test_mqar_gaps_follow_the_power_law():
    task = MQARTask(length=64, num_pairs=1, vocab_size=66)
    places = (task.sample(20_000, seed=0).positions[:, 0] - 2) // 2
    weights = np.arange(1, 32, dtype=float) ** (0.01 - 1)
    share = np.bincount(places, minlength=31) / 20_000
    np.testing.assert_allclose(share, weights / weights.sum(), atol=0.012)


def test_mqar_filler_without_keys():
    task = MQARTask(length=128, num_pairs=32, vocab_size=160, spare_keys=True)
    batch = task.sample(64, seed=0)
    filler = []
    for tokens, asked in zip(batch.tokens, batch.mask, strict=True):
        rest = tokens[64:][asked[64:] == 0]
        assert not set(rest) & set(tokens[:64:2])
        filler += rest.tolist()
    counts = np.bincount(filler, minlength=160)
    # Upper half: never a key. Lower half: 32 of 79 are keys in each sequence; id 0 is none.
    assert counts[80:].mean() == pytest.approx(64 * 32 / 128, rel=0.1) and counts.min() > 0
    assert counts[1:80].mean() == pytest.approx(counts[80:].mean() * 47 / 79, rel=0.15)


def test_mqar_filler():
    published = MQARTask().sample(8, seed=0)
    plain = MQARTask(random_filler=False).sample(8, seed=0)
    assert (published.tokens[:, 8:] == 0).mean() < 0.01
    assert ((plain.tokens[:, 8:] != 0).sum(axis=1) == 4).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RecallTask(num_pairs=0), "num_pairs must be an integer >= 1, got 0"),
        (lambda: RecallTask(num_keys=4), r"num_keys must be at least num_pairs=8 .*got 4"),
        (lambda: RecallTask(num_queries=9), "num_queries must be at most num_pairs=8, got 9"),
        (lambda: RecallTask(num_values=1), "num_values must be an integer >= 2, got 1"),
        (lambda: RecallTask(num_filler=2.5), "num_filler must be an integer >= 1, got 2.5"),
        (lambda: RecallTask(noise=-1), "noise must be an integer >= 0, got -1"),
        (lambda: RecallTask().sample(2, 30, 0), "length must be an integer >= 31, got 30"),
        (lambda: RecallTask().sample(0, 64, 0), "batch must be an integer >= 1, got 0"),
        (lambda: RecallTask().length(-1), "distance must be an integer >= 0, got -1"),
        (lambda: RecallTask().filler(2, -3, 0), "count must be an integer >= 0, got -3"),
        (lambda: RecallTask().sample(2, 64, -1), "seed must be an integer >= 0"),
        (lambda: RecallTask().sample(2, 64, "a"), "seed must be an integer >= 0"),
        (
            lambda: RecallTask().queries(np.zeros((2, 8), int), np.zeros((2, 7), int), 0),
            "values must have shape",
        ),
        (lambda: MQARTask(length=14, num_pairs=4), "length must be an integer >= 16, got 14"),
        (lambda: MQARTask(length=65), "length must be even, got 65"),
        (lambda: MQARTask(vocab_size=64), "vocab_size must be an integer >= 65, got 64"),
        (lambda: MQARTask(power_a=float("nan")), "power_a must be a finite number, got nan"),
        (lambda: MQARTask().sample(0, 0), "batch must be an integer >= 1, got 0"),
        (lambda: batch.as_rng(()), "seed must be an integer >= 0"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
