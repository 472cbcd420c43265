"""Sweeps, dots and matrices of accuracies."""

from pathlib import Path

import pytest

from titans_mlx import plots

from .charts import marks, swept, words


def test_sweep_chart_holds_its_rows_chance_and_reference(tmp_path: Path) -> None:
    chart = plots.sweep_chart(swept(), "x", "Factor", reference=(1.0, "as trained"), levels=True, heading="theta")
    drawn = words(chart, tmp_path)
    assert {"Factor", "theta", "as trained", "chance 2%", "LMM matrix", "MAG", "0.5"} <= set(drawn)
    assert {"area", "line", "point", "rule", "text"} <= set(marks(chart))
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.sweep_chart([], "x", "Factor")


def test_sweeps_over_doubling_numbers_are_logarithmic() -> None:
    chart = plots.sweep_chart(swept(xs=(16, 64, 4096)), "x", "Distractors").to_dict()
    scale = chart["layer"][0]["encoding"]["x"]["scale"]
    assert (scale["type"], scale["base"], scale["domain"]) == ("log", 2, [16, 4096])


def test_panels_of_one_picture_share_colours() -> None:
    both, alone = swept(), swept(models=("MAG",))
    chart = plots.sweep_chart(alone, "x", "Factor", among=both).to_dict()
    assert chart["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["LMM matrix", "MAG"]


def test_names_that_are_no_models_can_be_told_apart() -> None:
    chart = plots.sweep_chart(swept(models=("b", "a", "MAG")), "x", "Factor").to_dict()
    scale = chart["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == ["MAG", "b", "a"]
    assert len(set(scale["range"])) == 3
    chart = plots.sweep_chart(swept(models=("LMM matrix", "a")), "x", "Factor").to_dict()
    assert len(set(chart["layer"][0]["encoding"]["color"]["scale"]["range"])) == 2, "no colour of a model beside it"


def test_dots_stand_under_their_condition(tmp_path: Path) -> None:
    rows = swept(xs=(1.0,)) + swept(xs=(0.0,), use="no writes")
    chart = plots.dot_chart(rows, "use", ["whole", "no writes"])
    drawn = words(chart, tmp_path)
    assert drawn.index("whole") < drawn.index("no writes")
    assert chart.to_dict()["height"] == 2 * 64
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.dot_chart([], "use", [])


def test_a_matrix_says_its_numbers(tmp_path: Path) -> None:
    rows = [{**row, "y": y} for y in (1, 16) for row in swept(models=("MAG",), xs=(1, 16))]
    drawn = words(plots.matrix_chart(rows, "x", "y", ("tested", "trained"), heading="MAG"), tmp_path)
    assert {"tested", "trained", "MAG", "60%"} <= set(drawn)
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.matrix_chart([], "x", "y", ("tested", "trained"))


def test_small_multiples_have_one_axis_one_chance_and_one_legend(tmp_path: Path) -> None:
    chart = plots.small_multiples([("first", swept()), ("second", swept(models=("MAL",)))], "x", "Factor", levels=True)
    drawn = words(chart, tmp_path)
    assert [drawn.count(word) for word in ("first", "second", "chance 2%", "Accuracy (share of answers)")] == [1] * 4
    assert [drawn.count(name) for name in ("LMM matrix", "MAG", "MAL")] == [1, 1, 1]
    with pytest.raises(ValueError, match="panels must hold at least one panel"):
        plots.small_multiples([], "x", "Factor")
