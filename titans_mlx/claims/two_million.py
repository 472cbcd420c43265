"""Claim: a context of two million tokens is read in constant memory, and its first words are still recalled."""

from typing import Any

from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.judging import verdict
from titans_mlx.claims.recall_distance import GOOD, summarise
from titans_mlx.claims.recall_jobs import GRID, make_job
from titans_mlx.claims.recall_runs import run_job
from titans_mlx.claims.statistics import share
from titans_mlx.tasks.recall import SETTINGS

MODELS = ("LMM matrix", "MAG")
NEAR, MIDDLE, FAR = 8192, 65_536, 2_097_152
SEEDS = {"few": (6, 7, 8), "many": (6,)}
SEQUENCES = 32
GROWTH = 1.05


def jobs(profile: Profile) -> list[Job]:
    """A job per model, and in the full profile per setting and seed.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    common: dict[str, Any] = {"num_pairs": 1, "near_sequences": SEQUENCES, "far_sequences": SEQUENCES}
    if profile == "full":
        common |= {"grid": GRID, "train_pairs": (8, 16, 24, 32), "distances": (NEAR, MIDDLE, 524_288, FAR)}
        return [
            make_job(model, setting, seeds=(seed,), label=f"seed_{seed}" if index else "", **common)
            for setting in SETTINGS
            for model in MODELS
            for index, seed in enumerate(SEEDS[setting])
        ]
    small: dict[str, Any] = {"steps": 4, "lengths": (48,), "distances": (16, 64)}
    if profile == "quick":
        small = {"steps": 150, "lengths": (32, 64), "distances": (256, 4096), "train_pairs": (2, 4)}
        small |= {"tokens_per_step": 4096, "grid": ((6e-3, 0.1),)}
    return [make_job(model, label=profile, **common, **small) for model in MODELS]


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    table = {(r["setting"], r["model"], r["distance"]): r for r in summarise(rows)}
    parts: dict[str, bool | None] = {}
    figures = []
    for setting in SETTINGS:
        for model in MODELS:
            near, middle, far = (table.get((setting, model, distance)) for distance in (NEAR, MIDDLE, FAR))
            if near is None or middle is None or far is None or far["seeds"] < len(SEEDS[setting]):
                parts[f"{model}, {setting}"] = None
                continue
            growth = far["peak_megabytes"] / middle["peak_megabytes"]
            parts[f"{model}, {setting}"] = far["accuracy"] >= GOOD and growth <= GROWTH
            between = ", ".join(
                f"{row['accuracy']:.0%} at {distance:,}"
                for (s, m, distance), row in sorted(table.items())
                if (s, m) == (setting, model) and distance < FAR
            )
            figures.append(
                f"{model}, {setting} filler words: {share(far)} ({between}), "
                f"{far['seconds_per_sequence']:.0f} s and {far['peak_megabytes']:.0f} MB a sequence"
            )
    size = max((row["parameters"] for row in rows), default=0) / 1e6
    fewest, most = (end(map(len, SEEDS.values())) for end in (min, max))
    scale = f"{size:.2f}M parameters, {FAR:,} tokens, one pair, {fewest} to {most} seeds" if rows else ""
    return verdict(parts, "; ".join(figures), scale)


PROTOCOL = """
One key-value pair at the start, filler, then the key. The models and their training are those of the claim on recall
over distance (one block of width 64, 800 steps at 64 to 1,024 tokens, 8 to 32 pairs, the same grid chosen on
validation sequences); seeds 6 and 7 are among its further ones. 32 sequences read side by side, 1,024 tokens at a
time; asked at 8,192 tokens, and, in a second reading of the same sequences, at 65,536, 524,288 and 2,097,152. Two
settings: 30 filler words, three trainings per model, each with its own search of the grid, and 1,000 filler words, one
training, since reading takes twenty minutes each: there the interval is over sequences, and says nothing about other
trainings. Seeds 7 and 8, and the mean over trainings, came after the first had been judged.
"""

CLAIM = Claim(
    id="two_million",
    title="Two million tokens",
    statement=f"Titans read {FAR:,} tokens in constant memory and still recall what stood at their start.",
    source='Titans (arXiv 2501.00663), abstract: "larger than 2M context window size", needle in a haystack.',
    protocol=" ".join(PROTOCOL.split()),
    refuted_by=f"LMM or MAG below {GOOD:.0%} at {FAR:,} tokens, or memory in use that grows with the tokens read.",
    rule=(
        f"A model holds in a setting if it is right at {FAR:,} tokens in at least {GOOD:.0%} of its answers, over all "
        f"of its trainings, and its peak memory there is at most {GROWTH} times that at {MIDDLE:,}. LMM and MAG hold "
        "in both settings: reproduced; one of them in one setting: reproduced in part; none: not reproduced. Until all "
        "have run: unfinished."
    ),
    jobs=jobs,
    run_job=run_job,
    judge=judge,
)
