"""The claim on MAC, MAG and MAL: what counts, and where there is no room."""

from typing import Any

import pytest
from claim_rows import as_claimed, changed_rows, rows_of

from titans_mlx.claims import distractors, needles, variants


def test_variants_are_compared_on_what_all_have_learned() -> None:
    rows = rows_of(
        variants.CLAIM, lambda s, t: 0.95 if (s["model"], t.get("what")) == ("MAL", "induction") else as_claimed(s, t)
    )
    assert variants.judge(rows).status == "reproduced", "copying tells them apart"
    for row in rows:
        if row["model"] == "MAL" and row.get("what") in distractors.PARTS and row["what"] != "induction":
            row["validation_accuracy"] = 0.1
    found = variants.judge(rows)
    assert "learned by all three: induction;" in found.figure
    short = "; ".join(f"{model}, {span}" for span in (variants.SHORT, variants.LONG) for model in variants.OTHERS)
    assert found.lacking == f"does not hold: {short}"


def test_long_recall_is_a_part_of_its_own() -> None:
    for share, status in ((0.92, "reproduced"), (0.94, "reproduced in part")):
        found = changed_rows(
            variants.CLAIM, lambda s, t, share=share: share if s["model"] == "MAL" and "distance" in t else None
        )
        assert found == status, "three points behind, or one"
    rows = rows_of(variants.CLAIM, as_claimed)
    rest = [row for row in rows if "distance" not in row]
    assert variants.judge(rest).status == "unfinished"
    unknown = [{**row, "validation_accuracy": 0.4} if "distance" in row else row for row in rows]
    assert variants.judge(unknown).status == "reproduced in part", "far recall of what was never learned"


def test_where_nothing_could_be_better_nothing_is_judged() -> None:
    rows = rows_of(variants.CLAIM, full_where_short_or_far)
    found = variants.judge(rows)
    assert found.status == "reproduced", "text and needles are left, and hold"
    assert found.lacking.startswith("no room above MAL: MAC, as trained;") and found.lacking.count(";") == 5


def full_where_short_or_far(settings: dict[str, Any], test: dict[str, Any]) -> float:
    room = "corpus" in test or test.get("what") in needles.KINDS
    return as_claimed(settings, test) if room or settings["model"] != "MAL" else 0.99


@pytest.mark.parametrize(
    ("gains", "lacking"),
    [
        ((0.04, 0.05, 0.06), ""),
        ((0.01, 0.01, 0.01), "does not hold: MAC, needles"),
        ((0.2, -0.1, 0.2), "does not hold: MAC, needles (within the noise of seeds)"),
    ],
)
def test_needles_count_beyond_the_noise_of_seeds(gains: tuple[float, ...], lacking: str) -> None:
    rows = rows_of(variants.CLAIM, as_claimed)
    for row in rows:
        if row["model"] == "MAC" and row.get("what") in needles.KINDS:
            row["accuracy"] = 0.9 + gains[row["seed"] - variants.SEEDS[0]]
    found = variants.judge(rows)
    assert found.lacking == lacking and "needles in 16,384 bytes: MAC" in found.figure


def test_text_is_judged_on_each_corpus() -> None:
    for share, lacking in ((0.93, ""), (0.945, "does not hold: MAC, text; MAG, text")):
        rows = rows_of(
            variants.CLAIM,
            lambda s, t, share=share: share if (s["model"], t.get("corpus")) == ("MAL", "stdlib") else as_claimed(s, t),
        )
        assert variants.judge(rows).lacking == lacking, "1.05 bits are 1.9 % fewer than 1.07, 0.5 % than 1.055"
