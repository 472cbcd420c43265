"""What the notebooks have in common: a claim's heading, its evidence, a live run with a progress bar."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import marimo as mo

# Before mlx, so that OpenBLAS is in place when it is loaded.
from titans_mlx import Titans, TitansConfig

# isort: split
import mlx.core as mx

from titans_mlx.claims.base import Claim, Job, Progress, Row
from titans_mlx.claims.recall_jobs import TITANS
from titans_mlx.claims.recall_runs import training_options
from titans_mlx.claims.store import DEMOS, TEXT_DEMO, stored_results, stored_rows, took
from titans_mlx.plots import STYLES
from titans_mlx.tasks import RecallTask
from titans_mlx.training.provenance import source_hash

SHOWN_IN = {
    "recall_distance": "titans_claims",
    "two_million": "titans_claims",
    "distractors": "02_copying",
    "variants": "10_variants",
    "capacity": "03_capacity",
    "gating": "04_gating",
    "contextual": "04_gating",
    "chunks": "05_chunks",
    "components": "11_components",
    "depth": "03_capacity",
    "frozen": "08_surprise",
    "series": "12_series",
    "staleness": "06_staleness",
    "throughput": "07_throughput",
    "surprise": "08_surprise",
    "needles": "13_needles",
    "stories": "13_needles",
    "tracking": "14_tracking",
    "language": "15_text",
    "far_text": "15_text",
    "mqar": "18_family",
    "family": "18_family",
    "outliers": "18_family",
}
"""The notebook that shows each claim's evidence."""
NO_MEMORY = "*No memory* is the same model with its memory standing still, in training and in the tests: the control."


def heading(claim: Claim) -> mo.Html:
    """A claim, with its protocol and its rule folded away."""
    return mo.vstack(
        [
            mo.md(f"## {claim.title}\n\n**{claim.statement}**"),
            mo.accordion(
                {
                    "What is run": mo.md(claim.protocol),
                    "What would refute it, and the rule of the verdict": mo.md(f"{claim.refuted_by}\n\n{claim.rule}"),
                }
            ),
        ]
    )


def evidence(claim: Claim, results: Path) -> list[Row]:
    """The stored rows of a claim; where there are none, the cell ends with the command that makes them."""
    return stored_or_hint(claim, stored_rows(results, claim))


def stored_or_hint(claim: Claim, rows: list[Row]) -> list[Row]:
    """Rows of a claim that were read before; where there are none, as :func:`evidence`."""
    command = f"python scripts/claims.py run {claim.evidence or claim.id} --jobs 2"
    hint = f"""No results are stored yet. This makes them, keeps what is done after a stop, and takes long:

    ```
    {command}
    ```

    Where there is a live run below, it needs none."""
    mo.stop(not rows, mo.callout(mo.md(hint), kind="warn"))
    return rows


def verdict(claim: Claim, rows: list[Row]) -> mo.Html:
    """The verdict by the claim's rule, with its scale; its figures folded away."""
    found = claim.judge(rows)
    kind = {"reproduced": "success", "not reproduced": "danger"}.get(found.status, "warn")
    told = mo.md(f"Verdict: {found.headline}. {found.scale}".rstrip(". ") + ".")
    if not found.figures:
        return mo.callout(told, kind)
    figures = mo.accordion({"The figures it rests on": mo.md("\n".join(f"- {line}" for line in found.figures))})
    return mo.callout(mo.vstack([told, figures]), kind)


def provenance_line(stored: list[dict[str, Any]]) -> str:
    """Where the stored numbers come from, in a sentence."""
    if not stored:
        return "No full run is stored."
    origins = [result["provenance"] for result in stored]
    commits = sorted({str(origin["commit"])[:9] for origin in origins})
    machines = sorted({f"{origin['processor']} ({origin['cores']} cores)" for origin in origins})
    last = max(origin["started"] for origin in origins)[:10]
    where = f"{took(stored)} on {', '.join(machines)}, commit {', '.join(commits)}"
    source = source_hash()
    older = sum(origin["source_hash"] != source for origin in origins)
    told = f"Stored runs: {len(stored)}; {where}; the last on {last}."
    if not older:
        return told
    return (
        f"{told} Made by an older source than this, and evidence until `scripts/claims.py run CLAIM --older`: {older}."
    )


def origin(claim: Claim, results: Path) -> str:
    """:func:`provenance_line` of a claim's stored results."""
    return provenance_line(stored_results(results, claim))


def numbers(rows: Sequence[Row], columns: dict[str, str]) -> mo.Html:
    """Rows of a summary as a table that is folded away; ``columns`` are those of the settings, by their names here."""
    lines = [
        {
            "Model": row["model"],
            **{title: row[name] for title, name in columns.items()},
            "Accuracy": f"{row['accuracy']:.1%}",
            "95 % interval": f"{row['low']:.1%} to {row['high']:.1%}",
            "Seeds": row["seeds"],
            "Answers": row["answers"],
            "Parameters": row["parameters"],
            "Training (s)": round(row["train_seconds"]),
        }
        for row in rows
    ]
    return folded(lines)


def interval(row: Row) -> str:
    """A 95 % interval of a value, where there are several trainings."""
    return "one training" if row["low"] is None else f"{row['low']:.3g} to {row['high']:.3g}"


def model_dropdown(rows: Sequence[Row]) -> mo.ui.dropdown:
    """A choice among the models of some rows: all, Titans, others."""
    names = dict.fromkeys(row["model"] for row in rows)
    present = sorted(names, key=[*STYLES, *names].index)
    choices = {
        "all": present,
        "Titans": [name for name in present if name in TITANS],
        "others": [name for name in present if name not in TITANS],
    }
    return mo.ui.dropdown(choices, value="all", label="Models")


def folded(lines: Sequence[Row], title: str = "The numbers") -> mo.Html:
    """A table that is folded away."""
    return mo.accordion({title: mo.ui.table(list(lines), selection=None, page_size=12, show_download=False)})


def demo(results: Path, model: str = "LMM matrix") -> tuple[Titans, RecallTask]:
    """A small trained model that is stored, and its task; without it the cell ends with the command that makes it."""
    folder = results / DEMOS[model]
    command = f'python scripts/demo_model.py --model "{model}"'
    hint = f"This model is not stored yet. This makes it in some minutes: `{command}`"
    mo.stop(not (folder / "config.json").exists(), mo.callout(mo.md(hint), kind="warn"))
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = Titans(TitansConfig.from_dict(stored["model"]))
    model.load_weights(str(folder / "model.safetensors"))
    mx.eval(model.parameters())
    return model, RecallTask(**stored["task"])


def text_model(results: Path) -> Titans:
    """The small stored model of Python's source; without it the cell ends with the command that makes it."""
    folder = results / TEXT_DEMO
    hint = "This model is not stored yet. This makes it in some minutes: `python scripts/demo_text.py`"
    mo.stop(not (folder / "config.json").exists(), mo.callout(mo.md(hint), kind="warn"))
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = Titans(TitansConfig.from_dict(stored["model"]))
    model.load_weights(str(folder / "model.safetensors"))
    mx.eval(model.parameters())
    return model


def live_settings(jobs: Sequence[Job]) -> mo.ui.dictionary:
    """What can be changed of jobs that train before they are run live: steps, learning rate, seed."""
    trained = next(job.settings for job in jobs if "training" in job.settings)
    steps, rate = trained["training"]["steps"], trained["grid"][0][0]
    return mo.ui.dictionary(
        {
            "steps": mo.ui.slider(
                steps=[steps // 2, steps, 2 * steps, 4 * steps], value=steps, label="Steps of training", show_value=True
            ),
            "rate": mo.ui.dropdown(sorted({rate / 2, rate, 2 * rate}), value=rate, label="Learning rate"),
            "seed": mo.ui.number(0, 999, value=trained["seeds"][0], label="Seed"),
        }
    )


def which_live(*claims: Claim) -> mo.ui.dropdown:
    """The claim that a live run is of, where a notebook has several."""
    return mo.ui.dropdown({claim.title: claim for claim in claims}, value=claims[0].title, label="Claim")


def with_settings(jobs: Sequence[Job], chosen: dict[str, Any]) -> list[Job]:
    """Jobs with what :func:`live_settings` gives; those that train nothing as they are."""
    return [
        replace(job, settings=job.settings | _trained_so(job.settings, **chosen)) if "training" in job.settings else job
        for job in jobs
    ]


def _trained_so(settings: dict[str, Any], steps: int, rate: float, seed: int) -> dict[str, Any]:
    (_, weight_decay), *_ = settings["grid"]
    return {"training": training_options(steps), "grid": [[rate, weight_decay]], "seeds": [seed]}


def try_live(text: str, settings: mo.ui.dictionary, button: mo.ui.run_button) -> mo.Html:
    """The head of a live run: what it does as it is set at first, what can be changed, and the button."""
    return mo.vstack([mo.md(f"## Try it live\n\n{text}"), controls(settings, button)])


def controls(settings: mo.ui.dictionary, button: mo.ui.run_button) -> mo.Html:
    """What can be changed of a live run, and its button."""
    return mo.vstack([settings.hstack(justify="start", gap=1.5, wrap=True), button])


def run_quick(claim: Claim, settings: mo.ui.dictionary) -> list[Row]:
    """Rows of a claim's quick profile, run here and now with the settings chosen."""
    return run_live(with_settings(claim.jobs("quick"), settings.value), claim.run_job)


def run_live(jobs: Sequence[Job], run_job: Callable[[Job, Progress], list[Row]]) -> list[Row]:
    """Rows of some jobs run here and now, under a progress bar."""
    rows, done = [], 0
    with mo.status.progress_bar(total=100 * len(jobs), title="Live run", remove_on_exit=True) as bar:
        for index, job in enumerate(jobs):

            def report(what: str, share: float, index: int = index) -> None:
                nonlocal done
                now = max(done, round(100 * (index + share)))
                bar.update(increment=now - done, subtitle=what)
                done = now

            rows += run_job(job, report)
    return rows


def asked_to_run(button: mo.ui.run_button) -> bool:
    """Whether a live run is wanted: the button, or ``-- --run true`` on the command line."""
    # A test has no command line to ask.
    return button.value or (mo.app_meta().mode != "test" and "run" in mo.cli_args())
