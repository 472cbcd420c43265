"""Train a small language model on text.

    python scripts/train.py runs/first                          # Python's own source, by its bytes: no download
    python scripts/train.py runs/mine --source notes/ --preset small --variant mag --steps 5000
    mlx.launch -n 2 scripts/train.py runs/first                 # two processes, one gradient

Started again with the same arguments it goes on from the last checkpoint. The folder then holds `model`, which
mlx_lm.generate and its sister commands load, and `scores.json`, bits per byte by position and by length.
"""

import argparse
import math
from pathlib import Path
from typing import Any, get_args

# Before mlx, so that OpenBLAS is in place when it is loaded.
from titans_mlx.config import TitansConfig, Variant

# isort: split
import mlx.core as mx
from tqdm import tqdm

from titans_mlx.lm.corpus import STANDARD_LIBRARY
from titans_mlx.lm.tokenizer import BYTE_VOCAB
from titans_mlx.lm.training import TextConfig, train_text
from titans_mlx.presets import PRESETS, preset
from titans_mlx.training import TrainConfig, TrainingDiverged


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what is written goes here")

    def option(name: str, default: Any, told: str, **more: Any) -> None:
        kind = {} if isinstance(default, str) else {"type": type(default)}
        parser.add_argument(f"--{name}", default=default, help=f"{told} (default: %(default)s)", **kind, **more)

    option("source", STANDARD_LIBRARY, "stdlib, a file, folder, .jsonl, or a data set's name")
    parser.add_argument("--tokenizer", help="a Hugging Face tokenizer, by folder or name (default: bytes)")
    option("preset", "tiny", "the model's size", choices=PRESETS)
    option("variant", "mac", "its block", choices=get_args(Variant))
    option("steps", 1000, "steps of training")
    option("batch-size", 16, "sequences of a step")
    option("length", 256, "tokens of a sequence")
    option("learning-rate", 3e-3, "at its peak")
    parser.add_argument("--warmup", type=int, help="steps over which the rate rises (default: a twentieth of all)")
    option("optimizer", "adamw", "of the weights", choices=("adamw", "muon"))
    option("accumulate", 1, "parts of a batch, one after the other")
    option("truncate", 0, "tokens over which gradients run back; 0: all")
    option("dtype", "float32", "of the passes forward and backward", choices=("float32", "bfloat16"))
    option("evaluate-every", 200, "steps between validations")
    option("prompt", "def ", "what the samples continue")
    option("seed", 0, "of weights and batches")
    return parser.parse_args()


class Bar:
    """A progress bar with loss, speed and memory; samples are written above it."""

    def __init__(self, steps: int, tokens_per_step: int) -> None:
        self.steps, self.tokens_per_step = steps, tokens_per_step
        self.bar: tqdm | None = None

    def __call__(self, step: int, record: dict[str, Any]) -> None:
        if self.bar is None:
            # A run that goes on did not make its earlier steps just now.
            self.bar = tqdm(total=self.steps, initial=step - 1, unit="step", dynamic_ncols=True)
        if record["kind"] == "eval":
            self.bar.write(f"step {step}: {record['bits_per_byte']:.3f} bits per byte")
            if "sample" in record:
                self.bar.write(record["sample"])
            return
        self.bar.update(step - self.bar.n)
        rate = self.bar.format_dict["rate"]
        self.bar.set_postfix(
            loss=f"{record['loss']:.3f}",
            tokens_per_s=f"{(rate or 0) * self.tokens_per_step:,.0f}",
            peak_MB=f"{mx.get_peak_memory() / 1e6:,.0f}",
        )


def configured(given: argparse.Namespace) -> tuple[TitansConfig, TrainConfig, TextConfig, Any]:
    """The model, its training, its text and its tokenizer (None: bytes), as asked for."""
    tokenizer = None
    if given.tokenizer:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(given.tokenizer)
    architecture = preset(given.preset, given.variant, vocab_size=BYTE_VOCAB if tokenizer is None else len(tokenizer))
    config = TrainConfig(
        steps=given.steps,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        warmup=given.steps // 20 if given.warmup is None else given.warmup,
        seed=given.seed,
        eval_every=given.evaluate_every,
        checkpoint_every=given.evaluate_every,
        optimizer=given.optimizer,
        accumulate=given.accumulate,
        truncate=given.truncate,
        dtype=given.dtype,
        # Twice what a model that knows nothing loses.
        loss_limit=2 * math.log(architecture.vocab_size),
    )
    return architecture, config, TextConfig(source=given.source, length=given.length, prompt=given.prompt), tokenizer


def main() -> None:
    given = arguments()
    group = mx.distributed.init()
    group = group if group.size() > 1 else None
    leads = group is None or group.rank() == 0
    progress = Bar(given.steps, given.batch_size * given.length) if leads else None
    try:
        architecture, config, text, tokenizer = configured(given)
        train_text(given.folder, architecture, config, text, tokenizer, progress, group)
    except (TrainingDiverged, ValueError, OSError) as error:
        # All processes end here alike; one says why.
        raise SystemExit(f"train.py: {error}" if leads else 1) from error
    if leads:
        print(f"\nscores in {given.folder / 'scores.json'}, the model in {given.folder / 'model'}")


if __name__ == "__main__":
    main()
