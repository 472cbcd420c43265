"""The rule that claims on long contexts share: some Titan holds from near to far, and everything else is behind it."""

from collections.abc import Sequence
from functools import cache

from titans_mlx.claims.base import Row
from titans_mlx.claims.judging import LEARNED, summarise
from titans_mlx.claims.lab import CONTROL
from titans_mlx.claims.matching import match_parameters, parameters
from titans_mlx.claims.recall_jobs import TITANS, model_configs
from titans_mlx.claims.statistics import gain, share, surely
from titans_mlx.config import TitansConfig

GOOD, FLAT, MARGIN = 0.9, 0.05, 0.1
TAPS, STEP = 8, 0.1
"""Taps of short convolutions, and where theta is born: what tells a needle or a fact lies up to seven tokens back."""


@cache
def reach_models(vocab_size: int, names: tuple[str, ...], num_layers: int) -> dict[str, TitansConfig]:
    """Models of the claim on recall over distance with :data:`TAPS` and :data:`STEP`, matched in parameters anew."""
    models = model_configs(vocab_size)
    made = {
        name: models[name].replace(
            num_layers=num_layers,
            attention_conv_size=TAPS,
            memory=models[name].memory.replace(conv_size=TAPS, step_init=STEP),
        )
        for name in names
    }
    target = parameters(made[names[0]])
    return {name: match_parameters(config, target) for name, config in made.items()}


def judge_reach(
    rows: Sequence[Row],
    kinds: dict[str, str],
    others: Sequence[str],
    near: int,
    far: int,
    *,
    falling: bool = False,
    able: Sequence[str] = (),
) -> tuple[dict[str, bool | None], str]:
    """Two parts per kind of test, and what was found.

    Args:
        rows: with ``model``, ``what`` (a kind) and ``x`` (a length in tokens).
        kinds: what is tested, and its name for people.
        others: the models that must be behind the best Titan at ``far``.
        near: the length up to which models were trained.
        far: the length in question.
        falling: whether others that are right in :data:`LEARNED` of their answers at ``near``, of which there must be
            one, must lose more than :data:`FLAT` on the way.
        able: those of the others that must be right in :data:`LEARNED` of their answers at ``near``: whoever has not
            learned the task is behind for no reason of its memory's.

    Returns:
        Parts, None where a model's rows are missing: whether the best Titan at ``far`` is right in :data:`GOOD` of its
        answers, and in at most :data:`FLAT` fewer than at ``near``; whether besides all others are right there in
        :data:`MARGIN` fewer, beyond the noise of seeds. And the accuracies behind it.
    """
    parts: dict[str, bool | None] = {}
    figures = []
    for kind, name in kinds.items():
        of_kind = [row for row in rows if row["what"] == kind and row["x"] in (near, far)]
        table = {(row["model"], row["x"]): row for row in summarise(of_kind, ("model", "x"))}
        if any((model, x) not in table for model in (*TITANS, *others) for x in (near, far)):
            parts[f"{name} (Titans)"] = parts[f"{name} (others)"] = None
            continue
        at = {key: row["accuracy"] for key, row in table.items()}
        best, other = (max(models, key=lambda model: at[model, far]) for models in (TITANS, others))
        holds = at[best, far] >= GOOD and at[best, near] - at[best, far] <= FLAT
        known = max(at[model, near] for model in TITANS) >= GOOD
        parts[f"{name} (Titans{'' if known else f', below {GOOD:.0%} at {near:,} too'})"] = holds
        lost = [at[model, near] - at[model, far] for model in others if at[model, near] >= LEARNED]
        fell = bool(lost) and min(lost) > FLAT
        weak = [f", {model} not learned at {near:,}" for model in able if at[model, near] < LEARNED]
        ahead = _ahead([row for row in of_kind if row["x"] == far], best, others)
        parts[f"{name} (others{''.join(weak)})"] = holds and ahead and not weak and (fell or not falling)
        told = [f"{model} {at[model, near]:.0%} to {share(table[model, far])}" for model in (best, other)]
        if (CONTROL, far) in at:
            told.append(f"{CONTROL} {at[CONTROL, far]:.0%} at {far:,}")
        figures.append(f"{name}: {', '.join(told)}")
    return parts, f"{near:,} to {far:,} tokens; {'; '.join(figures)}" if figures else ""


def _ahead(rows: Sequence[Row], best: str, others: Sequence[str]) -> bool:
    """Whether every other model is surely right in :data:`MARGIN` fewer answers of one test."""
    own = [row for row in rows if row["model"] == best]
    return all(surely(gain(own, [row for row in rows if row["model"] == model]), MARGIN) for model in others)


RULE = (
    f"Titans: the variant best at {{far:,}} {{unit}} is right there in at least {GOOD:.0%} of its answers, mean over "
    f"seeds, and in at most {FLAT:.0%} fewer than at {{near:,}}. Others: the first holds, and {{others}} right "
    f"there in at least {MARGIN:.0%} fewer, the 95 % interval of the difference (Student's t over seeds, each with its "
    "own counterpart) above 0. All: reproduced; some: reproduced in part; none: not reproduced."
)
"""To be filled in and stand in a claim's rule."""
