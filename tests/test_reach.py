"""The rule that needles and stories share: what holds far away, and what must be behind."""

from collections.abc import Callable
from typing import Any

import pytest
from claim_rows import as_claimed, changed_rows, rows_of, with_seeds

from titans_mlx.claims import needles, stories
from titans_mlx.claims.lab import CONTROL
from titans_mlx.claims.recall_jobs import SLIDING, TITANS

REACH = [(needles.CLAIM, "uuid", "TTT MLP"), (stories.CLAIM, "2", SLIDING)]


@pytest.mark.parametrize(("claim", "kind", "other"), REACH)
def test_the_rule_of_reach_at_its_edges(claim, kind: str, other: str) -> None:
    far = claim.jobs("full")[0].settings["tests"][-1]["x"]
    edges: list[tuple[Callable[[str, dict[str, Any]], bool], float, str]] = [
        (lambda model, test: model in TITANS, 0.91, "reproduced"),
        (lambda model, test: model in TITANS, 0.89, "reproduced in part"),
        (lambda model, test: model in TITANS and test["x"] < far, 0.99, "reproduced"),
        (lambda model, test: model in TITANS and test["x"] == far, 0.9, "reproduced"),
        (lambda model, test: model in TITANS and test["x"] == far, 0.899, "reproduced in part"),
        (lambda model, test: model == other and test["x"] == far, 0.84, "reproduced"),
        (lambda model, test: model == other and test["x"] == far, 0.86, "reproduced in part"),
        (lambda model, test: model == other and test["x"] < far, 0.99, "reproduced"),
        (lambda model, test: model == "MAC", 0.1, "reproduced"),
    ]
    for where, value, status in edges:

        def share(settings, test, where=where, value=value) -> float | None:
            return value if test["what"] == kind and where(settings["model"], test) else None

        assert changed_rows(claim, share) == status, value
    behind = changed_rows(claim, lambda s, t: 0.31 if s["model"] in TITANS else 0.17)
    assert behind == "not reproduced", "others may be behind a Titan that does not hold"
    steep = changed_rows(claim, lambda s, t: (0.92 if t["x"] == far else 0.98) if s["model"] in TITANS else None)
    assert steep == "not reproduced", "6 points down on the way"


def test_needles_ask_other_recurrences_to_fall() -> None:
    kind, near = "uuid", needles.TRAINED
    for level, status in ((0.56, "reproduced"), (0.54, "reproduced in part"), (0.4, "reproduced in part")):

        def share(settings, test, level=level) -> float | None:
            if settings["model"] in TITANS or test["what"] != kind:
                return None
            return level if test["x"] == near else min(0.5, level)

        assert changed_rows(needles.CLAIM, share) == status, "6 points, 4 points, and none that has learned"


def test_stories_need_a_recurrence_that_has_learned() -> None:
    found = stories.judge(
        rows_of(stories.CLAIM, lambda s, t: 0.4 if s["model"] == "Gated DeltaNet" else as_claimed(s, t))
    )
    assert "1 fact (others, Gated DeltaNet not learned at 1,024)" in found.lacking
    found = stories.judge(rows_of(stories.CLAIM, lambda s, t: 0.4 if t["what"] == "3" else as_claimed(s, t)))
    assert "3 facts (Titans, below 90% at 1,024 too)" in found.lacking


def test_the_control_is_told() -> None:
    rows = rows_of(stories.CLAIM, lambda s, t: 0.2 if s["model"] == CONTROL else as_claimed(s, t))
    assert f"{CONTROL} 20% at {stories.FAR:,}" in stories.judge(rows).figure
    without = stories.judge([row for row in rows if row["model"] != CONTROL])
    assert CONTROL not in without.figure and without.status == stories.judge(rows).status, "of no weight"


def test_others_are_behind_beyond_the_noise_of_seeds() -> None:
    for seeds, status in (((0.5, 0.6, 0.7), "reproduced"), ((0.2, 0.3, 0.94), "reproduced in part")):
        found = with_seeds(stories.CLAIM, {SLIDING: seeds}, lambda row: (row["what"], row["x"]) == ("2", stories.FAR))
        assert found == status
