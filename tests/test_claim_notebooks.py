"""The notebooks of single claims open on what is stored, say what to run when nothing is, and train only when asked."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import altair as alt
import parts
import pytest

from titans_mlx.claims import CLAIMS

FOLDER = Path(__file__).parent.parent / "notebooks"
SHOWN = {
    "02_copying": "distractors",
    "03_capacity": "capacity",
    "04_gating": "gating",
    "05_chunks": "chunks",
    "06_staleness": "staleness",
    "07_throughput": "throughput",
    "08_surprise": "surprise",
    "11_components": "components",
    "12_series": "series",
    "13_needles": "needles",
    "14_tracking": "tracking",
    "15_text": "language",
    "18_family": "outliers",
}
"""The claim of each notebook."""
LOOKING = ("09_memory", "16_session", "17_choices")
"""Notebooks without a claim."""


def test_every_notebook_is_tested_here_or_in_a_file_of_its_own() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*SHOWN, "titans_claims", *LOOKING, "10_variants"}


def notebook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def opened(name: str, results: Path) -> tuple[str, dict]:
    outputs, defs = notebook(name).app.run(defs={"results": results})
    return "\n".join(output.text for output in outputs if hasattr(output, "text")), defs


def test_every_claim_has_a_notebook_that_shows_it() -> None:
    assert parts.SHOWN_IN.keys() == CLAIMS.keys()
    for claim, name in parts.SHOWN_IN.items():
        assert f"{claim}.CLAIM" in (FOLDER / f"{name}.py").read_text(encoding="utf-8")


def test_a_choice_of_models_has_every_model_there_is() -> None:
    names = ["A model without a colour", "MAL, fading to birth", "RetNet", "MAL"]
    options = parts.model_dropdown([{"model": name} for name in names]).options
    assert options["all"] == ["MAL", "RetNet", "MAL, fading to birth", "A model without a colour"]
    assert options["Titans"] == ["MAL"] and sorted(options["Titans"] + options["others"]) == sorted(names)


BESIDE = {
    "03_capacity": ("depth",),
    "08_surprise": ("frozen",),
    "13_needles": ("stories",),
    "18_family": ("mqar", "family"),
}
"""Further claims of a notebook that are run live there."""
FIRST = [name for name in SHOWN if name != "18_family" and "live_settings" in (FOLDER / f"{name}.py").read_text()]


@pytest.mark.parametrize(
    "claim", [SHOWN[name] for name in FIRST] + [claim for more in BESIDE.values() for claim in more]
)
def test_a_live_run_is_the_quick_profile_until_something_is_changed(claim: str) -> None:
    jobs = CLAIMS[claim].jobs("quick")
    live = parts.live_settings(jobs)
    assert parts.with_settings(jobs, live.value) == jobs
    chosen = live.value | {"steps": 2, "seed": 7}
    for job, as_it_was in zip(parts.with_settings(jobs, chosen), jobs, strict=True):
        if "training" in job.settings:
            assert (job.settings["training"]["steps"], job.settings["seeds"]) == (2, [7])
            assert job.settings.keys() == as_it_was.settings.keys() and job.id == as_it_was.id


@pytest.mark.parametrize(
    ("name", "claim"),
    [(name, claim) for name, more in BESIDE.items() for claim in (SHOWN[name], *more) if claim != "outliers"],
)
def test_each_claim_of_a_notebook_is_run_live(name: str, claim: str, tmp_path: Path) -> None:
    """As the quick profile is, on the sizes of the smoke profile."""
    jobs = CLAIMS[claim].jobs("smoke")
    given = SimpleNamespace(value=replace(CLAIMS[claim], jobs=lambda profile: jobs))
    live, pressed = SimpleNamespace(value=parts.live_settings(jobs).value), SimpleNamespace(value=True)
    family = name == "18_family"
    settings, button = ("trained_live", "train_button") if family else ("live", "run_button")
    outputs, defs = notebook(name).app.run(defs={"results": tmp_path, "which": given, settings: live, button: pressed})
    assert len(defs["trained_rows" if family else "live_rows"]) >= len(jobs)
    assert any(isinstance(o, alt.TopLevelMixin) or "vega" in getattr(o, "text", "") for o in outputs)


@pytest.mark.parametrize("name", SHOWN)
def test_it_shows_what_is_stored_and_trains_nothing(name: str, smoke_results: Path) -> None:
    shown, defs = opened(name, smoke_results)
    claim = CLAIMS[SHOWN[name]]
    assert claim.statement.split(";")[0] in shown
    assert "unfinished" in shown, "the smoke profile decides nothing"
    assert f"Stored runs: {len(claim.jobs('smoke'))}" in shown
    assert "How to read this" in shown and "The numbers" in shown
    assert "<ol" not in shown, "a number that begins a line of Markdown begins a list"
    assert "Nothing has been run yet" in shown and "live_rows" not in defs


@pytest.mark.parametrize("name", SHOWN)
def test_it_says_what_to_run_when_nothing_is_stored(name: str, tmp_path: Path) -> None:
    shown, defs = opened(name, tmp_path)
    assert f"scripts/claims.py run {SHOWN[name]}" in shown
    assert "rows" not in defs and "summary" not in defs


def test_every_known_model_is_shown_as_a_rule() -> None:
    """As it opens: the equations of the model it starts from, its name, and the objective of one's own."""
    shown, defs = opened("17_choices", Path())
    assert "Titans (LMM)" in shown and "mathrm{LN}" in shown and "How to read this" in shown
    assert defs["name"] == "Titans (LMM)" and defs["own"] == ["log cosh"]


def test_a_session_is_shown_while_it_reads(smoke_results: Path, tmp_path: Path) -> None:
    shown, defs = opened("16_session", smoke_results)
    length = len(defs["TEXT"].encode()) if "TEXT" in defs else defs["fed"].position
    assert defs["fed"].position == length and defs["fresh"].position == 0
    assert len(defs["found"].ids) == length and len(defs["found"].works) == 2
    assert {row["model"] for row in defs["lines"]} == {"before", "after"}
    assert "bits a byte over the first third" in shown and "How to read this" in shown
    shown, defs = opened("16_session", tmp_path)
    assert "scripts/demo_text.py" in shown and "fed" not in defs


def test_a_memory_is_shown_at_work(smoke_results: Path, tmp_path: Path) -> None:
    shown, defs = opened("09_memory", smoke_results)
    assert "of 8 queries rightly" in shown and "Choose MAC" in shown
    assert {"rank", "surprise", "movement"} <= defs["work"][0].keys()
    shown, defs = opened("09_memory", tmp_path)
    assert "scripts/demo_model.py" in shown and "work" not in defs


def test_a_mac_shows_where_it_looks(smoke_results: Path) -> None:
    model, task = parts.demo(smoke_results, "MAC")
    outputs, defs = notebook("09_memory").app.run(defs={"model": model, "task": task})
    shown = "\n".join(output.text for output in outputs if hasattr(output, "text"))
    assert sum(defs["shares"].values()) == pytest.approx(1, abs=1e-5) and "to the persistent tokens" in shown


def test_two_variants_are_compared(smoke_results: Path, tmp_path: Path) -> None:
    shown, defs = opened("10_variants", smoke_results)
    assert CLAIMS["variants"].statement in shown and "How to read this" in shown
    assert len(set(defs["two"])) == 2
    shown, defs = opened("10_variants", tmp_path)
    assert "scripts/claims.py run recall_distance" in shown and "two" not in defs


def test_notebooks_are_exported(tmp_path: Path) -> None:
    script = FOLDER.parent / "scripts" / "export_notebooks.py"
    command = [sys.executable, str(script), "--out", str(tmp_path)]
    done = subprocess.run([*command, "05_chunks"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert CLAIMS["chunks"].statement in (tmp_path / "05_chunks.html").read_text(encoding="utf-8")
    refused = subprocess.run([*command, "06_nothing"], capture_output=True, text=True, check=False)
    assert refused.returncode and "notebook must be one of" in refused.stderr
