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
    entry at which any seed's training diverges is passed over, for all seeds.

    Args:
        grid: entries, the preferred first.
        seeds: the first searches the grid.
        train: a model at an entry with a seed.
        progress: told of the share done, of trainings and ``parts`` further ones of equal weight.
        parts: see ``progress``.

    Raises:
        TrainingDiverged: at every entry tried, some seed's training diverges.
    """
    first, *others = seeds
    total = len(grid) + len(others) + parts
    tried: list[tuple[Trained, Row]] = []
    scores: list[Row] = []
    failure: TrainingDiverged | None = None
    for index, entry in enumerate(grid):
        score: Row = {"learning_rate": entry[0], "weight_decay": entry[1], "accuracy": None}
        scores.append(score)
        try:
            trained = train(tuple(entry), first, part(progress, index, total))
        except TrainingDiverged as error:
            failure = error
            continue
        tried.append((trained, score))
        score["accuracy"] = trained.validation
        if trained.validation == 1:
            break
    # The sort is stable: of equal entries, the earlier one goes first.
    for best, score in sorted(tried, key=lambda each: each[0].validation, reverse=True):
        try:
            rest = [train(best.entry, seed, part(progress, i, total)) for i, seed in enumerate(others, len(grid))]
        except TrainingDiverged as error:
            failure = error
            score["another_seed_diverged"] = True
            continue
        return [best, *rest], scores
    assert failure is not None
    raise failure
