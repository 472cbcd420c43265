"""How a job trains: over its grid with the first seed, then with the others at the best entry."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from titans_mlx.claims.base import Progress, Row, part
from titans_mlx.model import Titans
from titans_mlx.training import TrainingDiverged


class Trained(NamedTuple):
    """A trained model and how it came about.

    Attributes:
        model: the model.
        entry: learning rate and weight decay.
        seed: of parameters and training batches.
        seconds: of training.
        validation: accuracy on validation sequences.
    """

    model: Titans
    entry: tuple[float, float]
    seed: int
    seconds: float
    validation: float


def train_all(
    grid: Sequence[tuple[float, float]],
    seeds: Sequence[int],
    train: Callable[[tuple[float, float], int, Progress | None], Trained],
    progress: Progress | None = None,
    parts: int = 0,
) -> tuple[list[Trained], list[Row]]:
    """A model per seed, and the validation scores of the entries tried.

    The grid's first entry without an error ends the search: ties go to the earlier, so nothing after it could win. An
    entry whose training diverges is passed over.

    Args:
        grid: entries, the preferred first.
        seeds: the first searches the grid.
        train: a model at an entry with a seed.
        progress: told of the share done, of trainings and ``parts`` further ones of equal weight.
        parts: see ``progress``.

    Raises:
        TrainingDiverged: every entry's training diverges, or that of another seed at the best entry.
    """
    first, *others = seeds
    total = len(grid) + len(others) + parts
    tried: list[Trained] = []
    scores: list[Row] = []
    for index, entry in enumerate(grid):
        last = index == len(grid) - 1
        try:
            tried.append(train(tuple(entry), first, part(progress, index, total)))
        except TrainingDiverged:
            if last and not tried:
                raise
            scores.append({"learning_rate": entry[0], "weight_decay": entry[1], "accuracy": None})
            continue
        scores.append({"learning_rate": entry[0], "weight_decay": entry[1], "accuracy": tried[-1].validation})
        if tried[-1].validation == 1:
            break
    best = max(tried, key=lambda trained: trained.validation)
    trained = [best]
    for index, seed in enumerate(others, len(grid)):
        trained.append(train(best.entry, seed, part(progress, index, total)))
    return trained, scores
