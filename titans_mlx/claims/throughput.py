"""Claim: training is parallel, and reading and decoding cost the same however long the sequence."""

import math
from typing import Any

from titans_mlx.bench import ours
from titans_mlx.bench.measure import Work, by_turns
from titans_mlx.bench.ours import config
from titans_mlx.claims.base import Claim, Job, Profile, Progress, Row, Verdict, check_profile, job_id
from titans_mlx.claims.judging import verdict
from titans_mlx.config import MemoryConfig, TitansConfig
from titans_mlx.memory import recipes
from titans_mlx.model import Titans
from titans_mlx.training import count_parameters

VARIANTS = {
    "LMM deep": "lmm",
    "MAC": "mac",
    "MAG": "mag",
    "MAL": "mal",
    "Transformer": "transformer",
    "Sliding window": "sliding_window",
}
RECURRENT: dict[str, MemoryConfig] = {
    "LMM matrix": recipes.titans_matrix(chunk_size=64),
    "RetNet": recipes.retnet(ours.HEADS, chunk_size=64),
    "Linear attention": recipes.linear_attention(chunk_size=64),
    "DeltaNet": recipes.deltanet(chunk_size=64),
    "Gated DeltaNet": recipes.gated_deltanet(chunk_size=64),
    "TTT linear": recipes.ttt(chunk_size=64),
    "TTT MLP": recipes.ttt_mlp(chunk_size=64),
}
"""Memories in the place of LMM's, measured beside the claim."""
TITANS, FULL, SLIDING = tuple(VARIANTS)[:4], "Transformer", "Sliding window"
TRAIN, READ, DECODE, FORM = "train", "read", "decode", "gradient of a memory"
FAST, PLAIN = "in chunks", "token by token"
LENGTHS = {TRAIN: (512, 1024, 2048, 4096), READ: (1024, 4096, 16_384, 65_536), DECODE: (1000, 8040, 65_000)}
"""Tokens in a sequence, or read before; those of decoding are at one place of a segment of 64."""
FORM_LENGTH, DECODED = 256, 64
KEPT, SLOWER, FASTER = 0.9, 1.1, 10.0


def jobs(profile: Profile) -> list[Job]:
    """A job per model, and one for the two forms of a memory.

    Raises:
        ValueError: if the profile is unknown.
    """
    check_profile(profile)
    lengths, models, repeats, form = LENGTHS, (*VARIANTS, *RECURRENT), 5, FORM_LENGTH
    if profile != "full":
        lengths, models = {TRAIN: (256, 512), READ: (1024, 4096), DECODE: (1000, 4072)}, (TITANS[0], FULL)
    if profile == "smoke":
        lengths, repeats, form = {TRAIN: (32,), READ: (32, 64), DECODE: (8, 72)}, 1, 16
    label = "" if profile == "full" else profile
    works = {what: list(values) for what, values in lengths.items()}
    common = {"repeats": repeats, "tokens_per_step": max(lengths[TRAIN])}
    settings = [{"model": model, "lengths": works, **common} for model in models]
    for each in settings:
        # Its longest prompt takes over a minute.
        each["repeats"] = min(repeats, 3) if each["model"] == FULL else repeats
    settings.append({"model": FORM, "lengths": {FORM: [form]}, **common})
    return [Job(job_id(label, each["model"]), each) for each in settings]


def run_throughput(job: Job, progress: Progress | None = None) -> list[Row]:
    """Time a job's works, the lengths of each kind by turns; a row each."""
    settings = job.settings
    model = settings["model"]
    made = None if model == FORM else ours.model(_config(model))
    rows: list[Row] = []
    for index, (what, lengths) in enumerate(settings["lengths"].items()):
        if progress is not None:
            progress(f"{model}: {what}", index / len(settings["lengths"]))
        works: dict[tuple[int, str], Work] = {}
        held: dict[int, int] = {}
        for length in lengths:
            if what == DECODE:
                works[length, FAST], held[length] = ours.decode(made, length, DECODED)
            else:
                works |= {(length, form): work for form, work in _works(made, settings, what, length).items()}
        timings = by_turns(works, settings["repeats"])
        for (length, form), timing in timings.items():
            tokens = {DECODE: DECODED, TRAIN: settings["tokens_per_step"]}.get(what, length)
            rates = [tokens / taken for taken in timing.seconds]
            row = {"model": model, "what": what, "x": length, "form": form, "state_bytes": held.get(length, 0)}
            row |= {"rate": tokens / timing.median, "low": min(rates), "high": max(rates), "seconds": timing.median}
            row |= {"repeats": settings["repeats"], "peak_bytes": 1e6 * ours.peak_of_arrays(works[length, form])}
            rows.append(row | {"parameters": 0 if made is None else count_parameters(made)})
    return rows


def _config(model: str) -> TitansConfig:
    """A model's configuration by its name."""
    return config(VARIANTS[model]) if model in VARIANTS else config("lmm").replace(memory=RECURRENT[model])


def _works(made: Titans | None, settings: dict[str, Any], what: str, length: int) -> dict[str, Work]:
    """What is timed at a length, by form."""
    if what == FORM:
        memory, x = ours.memory(recipes.titans(chunk_size=64)), ours.features(1, length)
        return {FAST: ours.forward_backward(memory, x), PLAIN: ours.defined_forward_backward(memory, x)}
    if what == TRAIN:
        return {FAST: ours.training_step(made, max(1, settings["tokens_per_step"] // length), length)}
    return {FAST: ours.prefill(made, 1, length)}


def judge(rows: list[Row]) -> Verdict:
    """The rule: see :data:`CLAIM`."""
    table = {(r["model"], r["what"], r["x"], r["form"]): r for r in rows}

    def ends(model: str, what: str) -> tuple[Row | None, Row | None]:
        return table.get((model, what, LENGTHS[what][0], FAST)), table.get((model, what, LENGTHS[what][-1], FAST))

    forms = [table.get((FORM, FORM, FORM_LENGTH, form)) for form in (FAST, PLAIN)]
    parts: dict[str, bool | None] = {"parallel": None}
    figures = []
    if None not in forms:
        times = forms[0]["rate"] / forms[1]["rate"]
        parts["parallel"] = times >= FASTER
        figures.append(f"a memory's gradient {times:.0f} times faster in chunks than token by token")
    full = table.get((FULL, READ, LENGTHS[READ][-1], FAST))
    read = {(row["model"], row["x"]): row["rate"] for row in rows if row["what"] == READ}
    for model in (*TITANS, *RECURRENT):
        (near, far), (short, long), (first, last) = (ends(model, what) for what in (TRAIN, READ, DECODE))
        complete = None not in (near, far, short, long, first, last, full)
        same = complete and full.get("processor") == long.get("processor")
        if model in TITANS and not same:
            parts[model] = None
        if not complete:
            continue
        kept = far["rate"] / near["rate"], long["rate"] / short["rate"]
        slower, beyond = first["rate"] / last["rate"], long["rate"] / full["rate"]
        pieces = {
            "training": kept[0] >= KEPT,
            "reading": kept[1] >= KEPT,
            "decoding": slower <= SLOWER and first["state_bytes"] == last["state_bytes"],
            "against full attention": beyond > 1,
        }
        failing = ", ".join(name for name, held in pieces.items() if not held)
        if model in TITANS and same:
            parts[f"{model} in {failing}" if failing else model] = not failing
        told = (
            f"{'' if model in TITANS else 'beside them '}{model} keeps {kept[0]:.0%} of its speed in training, "
            f"{kept[1]:.0%} in reading, {1 / slower:.0%} in decoding"
        )
        if same:
            level = ", ".join(_level(rows, model, what) for what in (TRAIN, READ, DECODE))
            told += f", reads {LENGTHS[READ][-1]:,} tokens {beyond:.1f} times as fast as full attention, level {level}"
        else:
            told += " (on another processor than full attention)"
        figures.append(told)
    if full and (SLIDING, LENGTHS[READ][-1]) in read:
        times = read[SLIDING, LENGTHS[READ][-1]] / full["rate"]
        figures.append(f"{SLIDING} reads {LENGTHS[READ][-1]:,} tokens {times:.1f} times as fast as full attention")
    sizes = [row["parameters"] / 1e6 for row in rows if row["parameters"]]
    told = f"{min(sizes):.1f}M to {max(sizes):.1f}M parameters, " if sizes else ""
    return verdict(parts, "; ".join(figures), f"{told}one core" if rows else "")


def crossing(rows: list[Row], model: str, what: str) -> float | None:
    """The length from which on a model is as fast as full attention.

    Between the lengths measured, its speed relative to full attention's is taken to be a power of the length. It is the
    shortest length measured if the model is as fast at all of them, and None if it is slower at the longest.
    """
    rates = {(row["model"], row["x"]): row["rate"] for row in rows if row["what"] == what}
    lengths = sorted(x for name, x in rates if name == model and (FULL, x) in rates)
    ahead = [math.log(rates[model, x] / rates[FULL, x]) for x in lengths]
    behind = [index for index, value in enumerate(ahead) if value < 0]
    if not lengths or (behind and behind[-1] == len(lengths) - 1):
        return None
    if not behind:
        return float(lengths[0])
    last = behind[-1]
    share = ahead[last] / (ahead[last] - ahead[last + 1])
    return lengths[last] * (lengths[last + 1] / lengths[last]) ** share


def _level(rows: list[Row], model: str, what: str) -> str:
    """From which length on a model is as fast as full attention, in words."""
    found, doing = crossing(rows, model, what), {TRAIN: "training", READ: "reading", DECODE: "decoding"}[what]
    if found is None:
        return f"nowhere in {doing}"
    if found == min(row["x"] for row in rows if row["what"] == what):
        return f"below {found:,.0f} tokens in {doing}"
    # A straight line between lengths far apart tells no more than two figures.
    return f"at {float(f'{found:.2g}'):,.0f} tokens in {doing}"


PROTOCOL = f"""
The benchmark's models: width 256, four heads, two layers, deep memories with chunks of 64, segment and window 64, and
as baselines full and sliding attention; beside them, of no weight in the rule, other memories in the place of LMM's.
Widths and layers are alike, parameters are not matched: a block with a memory has more. Before anything is timed, a
model's logits token by token are checked against those of one call, and a memory against its definition. Training: one
compiled update on {LENGTHS[TRAIN][-1]:,} tokens, as sequences of {LENGTHS[TRAIN][0]} to {LENGTHS[TRAIN][-1]:,}.
Reading: a prompt of {LENGTHS[READ][0]:,} to {LENGTHS[READ][-1]:,} tokens, 1,024 at a time. Decoding: 64 tokens one by
one after {LENGTHS[DECODE][0]:,} to {LENGTHS[DECODE][-1]:,}. The gradient of one memory over {FORM_LENGTH} tokens, in
chunks and by the definition, token by token. Medians of five repetitions (three of the Transformer) by turns over the
lengths, whiskers from the slowest to the fastest, one BLAS thread. Token by token is the definition, whose gradients
automatic differentiation takes: the plain way, not the best one of that kind. Where a model is level with full
attention is read off straight lines between the lengths measured, both on logarithmic scales. There are no seeds, and
chance has no meaning here.
"""

CLAIM = Claim(
    id="throughput",
    title="Training is parallel, decoding is light",
    statement="Titans train in parallel, and train, read and decode at a speed that does not depend on the length.",
    source="Titans (arXiv 2501.00663), section 3.2 and Figure 9: parallel, hardware-friendly training; linear "
    "time; decoding with a state of constant size.",
    protocol=" ".join(PROTOCOL.split()),
    refuted_by="Speed that falls with the length, a state that grows, or no length at which full attention is slower.",
    rule=f"Five parts. Parallel: a memory's gradient at least {FASTER:.0f} times faster in chunks than token by "
    f"token. And each of LMM, MAC, MAG and MAL: tokens a second in training at {LENGTHS[TRAIN][-1]:,} at least "
    f"{KEPT} of those at {LENGTHS[TRAIN][0]}, in reading at {LENGTHS[READ][-1]:,} at least {KEPT} of those at "
    f"{LENGTHS[READ][0]:,}; a decoded token at {LENGTHS[DECODE][-1]:,} at most {SLOWER} times as long as at "
    f"{LENGTHS[DECODE][0]:,}, with a state of as many bytes; and reading faster than full attention at "
    f"{LENGTHS[READ][-1]:,}. All: reproduced; some: reproduced in part; none: not reproduced.",
    jobs=jobs,
    run_job=run_throughput,
    judge=judge,
)
