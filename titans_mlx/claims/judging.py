"""What rows say: their means with intervals, which differences count, and the verdict that follows from parts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from titans_mlx.claims.base import Row, Verdict
from titans_mlx.claims.statistics import accuracy_interval, gain, mean_interval, surely

TEST_ROWS = 16
"""Sequences read side by side in a test."""
LEARNED = 0.5
"""A training below this, tested as it was trained, shows nothing of what its model can do."""


def summarise(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """One row per group of equal columns ``by``: mean accuracy over seeds with its 95 % interval, and costs."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    table = []
    for key, members in groups.items():
        low, high = accuracy_interval([np.array(m["correct"])[:, None] / m["queries"] for m in members])
        table.append(
            {
                **dict(zip(by, key, strict=True)),
                "accuracy": float(np.mean([m["accuracy"] for m in members])),
                "worst": min(m["accuracy"] for m in members),
                "low": low,
                "high": high,
                "seeds": len(members),
                "answers": sum(m["sequences"] * m["queries"] for m in members),
                **{name: members[0][name] for name in ("chance", "parameters", "trained_length", "length")},
                "train_seconds": float(np.mean([m["train_seconds"] for m in members])),
                "seconds_per_sequence": float(np.mean([m["seconds_per_sequence"] for m in members])),
                # Rows stored before losses were measured have none, nor have those of a model that gives NaN.
                **(
                    {"nats": float(np.mean([m["nats"] for m in members]))}
                    if all(m.get("nats") is not None for m in members)
                    else {}
                ),
                "peak_megabytes": max(m["peak_bytes"] / min(m["sequences"], TEST_ROWS) for m in members) / 1e6,
            }
        )
    return table


def losses(rows: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """As :func:`summarise`, but ``low`` and ``high`` are the ends of the interval of ``nats``; None for one seed.

    Without groups in which a model gives NaN.
    """
    table = [row for row in summarise(rows, by) if "nats" in row]
    for row in table:
        own = [r["nats"] for r in rows if all(r[name] == row[name] for name in by)]
        row |= {end: found for end, found in mean_interval(own).items() if end != "value"}
    return table


def learned(rows: Sequence[Row]) -> bool:
    """Whether every training of ``rows`` was right in at least half of the answers on its validation sequences."""
    return all(row["validation_accuracy"] >= LEARNED for row in rows)


def more(first: Sequence[Row], second: Sequence[Row], least: float) -> bool | None:
    """Whether a model is surely more often right than another by ``least``; None where one has no rows.

    A model with a training that has not learned its task shows nothing of what its memory can do.
    """
    if not first or not second:
        return None
    return learned([*first, *second]) and surely(gain(first, second), least)


def more_part(part: str, first: Sequence[Row], second: Sequence[Row], least: float) -> tuple[str, bool | None]:
    """A part that asks for :func:`more`, named with why it does not hold where that is not the difference itself; and
    whether it holds.
    """
    held = more(first, second, least)
    if held is not False:
        return part, held
    if not learned([*first, *second]):
        return f"{part} (not learned)", held
    return f"{part} (within the noise of seeds)" if gain(first, second)["value"] >= least else part, held


MORE_RULE = (
    f"By so much means: on average over seeds, with the 95 % interval of the difference (Student's t over seeds, each "
    f"with its own counterpart) above 0, and every training of both right in {LEARNED:.0%} of its validation answers."
)
"""To stand in a claim's rule that uses :func:`more`."""


def texts(rows: Sequence[Row]) -> set[str]:
    """The texts that rows are of: Python's documentation is another with another version."""
    return {row["text_sha256"] for row in rows if "text_sha256" in row}


def verdict(parts: dict[str, bool | None], figure: str, scale: str) -> Verdict:
    """What follows when a claim has parts: all hold, some, none; None stands for a part that has not run.

    ``scale`` is as :func:`scale_of` gives it, empty if nothing has run.

    Raises:
        ValueError: if there are no parts: nothing would then be reproduced.
    """
    if not parts:
        raise ValueError("parts must have at least one entry, got none")
    if not scale:
        return Verdict("not run", "no stored full run", "")
    missing = [name for name, held in parts.items() if held is None]
    failed = [name for name, held in parts.items() if held is not None and not held]
    named = f"does not hold: {'; '.join(failed)}" if failed else ""
    if missing:
        waiting = f"not run yet: {'; '.join(missing)}"
        return Verdict("unfinished", figure, scale, f"{named}. {waiting}" if named else waiting)
    if not failed:
        return Verdict("reproduced", figure, scale)
    if len(failed) == len(parts):
        return Verdict("not reproduced", figure, scale, named)
    return Verdict("reproduced in part", figure, scale, named)


def scale_of(rows: Sequence[Row], what: str) -> str:
    """The size at which something was found: parameters, training length, seeds by task, and ``what`` else."""
    if not rows:
        return ""
    seeds: dict[Any, set[int]] = {}
    for row in rows:
        seeds.setdefault(row.get("what"), set()).add(row["seed"])
    fewest, most = min(map(len, seeds.values())), max(map(len, seeds.values()))
    told = f"{most}" if fewest == most else f"{fewest} to {most}"
    size, length = max(row["parameters"] for row in rows) / 1e6, max(row["trained_length"] for row in rows)
    return f"{size:.2f}M parameters, trained at up to {length:,} tokens, {what}, {told} seeds"
