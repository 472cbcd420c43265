"""Checkpoints as mlx-lm and the Hugging Face libraries lay them out."""

import json
from pathlib import Path
from typing import Any

import mlx.nn as nn
from mlx.utils import tree_flatten

from titans_mlx._check import check_type
from titans_mlx._random import random_state_kept
from titans_mlx.lm.model import MODEL_TYPE, Model, ModelArgs
from titans_mlx.lm.tokenizer import BYTE_VOCAB, byte_tokenizer
from titans_mlx.model import Titans
from titans_mlx.training.checkpoint import write_arrays
from titans_mlx.training.files import write_json, write_text

MODEL_FILE = "titans_model.py"
SHIM = "from titans_mlx.lm.model import Model, ModelArgs  # noqa: F401\n"


def save_pretrained(model: Titans, folder: Path | str, tokenizer: Any = None) -> None:
    """Write ``config.json``, ``model.safetensors``, the tokenizer's files and the shim that mlx-lm loads a model by.

    ``mlx_lm.generate --model FOLDER --trust-remote-code`` and its sister commands then work where this package is
    installed. The configuration is written last: a folder half written is no model's.

    Args:
        model: any :class:`~titans_mlx.model.Titans`, not quantised.
        folder: made where it is missing.
        tokenizer: a Hugging Face tokenizer of at most ``vocab_size`` ids, or mlx-lm's wrapper of one; None: bytes
            (:func:`~titans_mlx.lm.tokenizer.byte_tokenizer`), for models of 257 ids or more.

    Raises:
        ValueError: ``model`` is something else, is quantised, or has fewer ids than the tokenizer.
    """
    check_type("model", model, Titans)
    folder = Path(folder)
    from mlx_lm.tokenizer_utils import TokenizerWrapper

    if any(isinstance(part, nn.QuantizedLinear | nn.QuantizedEmbedding) for part in model.modules()):
        raise ValueError("model must not be quantised: quantise the folder with mlx_lm.convert -q instead")
    if tokenizer is None:
        tokenizer = byte_tokenizer()
    elif isinstance(tokenizer, TokenizerWrapper):
        tokenizer = tokenizer._tokenizer
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"tokenizer must have at most the model's vocab_size = {model.config.vocab_size} ids, got {len(tokenizer)}"
            + (f"; a model of bytes has {BYTE_VOCAB}" if len(tokenizer) == BYTE_VOCAB else "")
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Without it the folder is no model's: an older one's configuration must never stand beside new weights.
    (folder / "config.json").unlink(missing_ok=True)
    tokenizer.save_pretrained(str(folder))
    write_arrays(folder / "model.safetensors", dict(tree_flatten(model.parameters())), {"format": "mlx"})
    write_text(folder / MODEL_FILE, SHIM)
    ends = {} if tokenizer.eos_token_id is None else {"eos_token_id": tokenizer.eos_token_id}
    write_json(
        folder / "config.json", {"model_type": MODEL_TYPE, "model_file": MODEL_FILE, **model.config.to_dict(), **ends}
    )


def from_pretrained(folder: Path | str) -> tuple[Model, Any]:
    """The model and tokenizer of a folder that :func:`save_pretrained`, ``mlx_lm.convert`` or ``fuse`` wrote.

    Returns:
        A :class:`~titans_mlx.lm.model.Model`, quantised if its checkpoint is, and mlx-lm's tokenizer wrapper.

    Raises:
        FileNotFoundError: no such folder, or no ``config.json`` or weights in it.
        ValueError: the model is of another type, or its configuration or weights do not fit it.
    """
    from mlx_lm.utils import load_model, load_tokenizer

    folder = Path(folder)
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no model: there is no config.json")
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_type") != MODEL_TYPE:
        raise ValueError(f"model_type of {path} must be {MODEL_TYPE!r}, got {config.get('model_type')!r}")
    # mlx-lm runs the shim only where it is trusted; what the shim imports is this package.
    model, _ = load_model(folder, model_config={"model_file": None}, get_model_classes=lambda **_: (Model, ModelArgs))
    return model, load_tokenizer(folder)


def as_model(model: Titans) -> Model:
    """A plain :class:`~titans_mlx.model.Titans` for mlx-lm's functions, of the same parameters, which it shares.

    Nothing else is taken over: all parameters are trainable, and gates are as trained.
    """
    check_type("model", model, Titans)
    if isinstance(model, Model):
        return model
    with random_state_kept():
        wrapped = Model(ModelArgs(titans=model.config))
    wrapped.update(model.parameters())
    wrapped.train(model.training)
    return wrapped
