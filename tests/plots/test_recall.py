"""Charts of recall over distance, and of its cost."""

import re
from pathlib import Path
from typing import Any

import pytest

from titans_mlx import plots
from titans_mlx.claims.recall_jobs import SLIDING

from .charts import MODELS, summary, values, words


def test_an_option_is_of_titans_and_baselines_stand_beside_it() -> None:
    rows = summary() + summary(["LMM matrix"], option="write cost") + summary(setting="many")
    chosen = plots.chosen_rows(rows, "few", "write cost")
    assert {(row["model"], row["option"]) for row in chosen} == {
        ("LMM matrix", "write cost"),
        ("RetNet", "paper"),
        (SLIDING, "paper"),
    }
    assert {row["model"] for row in plots.chosen_rows(rows, "few", "paper", ["RetNet"])} == {"RetNet"}


def test_a_model_that_lacks_the_option_is_left_out_not_replaced() -> None:
    rows = summary(["LMM matrix", "MAC"]) + summary(["MAC"], option="write cost")
    assert {row["model"] for row in plots.chosen_rows(rows, "few", "write cost")} == {"MAC"}


def test_recall_chart_holds_the_rows_and_its_reference_lines(tmp_path: Path) -> None:
    chart = plots.recall_chart(summary(), "few", title="Recall")
    drawn = [row for row in values(chart) if "accuracy" in row]
    for row in summary():
        assert {name: row[name] for name in ("model", "distance", "accuracy", "low", "high")}.items() <= next(
            d.items() for d in drawn if (d["model"], d["distance"]) == (row["model"], row["distance"])
        )
    assert {"chance": 0.02} in values(chart)
    assert {"length": 1024} in values(chart)
    shown = words(chart, tmp_path)
    axes = ["Distance (filler tokens between pair and query)", "Accuracy of recall (share of answers)"]
    for word in [*MODELS, *axes, "chance 2%", "trained up to 1,024", "65,536", "100%", "Recall"]:
        assert word in shown


def test_distances_short_of_the_training_length_leave_room_for_it(tmp_path: Path) -> None:
    chart = plots.recall_chart(summary(distances=(16, 64)), "few")
    domains = re.findall(r"'domain': \[([\d., ]+)\], 'nice': False, 'type': 'log'", str(chart.to_dict()))
    assert set(domains) == {"16, 1024"}


def test_recall_chart_refuses_what_has_no_rows() -> None:
    with pytest.raises(ValueError, match=r"\('few', 'paper'\).*got \('many', 'paper'\)"):
        plots.recall_chart(summary(), "many")


def test_picture_shows_every_setting_and_one_legend(tmp_path: Path) -> None:
    shown = words(plots.recall_picture(summary() + summary(setting="many")), tmp_path)
    assert "Few filler words" in shown
    assert "Many filler words" in shown
    assert shown.count("RetNet") == 1
    with pytest.raises(ValueError, match="option must be that of a row"):
        plots.recall_picture(summary(), "write cost")


def test_a_model_has_one_colour_in_every_panel() -> None:
    """Also where the panels hold unlike models, as while runs are going."""
    few = summary(("LMM matrix", "Sliding window"))
    many = summary(("LMM matrix", "MAC", "MAG", "Sliding window"), setting="many")
    found = set()

    def collect(spec: Any) -> None:
        if isinstance(spec, dict):
            colour = spec.get("color")
            if isinstance(colour, dict) and "scale" in colour:
                found.add((tuple(colour["scale"]["domain"]), tuple(colour["scale"]["range"])))
            for value in spec.values():
                collect(value)
        elif isinstance(spec, list):
            for value in spec:
                collect(value)

    collect(plots.recall_picture(few + many).to_dict())
    ((domain, colours),) = found
    assert domain == ("LMM matrix", "MAC", "MAG", "Sliding window")
    assert list(colours) == [plots.STYLES[name][0] for name in domain]


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.cost_chart([])


def test_cost_chart_spans_whole_decades(tmp_path: Path) -> None:
    rows = summary()
    shown = words(plots.cost_chart(rows), tmp_path)
    for word in ("Seconds per sequence", "Peak memory per sequence (MB)", "0.01", "10", "100", "RetNet"):
        assert word in shown
    assert "RetNet" not in words(plots.cost_chart(rows, legend=False), tmp_path)
