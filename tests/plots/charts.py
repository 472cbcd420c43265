"""Rows to draw, and what is found in a chart."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from titans_mlx.claims.base import Row
from titans_mlx.claims.recall_jobs import SLIDING

MODELS = ("LMM matrix", "RetNet", SLIDING)
GATES = ("surprise", "alpha", "eta", "theta", "movement")


def summary(
    models: Sequence[str] = MODELS,
    setting: str = "few",
    option: str = "paper",
    distances: Sequence[int] = (256, 1024, 65_536),
) -> list[Row]:
    """Rows as ``summarise`` gives them, with accuracies that tell them apart."""
    return [
        {
            "setting": setting,
            "model": model,
            "option": option,
            "distance": distance,
            "accuracy": 0.9 - 0.1 * index,
            "low": 0.8 - 0.1 * index,
            "high": 0.95 - 0.1 * index,
            "seeds": 3,
            "answers": 768,
            "chance": 0.02,
            "trained_length": 1024,
            "parameters": 114_000,
            "seconds_per_sequence": 1e-4 * distance,
            "peak_megabytes": 30.0 + index,
            "filler_step": None,
        }
        for index, model in enumerate(models)
        for distance in distances
    ]


def work(blocks: int = 1, heads: int = 2, layers: int = 1, **values: float) -> list[Row]:
    """Rows as ``trace_rows`` gives them for three tokens."""
    fields = dict(zip(GATES, (2.0, 0.001, 0.5, 0.1, 0.3), strict=True)) | values
    return [
        {"position": t, "token": token, "block": block + 1, "head": head + 1, "layer": layer + 1, **fields}
        for block in range(blocks)
        for head in range(heads)
        for layer in range(layers)
        for t, token in enumerate(["k3", "v12", "f7"])
    ]


def values(chart: Any) -> list[Row]:
    """Every row of data in a chart."""

    def walk(node: Any) -> Iterator[Row]:
        if isinstance(node, dict):
            if isinstance(node.get("data"), dict):
                yield from node["data"]["values"]
            for child in node.values():
                yield from walk(child)
        elif isinstance(node, list):
            for child in node:
                yield from walk(child)

    return list(walk(chart.to_dict()))


def words(chart: Any, folder: Path) -> list[str]:
    """Every word drawn, by rendering; a chart that Vega cannot compile fails here."""
    path = folder / "chart.svg"
    chart.save(path)
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


def swept(
    models: Sequence[str] = ("LMM matrix", "MAG"), xs: Sequence[float] = (0.0, 0.5, 1.0), **fields: Any
) -> list[Row]:
    """Rows as ``judging.summarise`` gives them."""
    common = {"low": 0.4, "high": 0.6, "seeds": 3, "answers": 64, "chance": 0.02, "use": "whole", **fields}
    return [{"model": model, "x": x, "accuracy": 0.5 + x / 10, **common} for model in models for x in xs]


def marks(chart: Any) -> list[str]:
    """The kind of every layer's mark."""
    return [layer["mark"]["type"] for layer in chart.to_dict()["layer"] if "mark" in layer]


def measured(models: Sequence[str] = ("LMM deep", "Transformer"), xs: Sequence[int] = (512, 4096)) -> list[Row]:
    """Rows of a rate by length."""
    return [
        {"model": model, "x": x, "rate": 10.0 * x, "low": 9.0 * x, "high": 11.0 * x} for model in models for x in xs
    ]
