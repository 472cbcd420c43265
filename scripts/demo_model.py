"""Train a small model whose memory the notebooks show at work.

    python scripts/demo_model.py
    python scripts/demo_model.py --model MAC

Writes config.json (model, task, what it scored), model.safetensors (float32) and provenance.json.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from titans_mlx.claims.recall_jobs import make_job
from titans_mlx.claims.recall_runs import task_of, train_model
from titans_mlx.claims.store import DEMOS, store_demo
from titans_mlx.claims.training import validation_accuracy
from titans_mlx.config import TitansConfig
from titans_mlx.training import provenance

RESULTS = Path(__file__).resolve().parents[1] / "notebooks" / "results"
VALIDATION_LENGTHS = (64, 128, 256)
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=DEMOS, default="LMM matrix")
    parser.add_argument("--folder", type=Path, help="default: among the notebooks' results")
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    folder = arguments.folder or RESULTS / DEMOS[arguments.model]
    job = make_job(arguments.model, "few", label="demo", lengths=(64, 128), steps=arguments.steps)
    settings, task, started = job.settings, task_of(job), time.perf_counter()
    # Two blocks of two heads, where the claim has one of one: memories that do unlike things are what there is to see.
    config = TitansConfig.from_dict(settings["architecture"]).replace(num_layers=2, num_heads=2)
    origin = provenance()
    model, _ = train_model(settings, config, task, settings["grid"][0], SEED, show)
    scores = {str(length): validation_accuracy(model, task, length, 256, 0) for length in VALIDATION_LENGTHS}
    trained = {name: settings[name] for name in ("lengths", "training", "tokens_per_step", "grid", "write_cost")} | {
        "seed": SEED
    }
    seconds = round(time.perf_counter() - started, 1)
    told = {"task": asdict(task), "training": trained, "validation_accuracy": scores}
    store_demo(folder, model, told, {**origin, "seconds": seconds})
    print(f"{scores} after {seconds} s, in {folder}")


def show(what: str, share: float) -> None:
    print(f"{share:4.0%}  {what}", flush=True)


if __name__ == "__main__":
    main()
