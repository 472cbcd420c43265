"""Parts of a verdict: why one does not hold."""

import pytest

from titans_mlx.claims.judging import more_part, verdict


@pytest.mark.parametrize(
    ("accuracies", "validation", "part"),
    [
        ((0.96, 0.98, 0.97), 0.9, ("a over b", True)),
        ((0.94, 0.95, 0.93), 0.9, ("a over b", False)),
        ((1.05, 0.85, 1.02), 0.9, ("a over b (within the noise of seeds)", False)),
        ((0.96, 0.98, 0.97), 0.4, ("a over b (not learned)", False)),
    ],
)
def test_a_part_that_does_not_hold_says_why(accuracies, validation: float, part: tuple[str, bool]) -> None:
    def rows_with(values, validated: float = 0.9):
        return [{"seed": n, "accuracy": v, "validation_accuracy": validated} for n, v in enumerate(values)]

    assert more_part("a over b", rows_with(accuracies), rows_with((0.9,) * 3, validation), 0.05) == part
    assert more_part("a over b", [], rows_with(accuracies), 0.05) == ("a over b", None)


def test_a_verdict_without_figures_lists_none() -> None:
    assert verdict({"parity": None}, "", "three seeds").figures == []
    assert verdict({"parity": True}, "parity: 98%; of 64", "three seeds").figures == ["parity: 98%", "of 64"]
