"""The claim on stories: bAbI's own are tested where their folder is given, and change nothing else."""

from pathlib import Path

import pytest
from test_needle_and_world import BABI

from titans_mlx.claims import stories
from titans_mlx.claims.lab import make_task


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
    assert stories.judge(rows) == stories.judge(plain)


def test_every_training_task_bears_its_questions() -> None:
    for job in stories.jobs("full"):
        for fields in job.settings["train"]:
            assert 1 <= fields["num_questions"] <= 3
            assert make_task(fields).sample(2, 0).mask.sum() == 2 * fields["num_questions"]
