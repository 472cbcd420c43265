"""Claim: a gradient taken anew more often, in smaller chunks, remembers better."""

from typing import Any

from titans_mlx.claims.base import Claim, Job, Profile, Row, Verdict, check_profile
from titans_mlx.claims.lab import lab_job, make_task, run_lab, scale_of, summarise, verdict
from titans_mlx.claims.recall_jobs import model_configs
from titans_mlx.claims.statistics import share
from titans_mlx.config import TitansConfig
from titans_mlx.memory import recipes

SIZES = (1, 4, 16, 64, 256)
MATRIX, DEEP, ONLINE = "LMM matrix, anchored", "LMM deep", "LMM matrix, online"
SEGMENTS = (16, 64)
GAIN, NOISE = 0.05, 0.02
BIRTH: dict[str, Any] = {"conv_birth": "shift", "step_init": 0.1, "decay_init": 0.001}
TASK: dict[str, Any] = {"kind": "rebinding", "num_pairs": 16, "num_rebound": 8, "gap": 8, "distance": 32}


def mac_name(segment: int, chunk: int) -> str:
    """A MAC's name by its two lengths."""
    return f"MAC, segment {segment}, chunk {chunk}"


def architectures() -> dict[tuple[str, int], TitansConfig]:
    """By name and chunk size; the online form has none that matters."""
    base = model_configs(make_task(TASK).vocab_size)["LMM matrix"]

    def with_memory(memory: Any, **changes: Any) -> TitansConfig:
        return base.replace(memory=memory, **changes)

    made = {(ONLINE, 0): with_memory(recipes.titans_matrix(**BIRTH))}
    for size in SIZES:
        made[MATRIX, size] = with_memory(recipes.titans(depth=1, chunk_size=size, **BIRTH))
        made[DEEP, size] = with_memory(recipes.titans(expansion=2, chunk_size=size, **BIRTH))
    for segment in SEGMENTS:
        for size in SEGMENTS:
            memory = recipes.titans(depth=1, chunk_size=size, **BIRTH)
            made[mac_name(segment, size), size] = with_memory(memory, variant="mac", segment_size=segment)
    return made


def jobs(profile: Profile) -> list[Job]:
    """A job per architecture, each tested at every chunk size.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)

    def job(model: str, size: int, **options: Any) -> Job:
        tests = [{"x": size, "ask": ask, "task": {**TASK, "ask": ask}} for ask in ("rebound", "kept")]
        if model in (MATRIX, DEEP):
            tests = [{**t, "x": x, "change": {"chunk_size": x}} for t in tests for x in SIZES]
        tests = [{"trained": size, **test} for test in tests]
        option = f"chunk {size}" if model in (MATRIX, DEEP) else "paper"
        return lab_job(model, architectures()[model, size], [TASK], tests, option=option, **options)

    if profile == "full":
        return [job(model, size) for model, size in architectures()]
    small: dict[str, Any] = {"label": profile, "seeds": (0,), "grid": ((4e-3, 0.1),)}
    small |= {"steps": 3, "sequences": 4} if profile == "smoke" else {"steps": 150, "sequences": 32}
    return [job(MATRIX, size, **small) for size in (16, 256)]


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    keys = ("model", "trained", "x", "ask")
    table = {tuple(r[key] for key in keys): r for r in summarise(rows, keys)}
    parts: dict[str, bool | None] = {}
    figures = []
    for model in (MATRIX, DEEP):
        own = [[table.get((model, size, size, ask)) for ask in ("rebound", "kept")] for size in SIZES]
        if any(None in pair for pair in own):
            parts[model] = None
            continue
        shares = [sum(row["accuracy"] for row in pair) / 2 for pair in own]
        falling = all(b <= a + NOISE for i, a in enumerate(shares) for b in shares[i + 1 :])
        parts[model] = falling and shares[0] >= shares[-1] + GAIN
        listed = ", ".join(f"{size}: {value:.0%}" for size, value in zip(SIZES, shares, strict=True))
        figures.append(f"{model} by chunk {listed} (rebound keys at {SIZES[-1]}: {share(own[-1][0])})")
    online = [table.get((ONLINE, 0, 0, ask)) for ask in ("rebound", "kept")]
    if None not in online:
        figures.append(f"{ONLINE} {sum(row['accuracy'] for row in online) / 2:.0%}")
    return verdict(parts, "; ".join(figures), scale_of(rows, "16 pairs, 8 rebound"))


PROTOCOL = """
Sixteen pairs, eight filler words, eight of the keys bound anew, 32 filler words, all keys asked: the last value counts.
A stale gradient does not see what the same chunk has written, so it adds the new value to the old one. One block of
width 64, one head, gates born at this package's defaults, 400 steps of 2,048 tokens, weight decay 0.1, learning rate
0.002 or 0.004 by validation, three seeds, 64 test sequences, rebound and kept keys asked apart. Trained with chunks of
1, 4, 16, 64 and 256 (all of the sequence), and each tested with all of them; the matrix's exact online form beside
them; and MAC with segments and chunks of 16 and 64 in all four ways, to tell chunk from segment.
"""

CLAIM = Claim(
    id="chunks",
    title="Chunks",
    statement="The smaller the chunks after which gradients are taken anew, the better a memory remembers.",
    source='Titans (NeurIPS version), appendix E: smaller chunks are "better but slower"; Titans Revisited (arXiv '
    "2510.09551) blames chunking, of attention, for what MAC loses.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by="A larger chunk better by more than 2 points, or chunks of 1 less than 5 points better than 256.",
    rule=f"A memory (matrix anchored, deep) holds if, trained and tested at the same chunk, its accuracy (mean of "
    f"rebound and kept keys, and over seeds) never rises by more than {NOISE:.0%} from a smaller chunk to a larger "
    f"one, and chunks of 1 are at least {GAIN:.0%} better than 256. Both: reproduced; one: reproduced in part; none: "
    "not reproduced.",
    jobs=jobs,
    run_job=run_lab,
    judge=judge,
)
