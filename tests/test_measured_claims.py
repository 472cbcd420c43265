"""Claims that measure more than answers (surprise, staleness, throughput): their numbers, their rules at the edges."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from models import build, uniform

from titans_mlx import MemoryConfig
from titans_mlx.claims import CLAIMS, alone, outliers, staleness, surprise, throughput
from titans_mlx.claims.statistics import mean_interval
from titans_mlx.memory import recipes

Row = dict[str, Any]


@pytest.mark.parametrize("module", [outliers, staleness, surprise, throughput], ids=lambda module: module.CLAIM.id)
def test_smoke_profiles_run(module) -> None:
    seen: list[float] = []
    rows = module.CLAIM.run("smoke", lambda what, done: seen.append(done))
    assert module.CLAIM is CLAIMS[module.CLAIM.id]
    assert rows and module.judge(rows).status == "unfinished" and module.judge([]).status == "not run"
    assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] <= 1


def test_ranks_and_what_follows_from_them() -> None:
    assert list(surprise.ranks(np.array([3.0, 1.0, 3.0, 7.0]))) == [1.5, 0, 1.5, 3]
    rng = np.random.default_rng(0)
    a = rng.normal(size=(40, 50))
    assert surprise.rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert surprise.rank_correlation(a, -(a**3)) == pytest.approx(-1)
    assert abs(surprise.rank_correlation(a, rng.normal(size=a.shape))) < 0.07
    assert surprise.rank_correlation(a, np.ones_like(a)) == 0
    plain = [np.argsort(np.argsort(x.ravel())) for x in (a, a + rng.normal(size=a.shape))]
    assert surprise.rank_correlation(*plain) == pytest.approx(np.corrcoef(*plain)[0, 1])
    score, marked = np.array([0.1, 0.4, 0.35, 0.8, 0.4]), np.array([False, False, True, True, True])
    pairs = [(s > r) + 0.5 * (s == r) for s in score[marked] for r in score[~marked]]
    assert surprise.area_under_curve(score, marked) == pytest.approx(np.mean(pairs))
    assert surprise.rank_by_tenth(a, a) == pytest.approx(np.arange(0.05, 1, 0.1), abs=0.001)
    with pytest.raises(ValueError, match="marked must mark some entries and not others, got 0 of 5"):
        surprise.area_under_curve(score, np.zeros(5, dtype=bool))


def test_a_token_table_holds_the_likelihood_and_the_memory() -> None:
    model, tokens = build("mag-deep"), np.array(uniform(2, 12))
    found = surprise.token_table(model, tokens)
    logits = np.array(model(uniform(2, 12) * 0 + tokens)).astype(np.float64)
    told = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for place in range(1, 12):
        expected = -told[np.arange(2), place - 1, tokens[:, place]]
        np.testing.assert_allclose(found["nll"][:, place], expected, rtol=1e-4)
    assert (found["nll"][:, 0] == 0).all()
    assert all(found[measure].shape == (2, 12) and (found[measure] > 0).all() for measure in surprise.MEASURES)
    assert (found[surprise.WRITTEN] < found[surprise.SURPRISE]).all(), "theta is at most 1/2"


def test_written_is_bounded() -> None:
    work = surprise.Work(*[np.full((1, 1, 1, 2), value) for value in (4.0, 0.0, 0.0, 0.5, 0.0)])
    assert (surprise._write(work, 1.0) == 0.5).all() and (surprise._write(work, None) == 2).all()


def surprise_rows(value: Callable[[str, str, str], float]) -> list[Row]:
    rows = []
    for job in surprise.jobs("full"):
        text, model = job.settings["option"], job.settings["model"]
        for seed in job.settings["seeds"]:
            for measure in (*surprise.MEASURES, surprise.UPDATES):
                found = value(text, measure, model)
                row = {"text": text, "model": model, "measure": measure, "state": "trained", "seed": seed}
                row |= {"value": found, "told_apart": found, "accuracy": 0.3, "parameters": 10**5}
                rows.append(row | {"trained_length": 256, "sequences": 16})
    return rows


def test_the_rule_of_surprise() -> None:
    for share, status in ((0.71, "reproduced"), (0.5, "reproduced in part"), (0.1, "not reproduced")):
        assert surprise.judge(surprise_rows(lambda *_, share=share: share)).status == status
    one_low = surprise.judge(surprise_rows(lambda text, measure, model: 0.19 if model == "MAC" else 0.9))
    assert one_low.status == "not reproduced", "every model must hold"
    assert "3 seeds" in one_low.scale
    missing = [row for row in surprise_rows(lambda *_: 0.9) if row["model"] != "MAG"]
    assert surprise.judge(missing).status == "unfinished"
    (first, *_) = surprise.summary(surprise_rows(lambda *_: 0.4))
    assert (first["low"], first["value"], first["high"]) == pytest.approx((0.4, 0.4, 0.4))


def stale_rows(share: Callable[[str, Row], float]) -> list[Row]:
    rows = []
    for job in staleness.jobs("full"):
        for seed in job.settings["seeds"]:
            for test in job.settings["tests"]:
                right = share(job.settings["model"], test)
                row = {"model": job.settings["model"], "seed": seed, "accuracy": right, "correct": [right] * 8}
                row |= {name: test[name] for name in ("test", "x", "writes")}
                row |= {"queries": 1, "sequences": 8, "chance": 0.02, "parameters": 10**5, "trained_length": 64}
                rows.append(row | {"length": 64, "train_seconds": 1.0, "seconds_per_sequence": 1.0, "peak_bytes": 1e6})
    return rows


def as_claimed(_: str, test: Row) -> float:
    return {"all": 0.95, staleness.CLOCK: 0.5, staleness.SURPRISE: 0.61}[test["writes"]]


def test_the_rule_of_staleness() -> None:
    assert staleness.judge(stale_rows(as_claimed)).status == "reproduced"
    assert staleness.judge(stale_rows(lambda *_: 0.5)).status == "not reproduced"
    edges: list[tuple[Callable[[str, Row], bool], float, str]] = [
        (lambda model, test: test["writes"] == staleness.SURPRISE, 0.59, "in part"),
        (lambda model, test: (test["test"], test["x"]) == (staleness.REBOUND, 8), 0.89, "in part"),
        (lambda model, test: (test["test"], test["x"]) == (staleness.KEPT, 1024), 0.89, "in part"),
        (lambda model, test: (test["test"], test["x"]) == (staleness.KEPT, 256), 0.1, "reproduced"),
        (lambda model, test: model in staleness.BASELINES, 0.1, "reproduced"),
    ]
    for where, value, status in edges:
        found = stale_rows(lambda m, t, where=where, value=value: value if where(m, t) else as_claimed(m, t))
        assert staleness.judge(found).status.endswith(status)
    rest = [row for row in stale_rows(as_claimed) if row["model"] != staleness.DEEP]
    assert staleness.judge(rest).status == "unfinished"


def recall_rows(recall: Callable[[str, str, float], float]) -> list[Row]:
    rows = []
    for job in outliers.jobs("full"):
        structure, objective = job.settings["structure"], job.settings["objective"]
        for seed in job.settings["seeds"]:
            for x in job.settings["fractions"]:
                share = recall(structure, objective, x)
                row = {"structure": structure, "objective": objective, "seed": seed, "x": x, "accuracy": share}
                rows.append(row | {"correct": [16 * share] * 8, "queries": 16, "sequences": 8, "chance": 1 / 16})
    return rows


def robust(structure: str, objective: str, x: float) -> float:
    if x == 0:
        return 1.0
    return {outliers.HUBER: 0.99, outliers.SLOW: 0.9, outliers.BOUNDED: 0.9}.get(objective, 0.6)


def test_the_rule_of_outliers() -> None:
    assert outliers.judge(recall_rows(robust)).status == "reproduced"
    assert outliers.judge(recall_rows(lambda *_: 0.5)).status == "not reproduced"
    edges: list[tuple[Callable[[str, str, float], bool], float]] = [
        (lambda structure, objective, x: objective == outliers.BOUNDED, 0.98),
        (lambda structure, objective, x: objective == outliers.HUBER and x == 0, 0.97),
        (lambda structure, objective, x: objective == outliers.SLOW and x == outliers.JUDGED, 0.69),
        (lambda structure, objective, x: (structure, objective) == ("MLP", outliers.SQUARE) and x > 0, 0.95),
    ]
    for where, value in edges:
        found = recall_rows(lambda s, o, x, where=where, value=value: value if where(s, o, x) else robust(s, o, x))
        assert outliers.judge(found).status == "reproduced in part"
    rest = [row for row in recall_rows(robust) if row["objective"] != "l_3"]
    assert outliers.judge(rest).status == "unfinished"


def test_a_memory_alone_gives_back_what_it_holds() -> None:
    """Few orthogonal pairs all come back; a diverged memory gives no answer; the same seed the same pairs."""
    keys, values = np.eye(8)[None, :4], np.roll(np.eye(8), 3, axis=1)[None, :4]
    config = recipes.deltanet(conv_size=0)
    stored = alone.store(config, keys, values, alone.Still(theta=0.5))
    assert alone.recalled(stored, keys, values).all()
    assert mx.abs(stored.born[0]).max().item() == 0 < mx.abs(stored.weights[0]).max().item()
    np.testing.assert_allclose(alone.read(stored, keys), values, atol=1e-6)
    unbounded = MemoryConfig(depth=1, objective="lp", write_bound=None, chunk_size=1)
    wild = alone.store(unbounded, np.tile(keys, (1, 9, 1)), 1e9 * np.tile(values, (1, 9, 1)), alone.Still(theta=9.0))
    assert not alone.recalled(wild, keys, values).any()
    first, again = (alone.random_pairs((3,), 2, 5, 8) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_recalls_alone(name: str) -> None:
    """Two pairs, above chance: gates that stand still reach every kind of memory."""
    gates = alone.Still(theta=0.5, eta=0.3)
    row, _ = alone.recall_curve(recipes.RECIPES[name].make(expansion=2), gates, (2, 16))
    assert row["accuracy"] > 2 * row["chance"] == 2 / 16
    assert row["low"] <= row["accuracy"] <= row["high"]


def test_tenths_are_means_over_seeds() -> None:
    rows = [{"model": "MAC", "curve": [0.1, None]}, {"model": "MAC", "curve": [0.3, 0.5]}]
    (found,) = surprise.tenths(rows)
    assert (found["model"], found["tenth"]) == ("MAC", 1) and found["value"] == pytest.approx(0.2)
    assert found["low"] < 0.1 and found["high"] > 0.3, "two seeds say little"


def rate_rows(rate: Callable[[str, str, int, str], float], held: Callable[[int], int] = lambda _: 9) -> list[Row]:
    rows = []
    for job in throughput.jobs("full"):
        model = job.settings["model"]
        for what, lengths in job.settings["lengths"].items():
            forms = (throughput.FAST, throughput.PLAIN) if what == throughput.FORM else (throughput.FAST,)
            for x in lengths:
                row = {"model": model, "what": what, "x": x, "parameters": 10**6, "state_bytes": held(x)}
                rows += [{**row, "form": form, "rate": rate(model, what, x, form)} for form in forms]
    return rows


def steady(model: str, what: str, x: int, form: str) -> float:
    if form == throughput.PLAIN:
        return 100.0
    return 500.0 if (model, what, x) == (throughput.FULL, throughput.READ, 65_536) else 1000.0


def test_where_a_model_is_level_with_full_attention() -> None:
    def rows(ours: tuple[float, ...], full: tuple[float, ...]) -> list[dict]:
        rates = zip((1000, 4000, 16_000), ours, full, strict=False)
        return [
            {"model": model, "what": "read", "x": x, "rate": rate}
            for x, *both in rates
            for model, rate in zip(("MAC", throughput.FULL), both, strict=True)
        ]

    halves = rows((50, 50, 50), (100, 25, 25))
    assert throughput.crossing(halves, "MAC", "read") == pytest.approx(2000), "half of the way from x 1/2 to x 2"
    again = rows((50, 50, 50), (25, 100, 25))
    assert throughput.crossing(again, "MAC", "read") == pytest.approx(8000), "the last time that it overtakes"
    assert throughput.crossing(rows((50, 50), (25, 25)), "MAC", "read") == 1000
    assert throughput.crossing(rows((50, 50), (100, 75)), "MAC", "read") is None
    assert throughput.crossing([], "MAC", "read") is None


def test_the_rule_of_throughput() -> None:
    assert throughput.judge(rate_rows(steady)).status == "reproduced"
    edges: list[tuple[Callable[..., bool], float, str]] = [
        (lambda model, what, x, form: form == throughput.PLAIN, 101, "reproduced in part"),
        (lambda model, what, x, form: (model, what, x) == ("MAC", throughput.TRAIN, 4096), 890, "reproduced in part"),
        (lambda model, what, x, form: (model, what, x) == ("MAC", throughput.TRAIN, 4096), 910, "reproduced"),
        (lambda model, what, x, form: (model, what, x) == ("MAL", throughput.READ, 65_536), 890, "reproduced in part"),
        (lambda model, what, x, form: (what, x) == (throughput.DECODE, 65_000), 900, "reproduced in part"),
        (lambda model, what, x, form: (what, x) == (throughput.DECODE, 65_000), 920, "reproduced"),
        (lambda model, what, x, form: (model, x) == (throughput.FULL, 65_536), 1100, "reproduced in part"),
        (lambda model, what, x, form: model in throughput.TITANS and x == 65_536, 800, "reproduced in part"),
    ]
    for where, value, status in edges:
        found = rate_rows(lambda *key, where=where, value=value: value if where(*key) else steady(*key))
        assert throughput.judge(found).status == status
    assert throughput.judge(rate_rows(steady, held=lambda x: x)).status == "reproduced in part", "a state that grows"
    others = [
        {**row, "processor": "other" if row["model"] in throughput.RECURRENT else "one"} for row in rate_rows(steady)
    ]
    assert throughput.judge(others).status == "reproduced"
    told = throughput.judge(others).figure
    assert told.count("on another processor than full attention") == len(throughput.RECURRENT)
    assert told.count("times as fast as full attention, level") == len(throughput.TITANS)
    moved = [{**row, "processor": "other" if row["model"] == "MAC" else "one"} for row in rate_rows(steady)]
    assert throughput.judge(moved).status == "unfinished", "times of two processors do not compare"
    rest = [row for row in rate_rows(steady) if row["model"] != throughput.FULL]
    assert throughput.judge(rest).status == "unfinished", "nothing to be faster than"


def test_an_interval_of_a_mean() -> None:
    found = mean_interval([1.0, 2.0, 3.0])
    assert found["value"] == 2
    assert found["high"] - 2 == pytest.approx(4.303 / 3**0.5) == 2 - found["low"]
    assert mean_interval([5.0]) == {"value": 5.0, "low": None, "high": None}
