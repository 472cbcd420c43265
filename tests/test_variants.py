"""The claim on MAC, MAG and MAL: what counts, and where there is no room."""

from claim_rows import as_claimed, changed_rows, rows_of

from titans_mlx.claims import variants


def test_variants_are_compared_on_what_all_have_learned() -> None:
    rows = rows_of(
        variants.CLAIM, lambda s, t: 0.95 if (s["model"], t.get("what")) == ("MAL", "induction") else as_claimed(s, t)
    )
    assert variants.judge(rows).status == "reproduced", "copying tells them apart"
    for row in rows:
        if row["model"] == "MAL" and row.get("what") != "induction":
            row["validation_accuracy"] = 0.1
    found = variants.judge(rows)
    assert found.status == "not reproduced" and "learned by all three: induction;" in found.figure


def test_long_recall_is_a_part_of_its_own() -> None:
    for share, status in ((0.92, "reproduced"), (0.94, "reproduced in part")):
        found = changed_rows(
            variants.CLAIM, lambda s, t, share=share: share if s["model"] == "MAL" and "distance" in t else None
        )
        assert found == status, "three points behind, or one"
    rows = rows_of(variants.CLAIM, lambda s, t: 0.99 if s["model"] == "MAL" else as_claimed(s, t))
    assert variants.judge(rows).lacking.count("(no room: MAL 99%)") == 6
    rest = [row for row in rows if "distance" not in row]
    assert variants.judge(rest).status == "unfinished"
    rows = rows_of(variants.CLAIM, as_claimed)
    unknown = [row if "what" in row else {**row, "validation_accuracy": 0.4} for row in rows]
    assert variants.judge(unknown).status == "reproduced in part", "far recall of what was never learned"
