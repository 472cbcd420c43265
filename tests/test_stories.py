"""The claim on stories: bAbI's own are tested where their folder is given, and change nothing else."""

from pathlib import Path

import pytest
from claim_rows import as_claimed, rows_of
from test_needle_and_world import BABI

from titans_mlx.claims import stories
from titans_mlx.claims.interventions import STILL
from titans_mlx.claims.lab import CONTROL, make_task


def test_stories_of_babi_are_tested_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(stories.FOLDER, raising=False)
    assert stories.real_tests() == []
    (job, _) = stories.jobs("smoke")
    plain = stories.run_stories(job)
    assert {row["what"] for row in plain} == {"1", "2", "3"}

    (tmp_path / "babi").mkdir()
    for name in stories.BABI:
        (tmp_path / "babi" / f"{name}_test.txt").write_text(BABI)
    monkeypatch.setenv(stories.FOLDER, str(tmp_path))
    monkeypatch.setattr(stories, "LENGTHS", (64, 128, 256, 512))
    rows = stories.run_stories(job)
    assert [row["accuracy"] for row in rows[: len(plain)]] == [row["accuracy"] for row in plain]
    real = rows[len(plain) :]
    assert [(row["what"], row["x"]) for row in real] == [(f"bAbI {n}", x) for n in (1, 2, 3) for x in (128, 256)]
    assert all(row["queries"] == 1 and row["sequences"] == 64 for row in real)


def test_the_control_writes_nothing_on_stories_of_babi_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stories.FOLDER, "data")
    monkeypatch.setattr(stories, "run_lab", lambda job, progress: job.settings["tests"])
    for job in stories.jobs("full"):
        still = [test.get("change") == STILL for test in stories.run_stories(job)]
        assert len(still) > len(job.settings["tests"])
        assert all(still) if job.settings["model"] == CONTROL else not any(still)


def test_stories_of_babi_have_no_weight() -> None:
    rows = rows_of(stories.CLAIM, as_claimed)
    real = [{**row, "what": f"bAbI {row['what']}", "accuracy": 0.0, "correct": [0.0] * 8} for row in rows]
    assert stories.judge([*rows, *real]) == stories.judge(rows)
    assert stories.judge(rows).status == "reproduced"


def test_every_training_task_bears_its_questions() -> None:
    for job in stories.jobs("full"):
        for fields in job.settings["train"]:
            assert 1 <= fields["num_questions"] <= 3
            assert make_task(fields).sample(2, 0).mask.sum() == 2 * fields["num_questions"]
