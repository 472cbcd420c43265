"""Training on text and testing by position: after all that was read, after little of it, and with the memory reset."""

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from titans_mlx.claims.base import Job, Progress, Row
from titans_mlx.claims.fitting import fit
from titans_mlx.claims.interventions import changed, memories, reborn
from titans_mlx.claims.recall_runs import train_config
from titans_mlx.claims.search import Trained, train_all
from titans_mlx.claims.series import FOLDER
from titans_mlx.claims.training import TRAIN, VALIDATE
from titans_mlx.config import TitansConfig
from titans_mlx.lm.corpus import STANDARD_LIBRARY
from titans_mlx.lm.scores import bits_per_byte, by_position, nats, text_loss
from titans_mlx.lm.tokens import Tokens, gather
from titans_mlx.model import Titans
from titans_mlx.training import count_parameters

WINDOW = 64
"""Bytes that attention sees, and after which a memory that is reset is at birth again."""
TEST = 2
WHOLE, RECENT, RESET = "", "recent bytes only", "memory reset"
COST = "cost"


@cache
def corpus_of(name: str) -> dict[str, Tokens]:
    """The parts of a corpus, by its bytes.

    Raises:
        ValueError: if it is Shakespeare's and the environment names no folder of data.
    """
    if name == STANDARD_LIBRARY:
        return gather(name)
    folder = os.environ.get(FOLDER)
    if not folder:
        raise ValueError(f"{FOLDER} must name the folder that holds {name}/input.txt, got nothing")
    return gather(str(Path(folder) / name / "input.txt"))


def run_text(job: Job, progress: Progress | None = None) -> list[Row]:
    """Train over the grid with the first seed, then with the others at its best entry; rows of each seed.

    Returns:
        For each seed a row of the test windows of the training length (``kind`` "near"), and a row per span of
        positions of long ones (``kind`` "far", ``first``, ``last``) and way of reading them (``use``).
    """
    settings = job.settings

    def train_one(entry: tuple[float, float], seed: int, progress: Progress | None) -> Trained:
        return _train(settings, entry, seed, progress)

    trained, scores = train_all(settings["grid"], settings["seeds"], train_one, progress)
    # The search keeps the largest score; of an entry that diverged there is none.
    tried = [
        {"learning_rate": rate, "validation_bits": None if found is None else -found}
        for rate, found in ((score["learning_rate"], score["accuracy"]) for score in scores)
    ]
    return [{**row, "grid_scores": tried} for each in trained for row in _rows(settings, each)]


def cost_row(name: str, config: TitansConfig, settings: dict[str, Any]) -> Row:
    """What a model as born takes to read long windows."""
    mx.random.seed(0)
    model = Titans(config)
    tokens = np.random.default_rng(0).integers(256, size=(settings["windows"], settings["far"] + 1))
    windows = tokens[:, :-1], tokens[:, 1:]
    nats(model, *(array[:, : settings["far"] // 8] for array in windows))
    mx.reset_peak_memory()
    started = time.perf_counter()
    nats(model, *windows)
    seconds = (time.perf_counter() - started) / settings["windows"]
    row = {"kind": COST, "model": name, "length": settings["far"], "seconds_per_window": seconds}
    return row | {"peak_bytes": mx.get_peak_memory(), "parameters": count_parameters(model)}


def _train(settings: dict[str, Any], entry: tuple[float, float], seed: int, progress: Progress | None) -> Trained:
    parts = corpus_of(settings["corpus"])
    mx.random.seed(seed)
    born = Titans(TitansConfig.from_dict(settings["architecture"]))
    model = changed(born, settings.get("train_change", {}))
    schedule = train_config(settings["training"], entry, seed)
    batches = parts["train"].batches(settings["batch"], settings["length"], (TRAIN, seed))
    what = f"{settings['model']} on {settings['corpus']}"
    result = fit(model, text_loss, batches, schedule, what, progress)
    held_out = parts["validation"].batches(settings["windows"], settings["length"], VALIDATE)(0)
    return Trained(model, entry, seed, result.seconds, -bits_per_byte(nats(model, *held_out)))


def _rows(settings: dict[str, Any], trained: Trained) -> list[Row]:
    test, model = corpus_of(settings["corpus"])["test"], trained.model
    head = {"model": settings["model"], "corpus": settings["corpus"], "seed": trained.seed}
    head |= {"learning_rate": trained.entry[0], "weight_decay": trained.entry[1], "trained_length": settings["length"]}
    head |= {"validation_bits": -trained.validation, "parameters": count_parameters(model)}
    head |= {"train_seconds": round(trained.seconds, 1), "text_sha256": test.text_sha256[:16]}
    near = nats(model, *test.batches(settings["windows"], settings["length"], TEST)(0), batch_size=16)
    rows = [{**head, "kind": "near", "use": WHOLE, "bits": bits_per_byte(near)}]
    count = min(settings["far_windows"], len(test.windows_within(settings["far"])))
    long = test.documents(count, settings["far"], TEST)
    for use, losses in _readings(model, *long, settings["length"]).items():
        rows += [
            {**head, "kind": "far", "use": use, "first": span["first"], "last": span["last"], "windows": count}
            | {"bits": span["bits_per_byte"]}
            for span in by_position(losses)
        ]
    return rows


def _readings(model: Titans, tokens: np.ndarray, targets: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """Losses (N, T) of the same bytes after all that went before them, after little of it, and with resets."""
    whole = nats(model, tokens, targets, batch_size=16)
    found = {WHOLE: whole, RECENT: recent(model, tokens, targets, length, whole)}
    if memories(model):
        forget = {"piece": WINDOW, "forget": lambda states: reborn(model, states)}
        found[RESET] = nats(model, tokens, targets, batch_size=16, **forget)
    return found


def recent(model: Titans, tokens: np.ndarray, targets: np.ndarray, length: int, whole: np.ndarray) -> np.ndarray:
    """Losses (N, T) where at most ``length`` bytes were read, at least half as many.

    Windows of ``length`` that overlap by half, each read from birth, of which the second half counts; the first half
    of all, which has no more before it, is that of ``whole``.
    """
    half = length // 2
    starts = range(0, tokens.shape[1] - length + 1, half)
    windows = [np.concatenate([array[:, at : at + length] for at in starts]) for array in (tokens, targets)]
    losses = nats(model, *windows, batch_size=64)[:, half:]
    parts = np.split(losses, len(starts))
    return np.concatenate([whole[:, :half], *parts], axis=1)
