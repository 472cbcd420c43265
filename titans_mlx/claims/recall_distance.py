"""Claim: Titans recall over distances that attention over a window cannot reach.

Statement, rule and protocol were written before the runs that are judged; what came before, and what was changed after
it was seen, is in ``notebooks/LOG.md``.
"""

from typing import Any

import numpy as np

from titans_mlx.claims.base import Claim, Row, Verdict
from titans_mlx.claims.judging import verdict
from titans_mlx.claims.recall_jobs import DISTANCES, FAR, FULL, RECURRENT, SEEDS, SLIDING, TITANS, WINDOW, jobs
from titans_mlx.claims.recall_runs import run_job
from titans_mlx.claims.statistics import accuracy_interval, share
from titans_mlx.tasks.recall import SETTINGS

GOOD = 0.95


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
    figures = []
    parts: dict[str, bool | None] = {}
    for setting, models in done.items():
        far = {m: table[setting, m, "paper", FAR] for m in models}
        titans = {m: row for m, row in far.items() if m != SLIDING}
        window = [r for (s, m, _, d), r in table.items() if s == setting and m == SLIDING and d > 4 * WINDOW]
        best = max(titans, key=lambda m: titans[m]["accuracy"], default=None)
        parts[f"{setting} filler words"] = (
            best is not None
            and titans[best]["accuracy"] >= GOOD
            and all(row["accuracy"] <= 2 * row["chance"] for row in window)
        )
        parts |= {f"{setting}: {m}": None for m in (*TITANS, SLIDING) if m not in models}
        found = [f"{best} {share(far[best])}"] if best else []
        found += [f"{m} {row['accuracy']:.0%}" for m, row in titans.items() if m != best]
        if window:
            worst = max(window, key=lambda row: row["accuracy"])
            found.append(f"{SLIDING} {share(worst)} at {worst['distance']:,}, its best")
        # Of no weight in the rule, but a reader would be misled without it.
        beside = {m: table.get((setting, m, "paper", FAR)) for m in (*FULL, *RECURRENT)}
        found += [f"{m} {share(beside[m])}" for m in FULL if beside[m]]
        others = [f"{m} {beside[m]['accuracy']:.0%}" for m in RECURRENT if beside[m]]
        found += [f"beside them {', '.join(others)}"] if others else []
        figures.append(f"{setting} filler words: {' / '.join(found) or 'not run'}")
    return verdict(parts, "; ".join(figures), scale)


def complete(table: dict[tuple[Any, ...], Row], setting: str, model: str) -> bool:
    """Whether a model has all that the rule asks of it: every seed, the window at every distance."""
    asked = [d for d in DISTANCES if d > 4 * WINDOW] if model == SLIDING else [FAR]
    rows = [table.get((setting, model, "paper", distance)) for distance in asked]
    return all(row is not None and row["seeds"] >= len(SEEDS) for row in rows)


PROTOCOL = """
Key-value pairs, filler, then the keys in random order; distance is the number of filler words between. Trained with 8,
16, 24 or 32 pairs, as many of them as fit, so that space is dear; tested with 8. Two settings: 30 and 1,000 filler
words. One block of width 64, one head, parameters matched within 5 % by the width of the MLP, window and segment 32.
Other recurrences stand beside, of no weight in the rule; RetNet has eight heads, whose published fadings reach 1 -
2^-12, and with them matrices of 512 numbers in all where the others have 4,096. Births: embedding at 0.02; a short
convolution on queries, keys and values, keys one token late, in the memory and in the baselines', MAG's and MAL's
attention; memory gates, where a model has them, at alpha 1e-6, eta 0.5, theta 0.01. The deep memory's writes are
bounded to 1, as everywhere here; TTT's are not, as published. AdamW, 800 steps of 2,048 tokens, lengths 64 to 1,024
equally often, the rate falling to 0 as a cosine. Three pairs of learning rate and weight decay are tried with the first
of three seeds: 0.002 and 1, 0.002 and 0.1, 0.004 and 0.1; the one that validates best at 1,024 tokens is kept, the
earlier one if they are equal; two more seeds of the Titans and the window, added after the claim was judged with three,
search for themselves. Tested at 256 to 65,536 on 32 sequences of 8 answers, beyond 16,384 on 8 others (the window 32,
whose level is compared with chance; full attention 12 and 4), the same ones for every seed, drawn apart from training
and validation. Intervals: Student's t over seeds, or a bootstrap over sequences where that is wider. Full attention is
trained at the same lengths, with rotary positions (nothing done to extrapolate) and without positions, which is the
fairest setting known for lengths beyond training. A window in one block cannot see beyond itself: that it is at chance
is a check of the task, not a finding. Reported beside it for the LMM and never counted: a write cost (0.1 times the
memory's mean step size, added to the training loss; not part of Titans), convolution taps born as in PyTorch, gates
born at this package's defaults (alpha 0.001, theta 0.1), weight decay held at 0.1, as in the paper, and an embedding
born at dim ** -0.5. One block, one head, the births, the decay and the rate's fall were chosen by single runs of other
seeds that were tested up to 65,536 tokens on other sequences, after two protocols were given up whose runs are kept
beside these: two blocks of two heads, 500 steps; and one of each with weight decay 0.1. Their seeds and test sequences
had then been looked at: here both are new.
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
