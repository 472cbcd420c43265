"""Stored measurements, a section at a time, and the page that shows them."""

import json
import os
from pathlib import Path
from typing import Any

from titans_mlx.bench import peers
from titans_mlx.bench.cost import decode_bytes, model_flops, state_bytes
from titans_mlx.bench.measure import Row
from titans_mlx.bench.ours import VARIANTS, config
from titans_mlx.model import Titans
from titans_mlx.training import count_parameters, provenance
from titans_mlx.training.files import replace_between, write_json

MEASURED = ("<!-- measured: begin -->", "<!-- measured: end -->")
COST = ("<!-- cost: begin -->", "<!-- cost: end -->")
LONG = 10_000_000
MACS = {"M4 (10 GPU cores)": (120e9, 4.3e12), "M4 Max (40 GPU cores)": (546e9, 17e12)}
"""Bytes per second that Apple states, and float32 flops per second that others measured: assumptions, not ours."""


def origin(device: str, repeats: int) -> dict[str, Any]:
    """Where measurements come from: to be asked before the first, since the source may change while they last."""
    return provenance() | {"device": device, "repeats": repeats, "threads": _threads(), "peer": peers.versions()}


def store(path: Path, section: str, rows: list[Row], began: dict[str, Any]) -> None:
    """Put a section's rows, with the :func:`origin` they have, in the place of what the file held of it."""
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**stored, section: {"provenance": began, "rows": rows}})


def _threads() -> str:
    return os.environ.get("OPENBLAS_NUM_THREADS", "as many as cores")


def write_page(page: Path, results: Path) -> None:
    """Write the stored measurements and the formulas' figures between the marks of the page.

    Raises:
        ValueError: unless each mark is there once, in order.
    """
    stored = json.loads(results.read_text(encoding="utf-8"))
    replace_between(page, {MEASURED: measured(stored), COST: costs()})


def measured(stored: dict[str, Any]) -> str:
    """A Markdown table of every stored row: what was measured, its figures, the ratio asked for and reached."""
    lines = ["| measured | figures | ratio | asked for |", "|---|---|---|---|"]
    for section in stored.values():
        for row in section["rows"]:
            rest = {k: v for k, v in row.items() if k not in ("measure", "ratio", "to_reach")}
            figures = ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in rest.items())
            ratio, asked = (_number(row[name]) if name in row else "" for name in ("ratio", "to_reach"))
            lines.append(f"| {row['measure']} | {figures} | {ratio} | {asked} |")
    origins: dict[str, list[str]] = {}
    for name, section in stored.items():
        origins.setdefault(_described(section["provenance"]), []).append(name)
    lines += [f"\nSections {', '.join(names)}: {origin}" for origin, names in origins.items()]
    return "\n".join(lines)


def _described(o: dict[str, Any]) -> str:
    return (
        f"{o['processor']}, {o['cores']} cores, {o['device']}, BLAS threads {o['threads']}; "
        f"{_versions(o['peer'])}; commit {_commit(o)}, {o['started'][:10]}."
    )


def _versions(peer: dict[str, str] | None) -> str:
    return "no peer" if peer is None else " and ".join(f"{name} {number}" for name, number in peer.items())


def _commit(origin: dict[str, Any]) -> str:
    return (origin["commit"] or "unknown")[:9] + (" with changes" if origin["dirty"] else "")


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def costs() -> str:
    """Markdown tables of what the formulas say of the benchmark's models."""
    names = (*VARIANTS, "sliding_window", "transformer")
    models = {name: config(name) for name in names}
    sizes = {name: count_parameters(Titans(model)) for name, model in models.items()}
    lines = [
        "| model | Mflop a token at 1,024 | at 65,536 | state at 65,536 (MB) | moved a decoded token there (MB) |",
        "|---|---|---|---|---|",
    ]
    for name, model in models.items():
        near, far = (model_flops(model, length) / 1e6 for length in (1024, 65_536))
        held, moved = state_bytes(model, 65_536) / 1e6, decode_bytes(model, sizes[name], 65_536) / 1e6
        lines.append(f"| {name} | {near:.2f} | {far:.2f} | {held:.2f} | {moved:.1f} |")
    lines += [
        "",
        f"| on | model | tokens a second read, at most | decoded at 1,000 | decoded at {LONG:,} | state there (MB) |",
        "|---|---|---|---|---|---|",
    ]
    for mac, (bandwidth, speed) in MACS.items():
        for name, model in models.items():
            read = speed / model_flops(model, 4096)
            near, far = (bandwidth / decode_bytes(model, sizes[name], length) for length in (1000, LONG))
            held = state_bytes(model, LONG) / 1e6
            lines.append(f"| {mac} | {name} | {read:,.0f} | {near:,.0f} | {far:,.0f} | {held:,.1f} |")
    return "\n".join(lines)
