"""Time series: windows that do not look ahead, forecasters by hand, and the rule of the claim."""

import math
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from titans_mlx import TitansConfig
from titans_mlx.claims import series
from titans_mlx.claims.recall_runs import training_options
from titans_mlx.forecast import Forecaster, LinearForecaster
from titans_mlx.tasks.series import SeriesTask, table


@pytest.fixture
def counted(tmp_path: Path) -> str:
    """A table of 1,000 steps of two channels: the step itself, and ten times it."""
    path = tmp_path / "series.csv"
    path.write_text("date,a,b\n" + "".join(f"day {step},{step},{10 * step}\n" for step in range(1000)))
    return str(path)


def test_windows_are_cut_within_their_part(counted: str) -> None:
    task = SeriesTask(counted, 20, 5)
    assert task.channels == 2 and [task.windows(part) for part in ("train", "validation", "test")] == [576, 196, 196]
    trained = table(counted)[:600]
    mean, spread = trained.mean(0), trained.std(0)
    for part, first, last in (("train", 20, 600), ("validation", 600, 800), ("test", 800, 1000)):
        ends = np.array([0, task.windows(part) - 1])
        for channel in (0, 1):
            past, future = task.cut(part, ends, np.array([channel, channel]))
            steps = np.round(np.concatenate([past, future], axis=1) * spread[channel] + mean[channel])
            steps = (steps / (1, 10)[channel]).astype(int)
            assert (np.diff(steps) == 1).all(), "one step after the other"
            assert steps[0, 20] == first and steps[1, -1] == last - 1, "forecasts fill the part"


def test_channels_have_the_scale_of_their_training_part() -> None:
    for data in ("seasonal", "regimes"):
        task = SeriesTask(data, 96, 24)
        starts = np.arange(0, task.windows("train"), 120)
        for channel in range(task.channels):
            past, _ = task.cut("train", starts, np.full(len(starts), channel))
            assert abs(past.mean()) < 0.1 and 0.9 < past.std() < 1.1
        assert np.isfinite(table(data)).all() and (table(data) == table(data)).all()


def test_draws_depend_on_the_seed_alone(counted: str) -> None:
    task = SeriesTask(counted, 20, 5)
    first, again, other = (task.sample(8, seed) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True)) and (first[0] != other[0]).any()
    assert first[0].shape == (8, 20) and first[1].shape == (8, 5) and first[0].dtype == np.float32


@pytest.mark.parametrize("variant", ["lmm", "mac", "transformer"])
def test_a_forecast_follows_the_level_and_the_spread(variant: str) -> None:
    config = TitansConfig(variant=variant, vocab_size=2, dim=16, num_layers=1, num_heads=2, segment_size=4)
    model = Forecaster(config, 32, 7, patch=8)
    past = mx.random.normal((3, 32))
    found = model(past)
    assert found.shape == (3, 7)
    assert mx.allclose(model(100 + 10 * past), 100 + 10 * found, atol=2e-2)
    other = mx.concatenate([past[:, :1] + 1, past[:, 1:]], axis=1)
    assert mx.abs(model(other) - found).max() > 1e-4, "the oldest step counts"


def test_dlinear_by_hand() -> None:
    model = LinearForecaster(12, 3, window=5)
    past = np.random.default_rng(0).normal(size=(2, 12))
    padded = np.concatenate([past[:, :1]] * 2 + [past] + [past[:, -1:]] * 2, axis=1)
    trend = np.stack([padded[:, place : place + 5].mean(1) for place in range(12)], axis=1)
    parts = [
        x @ np.array(layer.weight).T + np.array(layer.bias)
        for x, layer in ((trend, model.trend), (past - trend, model.rest))
    ]
    np.testing.assert_allclose(np.array(model(mx.array(past.astype(np.float32)))), sum(parts), atol=1e-5)


def test_a_high_level_costs_dlinear_no_digits() -> None:
    """A forecast that is the trend itself; the level alone costs about 1e-3 in float32."""
    model, past = LinearForecaster(336, 336), mx.random.normal((4, 336))
    model.trend.weight, model.rest.weight = mx.eye(336), mx.zeros((336, 336))
    assert mx.abs(model(past + 1e4) - model(past) - 1e4).max() < 5e-3


def test_errors_are_over_every_window(counted: str) -> None:
    task = SeriesTask(counted, 20, 5)

    def last(past: mx.array) -> mx.array:
        return mx.repeat(past[:, -1:], 5, axis=1)

    # One step is 1 / spread of the training part, and the same for both channels once scaled.
    step = 1 / table(counted)[:600, 0].std()
    mse, mae = series.errors(last, task, "test")
    assert mse == pytest.approx(step**2 * np.mean([1, 4, 9, 16, 25]), rel=1e-3)
    assert mae == pytest.approx(step * 3, rel=1e-3)
    assert series.errors(last, task, "test", windows=10) == pytest.approx((mse, mae), rel=1e-3)


def test_smoke_profile_runs() -> None:
    seen: list[float] = []
    rows = series.CLAIM.run("smoke", lambda what, done: seen.append(done))
    assert {row["model"] for row in rows} == {series.MATRIX, series.LINEAR} and seen == sorted(seen)
    assert all(0 < row["mae"] ** 2 <= row["mse"] < 10 for row in rows)
    assert series.judge(rows).status == "unfinished" and series.judge([]).status == "not run"


def write(path: Path, steps: int, value: str = "") -> str:
    path.write_text("date,OT\n" + "".join(f"d,{value or step % 7}\n" for step in range(steps)))
    return str(path)


def test_the_control_is_trained_and_tested_without_writing() -> None:
    """What a memory does not write, it cannot know: patches far back change no forecast."""
    (wanted,) = [job for job in series.jobs("full") if job.id == "no_memory-seasonal"]
    small = {"training": training_options(2), "seeds": [0], "grid": [[4e-3, 0.1]], "windows": 8, "batch": 4}
    past = np.random.default_rng(0).normal(size=(2, series.LOOKBACK)).astype(np.float32)
    swapped = past.copy()
    swapped[:, : series.PATCH], swapped[:, series.PATCH : 2 * series.PATCH] = (
        past[:, series.PATCH : 2 * series.PATCH],
        past[:, : series.PATCH],
    )
    far = {}
    for change in (wanted.settings["train_change"], {}):
        settings = wanted.settings | small | {"train_change": change}
        model = series.trained(settings, series.task_of(settings), (4e-3, 0.1), 0).model
        far[bool(change)] = float(mx.abs(model(mx.array(past)) - model(mx.array(swapped))).max())
    assert far[True] < 1e-6 < 1e-4 < far[False]


def test_only_tables_as_long_as_ett_are_split_by_its_months(tmp_path: Path) -> None:
    for steps, used in ((10_000, 10_000), (17_420, 14_400), (20_000, 20_000)):
        task = SeriesTask(write(tmp_path / f"{steps}.csv", steps), 20, 5)
        parts = {part: task.windows(part) for part in ("train", "validation", "test")}
        assert sum(parts.values()) == used - 20 - 3 * 4


@pytest.mark.parametrize(("steps", "value"), [(1000, "nan"), (1000, "inf"), (0, "")])
def test_a_table_without_finite_numbers_is_refused(tmp_path: Path, steps: int, value: str) -> None:
    path = write(tmp_path / "bad.csv", steps, value)
    with pytest.raises(ValueError, match=r"data must be one of .*bad\.csv.* missing or not finite"):
        SeriesTask(path, 20, 5)


def test_data_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"data": "ETTh1", "lookback": 20, "horizon": 5}
    monkeypatch.delenv(series.FOLDER, raising=False)
    with pytest.raises(ValueError, match=f"{series.FOLDER} must name the folder that holds ett/ETTh1.csv"):
        series.task_of(settings)
    (tmp_path / "ett").mkdir()
    write(tmp_path / "ett" / "ETTh1.csv", 500)
    monkeypatch.setenv(series.FOLDER, str(tmp_path))
    assert series.task_of(settings).channels == 1


def judged(error: Callable[[str, str], float]) -> str:
    rows = [
        {"model": model, "data": data, "mse": error(model, data), "mae": 0.4, "seed": seed, "parameters": 60_000}
        for model in (*series.MODELS, series.CONTROL)
        for data in series.DATA
        for seed in range(3)
    ]
    return series.judge(rows).status


def test_the_rule_at_its_edges() -> None:
    assert judged(lambda model, data: 0.98 if model == series.DEEP else 1.0) == "reproduced"
    assert judged(lambda model, data: 0.995 if model == series.DEEP else 1.0) == "not reproduced"
    assert judged(lambda model, data: 0.98 if model in (series.DEEP, series.LINEAR) else 1.0) == "not reproduced"
    one = judged(lambda model, data: 0.98 if (model, data) == (series.MATRIX, "ETTh2") else 1.0)
    assert one == "reproduced in part"
    as_good = judged(lambda model, data: 0.98 if model in (series.DEEP, series.CONTROL) else 1.0)
    assert as_good == "not reproduced", "it is not the memory"


def test_the_usual_horizons_stand_beside_the_rule() -> None:
    def rows(lookback: int, horizons: tuple[int, ...], mse: float) -> list[dict]:
        return [
            {"model": series.MATRIX, "data": "ETTh1", "mse": mse + horizon / 1000, "mae": 0.4, "seed": seed}
            | {"parameters": 60_000 + horizon, "lookback": lookback, "horizon": horizon}
            for seed in range(3)
            for horizon in horizons
        ]

    (found,) = series.usual([*rows(series.USUAL, series.HORIZONS, 0.4), *rows(series.LOOKBACK, (96,), 9.0)])
    assert found["mse"] == pytest.approx(0.4 + np.mean(series.HORIZONS) / 1000) and found["parameters"] == 60_720
    assert series.usual(rows(series.USUAL, series.HORIZONS[:3], 0.4)) == [], "one is missing"
    assert series.judge(rows(series.USUAL, series.HORIZONS, 0.4)).status == "not run", "of no weight"


def test_a_difference_within_the_noise_of_seeds_is_named() -> None:
    def rows(memory: tuple[float, ...]) -> list[dict]:
        return [
            {"model": model, "data": data, "mae": 0.4, "seed": seed, "parameters": 60_000}
            | {
                "mse": memory[seed] + 0.1 * (model == series.CONTROL)
                if model in (series.MATRIX, series.CONTROL)
                else 1.0
            }
            for model in (*series.MODELS, series.CONTROL)
            for data in series.DATA
            for seed in range(3)
        ]

    assert "noise" not in series.judge(rows((0.95, 0.96, 0.94))).figure
    noisy = series.judge(rows((0.6, 1.1, 0.9)))
    assert noisy.status == "reproduced" and "by less than the noise of seeds: seasonal, regimes" in noisy.figure


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SeriesTask("nowhere.csv"), "data must be one of .*'nowhere.csv'"),
        (lambda: SeriesTask(lookback=0), "lookback must be an integer >= 1, got 0"),
        (lambda: SeriesTask(horizon=5000), "lookback and horizon must fit the validation part of 2880 steps"),
        (lambda: SeriesTask().windows("all"), "part must be one of .*got 'all'"),
        (lambda: Forecaster(TitansConfig(), 30, 5, patch=16), "patch must divide lookback=30, got 16"),
        (lambda: Forecaster(TitansConfig(), 32, 0), "horizon must be an integer >= 1, got 0"),
        (lambda: LinearForecaster(10, 5, window=4), "window must be odd, got 4"),
        (lambda: LinearForecaster(10, 5)(mx.zeros((0, 10))), r"past must have shape \(B, 10\) with B >= 1"),
        (lambda: LinearForecaster(10, 5)(mx.zeros((2, 10), mx.int32)), "past must have a floating dtype"),
        (lambda: LinearForecaster(10, 5)(mx.array([[0.0] * 9 + [math.nan]])), "past must be finite, .* in row 0"),
        (
            lambda: LinearForecaster(10, 5)(mx.zeros((2, 9))),
            r"past must have shape \(B, 10\) with B >= 1, got \(2, 9\)",
        ),
    ],
)
def test_bad_input(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
