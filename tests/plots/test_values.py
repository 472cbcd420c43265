"""Charts of other quantities: rates, correlations, bits, gains."""

from pathlib import Path

import pytest

from titans_mlx import plots

from .charts import marks, measured, values, words


def test_quantities_against_length_are_on_two_logarithmic_axes(tmp_path: Path) -> None:
    titles = ("Tokens in a sequence", "Tokens a second")
    chart = plots.length_chart(measured(), "rate", titles, heading="Training", interval=True)
    assert {*titles, "Training", "LMM deep", "Transformer"} <= set(words(chart, tmp_path))
    encoding = chart.to_dict()["layer"][-1]["encoding"]
    assert [encoding[axis]["scale"]["type"] for axis in "xy"] == ["log", "log"]
    assert marks(chart) == ["rule", "line", "point"]
    assert marks(plots.length_chart(measured(), "rate", titles)) == ["line", "point"]
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.length_chart([], "rate", titles)


def test_values_stand_beside_their_lines(tmp_path: Path) -> None:
    rows = [
        {"model": model, "state": state, "value": 0.4, "low": 0.3, "high": 0.5, "seeds": 3}
        for model in ("MAC", "MAG")
        for state in ("trained", "untrained")
    ]
    chart = plots.value_chart(rows, "Correlation", (-1, 1), [(0, "none"), (0.2, "rule")], heading="Prose")
    assert {"MAC", "MAG", "none", "rule", "Correlation", "trained", "untrained"} <= set(words(chart, tmp_path))
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.value_chart([], "Correlation", (-1, 1), [])


def test_tenths_run_from_expected_to_unexpected(tmp_path: Path) -> None:
    shares = [index / 10 for index in range(10)]
    rows = [
        {"model": "MAC", "tenth": place + 1, "value": share, "low": None, "high": None}
        for place, share in enumerate(shares)
    ]
    chart = plots.tenth_chart(rows, heading="Prose")
    assert {"no relation", "MAC", "1", "10"} <= set(words(chart, tmp_path))
    drawn = [row["value"] for row in values(chart) if "value" in row][:10]
    assert drawn == shares
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.tenth_chart([])


def test_lengths_name_where_training_ended(tmp_path: Path) -> None:
    rows = [{"model": "MAC", "x": 2**power, "bits": 2.0, "trained_length": 256} for power in range(5, 13)]
    titles = ("Position (bytes, up to)", "Bits per byte")
    assert "trained up to 256" in words(plots.length_chart(rows, "bits", titles, log=False, reference=True), tmp_path)
    assert "trained up to 256" not in words(plots.length_chart(rows, "bits", titles, log=False), tmp_path)


def test_whiskers_are_drawn_where_all_have_an_interval() -> None:
    rows = [{"model": "MAC", "x": 2**power, "nats": 2.0, "low": 1.9, "high": 2.1} for power in range(5, 8)]
    titles = ("Bytes", "Loss (nats a byte)")
    assert "rule" in marks(plots.length_chart(rows, "nats", titles, interval=True))
    one_seed = [*rows, {**rows[0], "x": 512, "low": None, "high": None}]
    assert "rule" not in marks(plots.length_chart(one_seed, "nats", titles, interval=True))


def test_values_far_from_nought_fill_their_axis(tmp_path: Path) -> None:
    rows = [{"model": "MAC", "state": "trained", "value": 2.2, "low": 2.1, "high": 2.3, "seeds": 3}]
    drawn = words(plots.value_chart(rows, "Bits per byte", (2.0, 2.4), [(2.25, "best baseline")]), tmp_path)
    assert "best baseline" in drawn and not {"0", "0.0", "0.5", "1.0"} & set(drawn)


def test_gains_stand_beside_nothing(tmp_path: Path) -> None:
    common = {"accuracy": 0.5, "nats": 1.0, "gain_high": None}
    rows = [
        {"model": model, "what": what, "gain": gain, "gain_low": -60.0 if what == "prose" else None, **common}
        for model, gain in (("no decay", -50.0), ("+ attention (MAC)", 2.0))
        for what in ("recall", "prose")
    ]
    chart = plots.gain_chart(rows, ["no decay", "+ attention (MAC)"], "Gain")
    drawn = words(chart, tmp_path)
    assert drawn.index("no decay") < drawn.index("+ attention (MAC)") and {"recall", "prose", "Gain"} <= set(drawn)
    shown = [row for row in values(chart) if "shown" in row]
    assert min(row["shown"] for row in shown) == -20, "cut where the axis ends"
    assert {row["low"] for row in shown} == {-20, None}
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.gain_chart([], [], "Gain")
