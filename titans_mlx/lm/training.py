"""Training a language model on text: tokens, run folder, samples and scores in one folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from titans_mlx._check import check_type, set_count
from titans_mlx.config import TitansConfig
from titans_mlx.lm.corpus import STANDARD_LIBRARY
from titans_mlx.lm.scores import bits_per_byte, by_length, by_position, nats, text_loss
from titans_mlx.lm.session import MemorySession
from titans_mlx.lm.tokens import Corpus, Tokens, prepare
from titans_mlx.model import Titans
from titans_mlx.training import RunFolder, TrainConfig, TrainResult, train
from titans_mlx.training.files import write_json

EVALUATION_SEED = 1


@dataclass(frozen=True)
class TextConfig:
    """What is read, and how a model is looked at while it learns.

    Attributes:
        source: as for :func:`~titans_mlx.lm.corpus.documents`.
        length: tokens of a training sequence.
        documents: windows of the validation part that each evaluation reads.
        far: tokens of the windows of the last evaluation; 0: 32 times ``length``, halved until the validation part has
            ``documents`` different windows that lie within a document.
        prompt: what the samples continue.
        sample: tokens of a sample; 0: none.
    """

    source: str = STANDARD_LIBRARY
    length: int = 256
    documents: int = 16
    far: int = 0
    prompt: str = "def "
    sample: int = 120

    def __post_init__(self) -> None:
        for name, least in (("length", 1), ("documents", 1), ("far", 0), ("sample", 0)):
            set_count(self, name, least)
        for name in ("source", "prompt"):
            check_type(name, getattr(self, name), str)
        if self.sample and not self.prompt:
            raise ValueError("prompt must not be empty where samples are drawn, got ''")


def train_text(
    folder: Path | str,
    architecture: TitansConfig,
    config: TrainConfig,
    text: TextConfig,
    tokenizer: Any = None,
    progress: Callable[[int, dict[str, Any]], None] | None = None,
    group: mx.distributed.Group | None = None,
) -> tuple[Titans, TrainResult]:
    """Train on text, or go on where a run in this folder was stopped.

    Writes below ``folder``: ``tokens`` (prepared once), ``run`` (configuration, records, checkpoints, provenance),
    ``scores.json`` (validation in bits per byte, by position and by length) and ``model``, which mlx-lm loads.

    Args:
        folder: made where it is missing.
        architecture: of the model; its ``vocab_size`` must hold the tokenizer's ids.
        config: of the training. Each record of an evaluation has ``bits_per_byte`` and ``sample``.
        text: what is read.
        tokenizer: a Hugging Face tokenizer; None: bytes.
        progress: as for :func:`~titans_mlx.training.trainer.train`.
        group: as there; the processes must share the folder.

    Returns:
        The trained model and the records.

    Raises:
        TrainingDiverged: as there.
        ValueError: before anything is trained: the folder belongs to another run, the model has fewer ids than the
            tokenizer, or the validation part has too few windows.
    """
    folder = Path(folder)
    leads = group is None or group.rank() == 0
    if group is not None and not leads:
        _wait(group)
    corpus = prepare(text.source, folder / "tokens", tokenizer)
    if group is not None and leads:
        _wait(group)
    if corpus.meta["vocab_size"] > architecture.vocab_size:
        raise ValueError(
            f"vocab_size of the model must be at least the tokenizer's {corpus.meta['vocab_size']}, "
            f"got {architecture.vocab_size}"
        )
    far_length(corpus.validation, text)
    mx.random.seed(config.seed)
    model = Titans(architecture)
    run = RunFolder(folder / "run", {"model": architecture, "text": text, "corpus": _identity(corpus)})
    batches = corpus.train.batches(config.batch_size, text.length, config.seed)
    evaluate = _evaluation(corpus.validation, text, tokenizer)
    result = train(model, text_loss, batches, config, run, evaluate, progress, group)
    if leads:
        write_json(folder / "scores.json", far_scores(model, corpus.validation, text))
        # Here, since mlx_lm takes long to import.
        from titans_mlx.lm.pretrained import save_pretrained

        save_pretrained(model, folder / "model", tokenizer)
    return model, result


def far_scores(model: Titans, tokens: Tokens, text: TextConfig) -> dict[str, Any]:
    """Bits per byte on long windows within documents, by position and by length.

    Raises:
        ValueError: as :func:`far_length`.
    """
    length = far_length(tokens, text)
    losses = nats(model, *tokens.documents(text.documents, length, EVALUATION_SEED))
    per_token = tokens.bytes_per_token_within
    return {
        "trained_length": text.length,
        "length": length,
        "documents": text.documents,
        "bits_per_byte": bits_per_byte(losses, per_token),
        "by_position": by_position(losses, per_token),
        "by_length": by_length(losses, per_token),
    }


def far_length(tokens: Tokens, text: TextConfig) -> int:
    """Tokens of the windows of the last evaluation, see :class:`TextConfig`.

    Raises:
        ValueError: there are not ``text.documents`` different windows of ``text.far`` tokens, or of one token.
    """
    length = text.far or 32 * text.length
    while not text.far and length > 1 and len(tokens.windows_within(length)) < text.documents:
        length //= 2
    found = len(tokens.windows_within(length))
    if found < text.documents:
        raise ValueError(
            f"far and documents must leave enough of the validation part, which has {found} windows of {length} tokens "
            f"within documents, got far={text.far} and documents={text.documents}"
        )
    return length


def _evaluation(tokens: Tokens, text: TextConfig, tokenizer: Any) -> Callable[[Titans], dict[str, Any]]:
    held_out = tokens.batches(text.documents, text.length, EVALUATION_SEED)(0)

    def evaluate(model: Titans) -> dict[str, Any]:
        found: dict[str, Any] = {"bits_per_byte": bits_per_byte(nats(model, *held_out), tokens.bytes_per_token)}
        if text.sample:
            session = MemorySession(model, tokenizer)
            found["sample"] = text.prompt + session.generate(text.prompt, text.sample)
        return found

    return evaluate


def _identity(corpus: Corpus) -> dict[str, Any]:
    return {name: corpus.meta[name] for name in ("tokenizer", "vocab_size", "text_sha256")}


def _wait(group: mx.distributed.Group) -> None:
    mx.eval(mx.distributed.all_sum(mx.array(0), group=group))
