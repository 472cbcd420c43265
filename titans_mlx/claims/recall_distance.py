"""Claim: Titans recall over distances that attention over a window cannot reach.

Statement, rule and protocol were written before the runs that are judged; what came before, and what was changed after
it was seen, is in ``notebooks/LOG.md``.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from titans_mlx._check import check_count
from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.matching import match_parameters, parameters
from titans_mlx.claims.recall_runs import run_job, task_of, train_config, training_options
from titans_mlx.claims.statistics import accuracy_interval
from titans_mlx.claims.streaming import check_distances
from titans_mlx.claims.training import recall_batches
from titans_mlx.config import TitansConfig
from titans_mlx.memory import recipes
from titans_mlx.tasks.recall import SETTINGS

WINDOW = 32
TITANS = ("LMM matrix", "LMM deep", "MAC", "MAG", "MAL")
SLIDING = "Sliding window"
GOOD = 0.95
FAR = 65_536
DISTANCES = (256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, FAR)
BIRTH: dict[str, Any] = {"conv_birth": "shift", "step_init": 0.01, "decay_init": 1e-6}
"""What the paper does not state and all memories here share: how their convolutions and gates are born."""
SEEDS = (3, 4, 5)
TEST_SEED, VALIDATION_SEED = 2_000_003, 100
GRID = ((2e-3, 1.0), (2e-3, 0.1), (4e-3, 0.1))
"""Learning rate and weight decay; the larger decay is preferred: what is not needed then goes away."""


@dataclass(frozen=True)
class Option:
    """A departure from the claim's own training and births, reported beside it and never part of the verdict.

    Attributes:
        label: for people.
        write_cost: weight of the mean step size of every memory in the training loss; not part of Titans.
        weight_decay: in place of those of the grid.
        model: fields of the model's configuration that differ.
        memory: fields of the memory's configuration that differ.
    """

    label: str
    write_cost: float = 0.0
    weight_decay: float | None = None
    model: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)


OPTIONS = {
    "paper": Option("the paper's update rule, as in the protocol"),
    "write cost": Option("with a write cost (not part of Titans)", write_cost=0.1),
    "plain taps": Option(
        "convolution taps born as in PyTorch",
        model={"attention_conv_birth": "uniform"},
        memory={"conv_birth": "uniform"},
    ),
    "plain gates": Option("gates born at the package's defaults", memory={"step_init": 0.1, "decay_init": 0.001}),
    "plain decay": Option("weight decay of 0.1, as in the paper", weight_decay=0.1),
    "plain embedding": Option("embedding born at dim ** -0.5", model={"embedding_std": None}),
}


@cache
def model_configs(vocab_size: int) -> dict[str, TitansConfig]:
    """The claim's models at matched parameters (within 5 %), by name."""
    base = TitansConfig(
        variant="lmm",
        vocab_size=vocab_size,
        dim=64,
        num_layers=1,
        num_heads=1,
        mlp_hidden=192,
        segment_size=WINDOW,
        window_size=WINDOW,
        num_persistent=4,
        embedding_std=0.02,
        attention_conv_size=4,
        attention_conv_birth="shift",
        memory=recipes.titans_matrix(chunk_size=32, **BIRTH),
    )
    changes: dict[str, dict[str, Any]] = {
        "LMM matrix": {},
        "LMM deep": {"memory": recipes.titans(expansion=2, **BIRTH)},
        "MAC": {"variant": "mac"},
        "MAG": {"variant": "mag"},
        "MAL": {"variant": "mal"},
        # Its fading is fixed per head: eight heads reach the published 1 - 2^-12.
        "RetNet": {"num_heads": 8, "memory": recipes.retnet(8, chunk_size=32, conv_birth="shift")},
        SLIDING: {"variant": "sliding_window"},
        "Transformer": {"variant": "transformer"},
        "Transformer, no positions": {"variant": "transformer", "rope_base": None},
    }
    target = parameters(base)
    return {name: match_parameters(base.replace(**change), target) for name, change in changes.items()}


def with_option(config: TitansConfig, option: Option) -> TitansConfig:
    """A model's configuration with what an option changes of it."""
    return config.replace(memory=config.memory.replace(**option.memory), **option.model)


def make_job(
    model: str,
    setting: str = "few",
    option: str = "paper",
    seeds: tuple[int, ...] = (0,),
    *,
    distances: tuple[int, ...] = DISTANCES,
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024),
    steps: int = 800,
    tokens_per_step: int = 2048,
    grid: tuple[tuple[float, float], ...] = ((3e-3, 0.1),),
    near_sequences: int = 32,
    far_sequences: int = 8,
    num_pairs: int = 8,
    train_pairs: tuple[int, ...] = (),
    label: str = "",
) -> Job:
    """One model, its learning rate chosen once, trained and tested with each seed.

    Args:
        model: a name of :func:`model_configs`.
        setting: ``few`` (30) or ``many`` (1,000) filler words.
        option: a name of :data:`OPTIONS`.
        seeds: of parameters and training batches.
        distances: where it is asked.
        lengths: of the training sequences, in tokens.
        steps: of training.
        tokens_per_step: of training, as many sequences of the step's length as they hold.
        grid: pairs of learning rate and weight decay, the preferred first; the one whose model of the first seed is
            best on validation sequences of the longest training length is kept, the earlier one if they are equal.
        near_sequences: test sequences up to a distance of 16,384.
        far_sequences: test sequences beyond.
        num_pairs: key-value pairs in a test sequence, all of them asked for.
        train_pairs: in a training sequence, drawn per step; none given: ``num_pairs``.
        label: put in front of the id.

    Raises:
        ValueError: if a name is unknown, a number out of range, or a length holds none of the numbers of pairs.
    """
    for name, value, allowed in (
        ("model", model, list(model_configs(SETTINGS["few"].vocab_size))),
        ("setting", setting, list(SETTINGS)),
        ("option", option, list(OPTIONS)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
    if OPTIONS[option].weight_decay is not None:
        grid = tuple((rate, OPTIONS[option].weight_decay) for rate in dict(grid))
    check_distances(distances)
    for name, values in (("seeds", seeds), ("grid", grid), ("lengths", lengths)):
        if not values:
            raise ValueError(f"{name} must have at least one entry, got {values!r}")
    for name, value in (
        ("steps", steps),
        ("tokens_per_step", tokens_per_step),
        ("near_sequences", near_sequences),
        ("far_sequences", far_sequences),
    ):
        check_count(name, value)
    settings = {
        "model": model,
        "setting": setting,
        "option": option,
        "seeds": list(seeds),
        "distances": list(distances),
        "lengths": list(lengths),
        "tokens_per_step": tokens_per_step,
        "grid": [list(pair) for pair in grid],
        "near_sequences": near_sequences,
        "far_sequences": far_sequences,
        "num_pairs": num_pairs,
        "train_pairs": list(train_pairs),
        "write_cost": OPTIONS[option].write_cost,
        "training": training_options(steps),
        "validation": {"seed": VALIDATION_SEED, "sequences": 64},
        # Scores of full attention are piece x length: smaller pieces keep them within a gigabyte.
        "test": {"seed": TEST_SEED, "piece": 256 if is_full_attention(model) else 1024},
        "architecture": with_option(model_configs(SETTINGS[setting].vocab_size)[model], OPTIONS[option]).to_dict(),
    }
    parts = [label, setting, model, option]
    job = Job("-".join(p.lower().replace(",", "").replace(" ", "_") for p in parts if p), settings)
    recall_batches(task_of(job), lengths, 0, train_pairs, tokens_per_step)
    for entry in grid:
        for seed in seeds:
            train_config(settings["training"], entry, seed)
    return job


def is_full_attention(model: str) -> bool:
    """Whether a model, by its name, attends to everything."""
    return model.startswith("Transformer")


def jobs(profile: Profile) -> list[Job]:
    """The independent trainings of a profile.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    if profile == "smoke":
        small = {"distances": (16, 64), "lengths": (48,), "steps": 4, "near_sequences": 4, "label": "smoke"}
        return [make_job(model, **small) for model in ("LMM matrix", SLIDING)]
    if profile == "quick":
        small = {"distances": (8, 16, 64, 256, 1024, 4096), "lengths": (32, 64), "steps": 150, "num_pairs": 4}
        small |= {"tokens_per_step": 4096, "grid": ((6e-3, 0.1),), "near_sequences": 16, "label": "quick"}
        return [make_job(model, **small) for model in ("LMM matrix", SLIDING)]
    models = list(model_configs(SETTINGS["few"].vocab_size))
    return [
        full_job(model, setting, option)
        for option in OPTIONS
        for model in (models if option == "paper" else ["LMM matrix"])
        for setting in SETTINGS
    ]


def full_job(model: str, setting: str, option: str) -> Job:
    """A job of the full profile."""
    return make_job(
        model,
        setting,
        option,
        seeds=SEEDS,
        grid=GRID,
        train_pairs=(8, 16, 24, 32),
        # Full attention over 65,536 tokens costs as much as all the rest. A window is held against chance.
        near_sequences=12 if is_full_attention(model) else 32,
        far_sequences=4 if is_full_attention(model) else 32 if model == SLIDING else 8,
    )


def summarise(rows: list[Row]) -> list[Row]:
    """One row per setting, model, option and distance: mean accuracy over seeds with its 95 % interval, and costs."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["setting"], row["model"], row["option"], row["distance"]), []).append(row)
    table = []
    for (setting, model, option, distance), members in groups.items():
        low, high = accuracy_interval([np.array(m["correct"])[:, None] / m["queries"] for m in members])
        steps = [m["filler_step"] for m in members if m["filler_step"] is not None]
        table.append(
            {
                "setting": setting,
                "model": model,
                "option": option,
                "distance": distance,
                "accuracy": float(np.mean([m["accuracy"] for m in members])),
                "low": low,
                "high": high,
                "seeds": len(members),
                "answers": sum(m["sequences"] * m["queries"] for m in members),
                "chance": members[0]["chance"],
                "trained_length": members[0]["trained_length"],
                "parameters": members[0]["parameters"],
                "seconds_per_sequence": float(np.mean([m["seconds_per_sequence"] for m in members])),
                "peak_megabytes": max(m["peak_bytes"] / m["sequences"] for m in members) / 1e6,
                "filler_step": max(steps) if steps else None,
            }
        )
    return table


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    # Intervals take time, and the notebook waits for them: only those the rule asks for.
    asked = [r for r in rows if r["option"] == "paper" and (r["distance"] == FAR or r["model"] == SLIDING)]
    table = {(r["setting"], r["model"], r["option"], r["distance"]): r for r in summarise(asked)}
    done = {s: [m for m in (*TITANS, SLIDING) if complete(table, s, m)] for s in SETTINGS}
    if not table:
        return Verdict("not run", "no stored full run", "")
    size = max(row["parameters"] for row in table.values()) / 1e6
    scale = f"{size:.2f}M parameters, {FAR:,} tokens, trained at up to {max(r['trained_length'] for r in rows):,}"
    figures, good = [], []
    for setting, models in done.items():
        far = {m: table[setting, m, "paper", FAR] for m in models}
        titans = {m: row for m, row in far.items() if m != SLIDING}
        window = [r for (s, m, _, d), r in table.items() if s == setting and m == SLIDING and d > 4 * WINDOW]
        best = max(titans, key=lambda m: titans[m]["accuracy"], default=None)
        good.append(
            best is not None
            and titans[best]["accuracy"] >= GOOD
            and all(row["accuracy"] <= 2 * row["chance"] for row in window)
        )
        found = [f"{best} {share(far[best])}"] if best else []
        if window:
            worst = max(window, key=lambda row: row["accuracy"])
            found.append(f"{SLIDING} {share(worst)} at {worst['distance']:,}, its best")
        figures.append(f"{setting} filler words: {', '.join(found) or 'not run'}")
    if any(len(models) < len(TITANS) + 1 for models in done.values()):
        missing = [f"{s}: {m}" for s in SETTINGS for m in (*TITANS, SLIDING) if m not in done[s]]
        return Verdict("unfinished", f"{'; '.join(figures)} (not run yet: {', '.join(missing)})", scale)
    status = "reproduced" if all(good) else "reproduced in part" if any(good) else "not reproduced"
    return Verdict(status, "; ".join(figures), scale)


def complete(table: dict[tuple[Any, ...], Row], setting: str, model: str) -> bool:
    """Whether a model has all that the rule asks of it: every seed, the window at every distance."""
    asked = [d for d in DISTANCES if d > 4 * WINDOW] if model == SLIDING else [FAR]
    rows = [table.get((setting, model, "paper", distance)) for distance in asked]
    return all(row is not None and row["seeds"] >= len(SEEDS) for row in rows)


def share(row: Row) -> str:
    """An accuracy with its interval, in per cent."""
    return f"{row['accuracy']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"


PROTOCOL = """
Key-value pairs, filler, then the keys in random order; distance is the number of filler words between. Trained with
8, 16, 24 or 32 pairs, as many of them as fit, so that space is dear; tested with 8. Two settings: 30 and 1,000 filler
words. One block of width 64, one head, parameters matched within 5 % by the width of the MLP, window and segment 32;
RetNet has eight heads, whose published fadings reach 1 - 2^-12. Births: embedding at 0.02; a short convolution on
queries, keys and values, keys one token late, in the memory and in the baselines', MAG's and MAL's attention; memory
gates at alpha 1e-6, eta 0.5, theta 0.01. The deep memory's writes are bounded to 1, as everywhere here. AdamW, 800
steps of 2,048 tokens, lengths 64 to 1,024 equally often, the rate falling to 0 as a cosine. Three pairs of learning
rate and weight decay are tried with the first of three seeds: 0.002 and 1, 0.002 and 0.1, 0.004 and 0.1; the one that
validates best at 1,024 tokens is kept, the earlier one if they are equal. Tested at 256 to 65,536 on 32 sequences of
8 answers, beyond 16,384 on 8 of them (the window 32, whose level is compared with chance; full attention 12 and 4),
the same ones for every seed, drawn apart from training and validation. Intervals: Student's t over seeds, or a
bootstrap over sequences where that is wider. Full attention is trained at the same lengths, with rotary positions
(nothing done to extrapolate) and without positions, which is the fairest setting known for lengths beyond training. A
window in one block cannot see beyond itself: that it is at chance is a check of the task, not a finding. Reported
beside it for the LMM and never counted: a write cost (0.1 times the memory's mean step size, added to the training
loss; not part of Titans), convolution taps born as in PyTorch, gates born at this package's defaults (alpha 0.001,
theta 0.1), weight decay held at 0.1, as in the paper, and an embedding born at dim ** -0.5. One block, one head, the
births, the decay and the rate's fall were chosen by single runs of other seeds that were tested up to 65,536 tokens
on other sequences, after two protocols were given up whose runs are kept beside these: two blocks of two heads, 500
steps (the LMM at 25 % with few filler words); and one of each with weight decay 0.1 (MAG at 94.8 % with many). Their
seeds and test sequences had then been looked at: here both are new.
"""

CLAIM = Claim(
    id="recall_distance",
    title="Recall over distance",
    statement=f"A model with a neural memory recalls what it read {FAR:,} tokens ago; a sliding window is at chance.",
    source="Titans (arXiv 2501.00663), sections 5.3 and 5.4, Table 2, Figure 6: recall that holds as contexts grow.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by=(
        f"No Titans variant at {GOOD:.0%} at {FAR:,} by the paper's update rule, or a sliding window above chance."
    ),
    rule=(
        f"Per setting: some Titans variant, by the paper's update rule, trained as in the protocol without any of its "
        f"options, is right at {FAR:,} in at least "
        f"{GOOD:.0%} of its answers, mean over seeds, and at every distance beyond four windows the sliding window is "
        "right in at most twice chance. Both settings: reproduced; one: reproduced in part; none: not reproduced. "
        f"Until all Titans variants and the sliding window have run in both with {len(SEEDS)} seeds: unfinished."
    ),
    jobs=jobs,
    run_job=run_job,
    judge=judge,
)
