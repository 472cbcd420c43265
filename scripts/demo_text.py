"""Train the small model of Python's own source whose memory a notebook shows while it reads.

    python scripts/demo_text.py

Writes config.json (model, training, what it scored), model.safetensors (float32) and provenance.json.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from titans_mlx.claims.store import TEXT_DEMO, store_demo
from titans_mlx.lm.training import TextConfig, train_text
from titans_mlx.presets import preset
from titans_mlx.training import TrainConfig, provenance

RESULTS = Path(__file__).resolve().parents[1] / "notebooks" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=RESULTS / TEXT_DEMO)
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    origin, started = provenance(), time.perf_counter()
    config = TrainConfig(
        steps=given.steps, batch_size=16, learning_rate=4e-3, warmup=given.steps // 20, min_lr_ratio=0.0, log_every=50
    )
    text = TextConfig(sample=0)
    with TemporaryDirectory() as folder:
        model, _ = train_text(folder, preset("tiny", "mac"), config, text, progress=show)
        scores = json.loads((Path(folder) / "scores.json").read_text(encoding="utf-8"))
    seconds = round(time.perf_counter() - started, 1)
    told = {"training": config.to_dict(), "scores": scores}
    store_demo(given.folder, model, told, {**origin, "seconds": seconds})
    print(f"{scores['bits_per_byte']:.3f} bits per byte after {seconds} s, in {given.folder}")


def show(step: int, record: dict[str, Any]) -> None:
    if record["kind"] == "train":
        print(f"step {step}: loss {record['loss']:.3f}", flush=True)


if __name__ == "__main__":
    main()
