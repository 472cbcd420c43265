"""The claims notebook opens on what is stored, says what to run when nothing is, and trains only when asked."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from titans_mlx.claims import recall_jobs

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "titans_claims.py"


@pytest.fixture(scope="module")
def notebook():
    spec = importlib.util.spec_from_file_location("titans_claims", NOTEBOOK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts(outputs) -> str:
    """What the cells show, as HTML."""
    return "\n".join(output.text for output in outputs if hasattr(output, "text"))


@pytest.fixture(scope="module")
def opened(notebook, smoke_results):
    """What the cells show, and what they define, when it is opened on results."""
    outputs, defs = notebook.app.run(defs={"results": smoke_results})
    return texts(outputs), defs


def test_it_shows_what_is_stored(opened):
    shown, defs = opened
    assert {row["model"] for row in defs["shown"]} == {"LMM matrix", recall_jobs.SLIDING}
    assert "Stored runs: 2" in shown
    assert "not run" in shown, "four steps to a distance of 64 are no evidence for the ledger"
    assert "chance 2%" in shown
    assert len(defs["work"]) == 2 * 2 * 44
    assert "of 8 queries" in shown


def test_it_trains_nothing_unless_asked(opened):
    shown, defs = opened
    assert "live_rows" not in defs
    assert "Nothing has been run yet" in shown


def test_it_says_what_to_run_when_nothing_is_stored(notebook, tmp_path):
    outputs, defs = notebook.app.run(defs={"results": tmp_path})
    shown = texts(outputs)
    assert "scripts/claims.py run recall_distance" in shown
    assert "scripts/demo_model.py" in shown
    assert not {"shown", "work", "live_rows"} & defs.keys()


def test_a_live_run_gives_rows_that_the_charts_take(notebook):
    small = {"distances": [16, 64], "lengths": [48], "grid": [[3e-3, 0.1]], "near_sequences": 2, "tokens_per_step": 256}
    rows = notebook.run_live(small, "MAG", "write cost", num_pairs=2, steps=2)
    assert [(row["model"], row["option"], row["distance"]) for row in rows] == [
        ("MAG", "write cost", 16),
        ("MAG", "write cost", 64),
        (recall_jobs.SLIDING, "paper", 16),
        (recall_jobs.SLIDING, "paper", 64),
    ]
    chart = json.dumps(notebook.plots.recall_chart(rows, "few", "write cost").to_dict())
    assert '"MAG"' in chart
    assert '"Sliding window"' in chart


def test_it_runs_as_a_script():
    done = subprocess.run(
        [sys.executable, NOTEBOOK],
        env={**os.environ, "PYTHONPATH": str(NOTEBOOK.parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
