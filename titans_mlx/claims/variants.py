"""Claim: memory as context and memory as gate beat memory as a layer."""

from dataclasses import replace

import numpy as np

from titans_mlx.claims import distractors, language, needles, recall_distance
from titans_mlx.claims.base import Claim, Job, Profile, Progress, Row, Verdict
from titans_mlx.claims.judging import LEARNED, MORE_RULE, learned, more_part, scale_of, verdict
from titans_mlx.claims.lab import run_lab
from titans_mlx.claims.recall_jobs import FAR
from titans_mlx.claims.statistics import gain, mean_interval
from titans_mlx.tasks.recall import SETTINGS

ID = "variants"
BETTER, FEWER = 0.02, 0.01
LAYER, OTHERS = "MAL", ("MAC", "MAG")
SHORT, LONG, RECALL, NEEDLES, TEXT = "as trained", "beyond", "long recall", "needles", "text"
SEEDS = (3, 4, 5)
"""Of the needles' trainings for this claim: those of the claim on needles were seen before this one's rule."""


def jobs(profile: Profile) -> list[Job]:
    """Those of copying and induction, and of recall over distance those of the three variants.

    In the full profile also those of the claim on text, and needles with seeds of their own.

    Raises:
        ValueError: if the profile is unknown.
    """
    asked = [replace(job, held_by=recall_distance.CLAIM.id) for job in recall_distance.CLAIM.jobs(profile)]
    if profile == "full":
        asked += [replace(job, held_by=language.CLAIM.id) for job in language.CLAIM.jobs(profile)]
        asked += [replace(needles.full_job(model, seeds=SEEDS), held_by=ID) for model in (LAYER, *OTHERS)]
    return [*distractors.jobs(profile), *[job for job in asked if job.settings["model"] in (LAYER, *OTHERS)]]


def run_variants(job: Job, progress: Progress | None = None) -> list[Row]:
    """As the claim does that a job is from."""
    others = {claim.id: claim.run_job for claim in (recall_distance.CLAIM, language.CLAIM)}
    return others.get(job.held_by, run_lab)(job, progress)


def reach(row: Row) -> str:
    """Whether a test is within what was trained: distractors, or items to copy."""
    most = 8 if row["what"] == distractors.STORED else distractors.TRAINED
    return SHORT if row["x"] <= most else LONG


def means(rows: list[Row]) -> dict[tuple[str, str], list[float]]:
    """Mean accuracy of every training of a model, within its training's reach and beyond it; tasks weigh the same."""
    groups: dict[tuple[str, str], dict[int, dict[str, list[float]]]] = {}
    for row in rows:
        seeds = groups.setdefault((row["model"], reach(row)), {})
        seeds.setdefault(row["seed"], {}).setdefault(row["what"], []).append(row["accuracy"])
    return {
        key: [float(np.mean([np.mean(shares) for shares in tasks.values()])) for tasks in seeds.values()]
        for key, seeds in groups.items()
    }


def telling(rows: list[Row]) -> list[str]:
    """Tasks that every training of every one of the models has learned."""
    return [what for what in distractors.PARTS if learned([row for row in rows if row["what"] == what])]


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    told = f"four tasks, recall over {FAR:,}, needles in {needles.FAR:,}, and text"
    scale = scale_of([row for row in rows if "what" in row], told)
    rows = [row for row in rows if row["model"] in (LAYER, *OTHERS)]
    of_tasks = [row for row in rows if row.get("what") in distractors.PARTS]
    found = [
        _short(of_tasks),
        _far([row for row in rows if row.get("distance") == FAR]),
        _needles([row for row in rows if row.get("what") in needles.KINDS and row["x"] == needles.FAR]),
        _text([row for row in rows if row.get("kind") == "near"]),
    ]
    parts = {part: held for of, _ in found for part, held in of.items()}
    figures = [figure for _, listed in found for figure in listed]
    weighed = verdict({part: held for part, held in parts.items() if held != NO_ROOM}, "; ".join(figures), scale)
    cramped = [part for part, held in parts.items() if held == NO_ROOM]
    lacking = [weighed.lacking, f"no room above {LAYER}: {'; '.join(cramped)}" if cramped else ""]
    return weighed._replace(lacking=". ".join(filter(None, lacking)))


NO_ROOM = "no room"
Held = bool | str | None
"""Whether a part holds; :data:`NO_ROOM` where none could; None where it has not run."""
Found = tuple[dict[str, Held], list[str]]
"""Parts by name, and figures."""


def _short(rows: list[Row]) -> Found:
    """The four parts on copying and induction."""
    wanted = {(model, what) for model in (LAYER, *OTHERS) for what in distractors.PARTS}
    if not {(row["model"], row["what"]) for row in rows} >= wanted:
        return {f"{model}, {span}": None for span in (SHORT, LONG) for model in OTHERS}, []
    tasks = telling(rows)
    found, whole = means([row for row in rows if row["what"] in tasks]), means(rows)
    parts: dict[str, Held] = {}
    figures = [f"learned by all three: {', '.join(tasks) or 'no task'}"]
    for span in (SHORT, LONG):
        for model in OTHERS:
            parts[f"{model}, {span}"] = _better(found.get((model, span)), found.get((LAYER, span)))
        for what, table in (("in what all learned", found), ("in all four tasks", whole)):
            named = [f"{m} {np.mean(table[m, span]):.0%}" for m in (*OTHERS, LAYER) if (m, span) in table]
            figures += [f"{span}, {what}: {', '.join(named)}"] if named else []
    return parts, figures


def _better(own: list[float] | None, layer: list[float] | None) -> Held:
    """Whether a mean is above that of the layer, if there is room above it."""
    if own is None or layer is None:
        return False
    return bool(np.mean(own) >= np.mean(layer) + BETTER) if np.mean(layer) <= 1 - BETTER else NO_ROOM


def _far(rows: list[Row]) -> Found:
    """The two parts of long recall, and their figures by setting."""
    groups = {
        (model, setting): [row for row in rows if (row["model"], row["setting"]) == (model, setting)]
        for model in (*OTHERS, LAYER)
        for setting in SETTINGS
    }
    if not all(groups.values()):
        return {f"{model}, {RECALL}": None for model in OTHERS}, []
    shares = {key: float(np.mean([row["accuracy"] for row in found])) for key, found in groups.items()}
    known = [setting for setting in SETTINGS if learned([row for row in rows if row["setting"] == setting])]
    of = {model: [shares[model, setting] for setting in known] or None for model in (*OTHERS, LAYER)}
    figures = [
        f"{RECALL} over {FAR:,}, {setting} filler words: "
        + ", ".join(f"{model} {shares[model, setting]:.0%}" for model in (*OTHERS, LAYER))
        for setting in SETTINGS
    ]
    return {f"{model}, {RECALL}": _better(of[model], of[LAYER]) for model in OTHERS}, figures


def _needles(rows: list[Row]) -> Found:
    """The two parts on needles: a training's accuracy is the mean over the kinds."""
    groups: dict[str, dict[int, list[Row]]] = {model: {} for model in (*OTHERS, LAYER)}
    for row in rows:
        groups[row["model"]].setdefault(row["seed"], []).append(row)
    if not all(groups.values()):
        return {f"{model}, {NEEDLES}": None for model in OTHERS}, []
    trained = {
        model: [{**of[0], "accuracy": float(np.mean([row["accuracy"] for row in of]))} for of in seeds.values()]
        for model, seeds in groups.items()
    }
    parts: dict[str, Held] = dict(more_part(f"{m}, {NEEDLES}", trained[m], trained[LAYER], BETTER) for m in OTHERS)
    means = ", ".join(f"{m} {np.mean([row['accuracy'] for row in trained[m]]):.0%}" for m in (*OTHERS, LAYER))
    ahead = ", ".join(_points(m, gain(trained[m], trained[LAYER])) for m in OTHERS)
    return parts, [f"{NEEDLES} in {needles.FAR:,} bytes: {means}; over {LAYER} in points {ahead}"]


def _points(model: str, found: dict[str, float | None]) -> str:
    return f"{model} {100 * found['value']:+.0f} [{100 * found['low']:+.0f}, {100 * found['high']:+.0f}]"


def _text(rows: list[Row]) -> Found:
    """The two parts on text."""
    bits = {
        (model, corpus): [row["bits"] for row in rows if (row["model"], row["corpus"]) == (model, corpus)]
        for model in (*OTHERS, LAYER)
        for corpus in language.CORPORA
    }
    if not all(bits.values()):
        return {f"{model}, {TEXT}": None for model in OTHERS}, []
    mean = {key: mean_interval(found)["value"] for key, found in bits.items()}
    parts: dict[str, Held] = {
        f"{model}, {TEXT}": all(mean[model, c] <= (1 - FEWER) * mean[LAYER, c] for c in language.CORPORA)
        for model in OTHERS
    }
    figures = [
        f"bits per byte on {corpus}: " + ", ".join(f"{model} {mean[model, corpus]:.3f}" for model in (*OTHERS, LAYER))
        for corpus in language.CORPORA
    ]
    return parts, figures


CLAIM = Claim(
    id=ID,
    title="Memory as context, as gate, as layer",
    statement="MAC and MAG beat MAL: on short tasks, beyond the lengths trained, on long recall, on needles, on text.",
    source="Titans (arXiv 2501.00663), sections 5.2 to 5.4: MAC and MAG outperform MAL. Its own means (Table 5) do not "
    "all say so: perplexity 26.67, 25.70 and 25.91 of MAC, MAG and MAL, needles 97.95, 96.70 and 96.91.",
    protocol=f"{distractors.CLAIM.protocol} For this claim the accuracies of MAC, MAG and MAL are averaged, each task "
    "weighing the same, over the tests within what was trained and over those beyond; of those tasks that every "
    "training of all three was right in half of on its validation sequences. Long recall is that of the claim on "
    f"recall over distance, at {FAR:,} tokens, a setting counting if every training of the three had learned it; text "
    "that of the claim on text, at the training length. Needles are those of the claim on needles, trained anew with "
    f"seeds {SEEDS[0]} to {SEEDS[-1]}, a training's accuracy being the mean over the three kinds at {needles.FAR:,} "
    "bytes.",
    refuted_by="MAL as good as MAC or MAG.",
    rule="Ten parts: MAC and MAG, each against MAL, within the trained lengths, beyond, and on long recall: better by "
    f"at least {BETTER:.0%} in the mean over tasks and seeds; on needles: right in at least {BETTER:.0%} more digits; "
    f"on text: at least {FEWER:.0%} fewer bits per byte on each corpus, means over seeds. Where MAL is right in more "
    f"than {1 - BETTER:.0%} there is no room to be better: such a part has no weight. {MORE_RULE} (On needles.) A task "
    f"that a training of one of the three has not learned (less than {LEARNED:.0%} in validation) tells nothing. All: "
    "reproduced; some: reproduced in part; none: not reproduced. What came after runs had been seen: the guard "
    "against what was not learned (without it four parts held, because MAL had not learned to copy), long recall, "
    "text, and that a part without room has no weight. The rule on needles came before its runs, after those of "
    "other seeds.",
    jobs=jobs,
    run_job=run_variants,
    judge=judge,
    evidence=distractors.CLAIM.id,
)
