"""Small models that the tests share: every variant, with the online matrix memory and with the deep one."""

import math
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from titans_mlx import MemoryConfig, Titans, TitansConfig
from titans_mlx.memory import recipes

VOCAB = 16
SEGMENT, WINDOW = 20, 12
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "dim": 16,
    "num_layers": 2,
    "num_heads": 2,
    "segment_size": SEGMENT,
    "window_size": WINDOW,
    "num_persistent": 3,
}

TITANS = ("lmm", "mac", "mag", "mal")
MEMORIES: dict[str, MemoryConfig] = {"online": recipes.titans_matrix(), "deep": recipes.titans()}
MIRAS: dict[str, MemoryConfig] = {
    "huber": recipes.yaad(),
    "gla": recipes.gla(),
    "channels": recipes.titans_channels(),
    "moneta": recipes.moneta(),
    "memora": recipes.memora(),
    "muon": recipes.titans(orthogonal_writes=True, step_init=0.02),
    "atlas": recipes.atlas(),
    "bare": recipes.titans(conv_size=0, step_init=0.02),
    "birth": recipes.titans(decay_to="birth"),
    "faded": recipes.titans_matrix(decay_to="birth", decay_init=0.05),
    "periods": recipes.titans(chunk_size=4, reset_every=12),
}
WITH_MEMORY = (*(f"{variant}-{memory}" for variant in TITANS for memory in MEMORIES), "retnet")
BASELINES = ("transformer", "sliding_window")
MIXED = ("mac-moneta", "mac-huber", "mac-birth", "mag-gla", "mag-periods", "mal-atlas")
OTHERS = (*(f"lmm-{name}" for name in MIRAS), *MIXED)
EVERY = (*WITH_MEMORY, *BASELINES, *OTHERS, "mal-online-conv", "mag-deep-conv-tied", "transformer-conv")
"""``variant[-memory][-conv][-tied]``: ``conv`` gives attention a short convolution, ``tied`` the head the embedding's
weights; ``retnet`` is an LMM."""


def config(name: str, **changes: Any) -> TitansConfig:
    """The configuration of one of ``EVERY``; ``changes`` replace fields of :class:`TitansConfig`."""
    variant, *options = name.split("-")
    chosen: dict[str, Any] = {"variant": variant}
    if variant == "retnet":
        chosen = {"variant": "lmm", "memory": recipes.retnet(changes.get("num_heads", SMALL["num_heads"]))}
    others: dict[str, dict[str, Any]] = {"conv": {"attention_conv_size": 4}, "tied": {"tie_embeddings": True}}
    for option in options:
        chosen |= others[option] if option in others else {"memory": {**MEMORIES, **MIRAS}[option]}
    if "periods" in options:
        chosen["num_persistent"] = 0
    return TitansConfig(**{**SMALL, **chosen, **changes})


def build(name: str, **changes: Any) -> Titans:
    """A model of one of ``EVERY``, from the random numbers of the moment."""
    return Titans(config(name, **changes))


def uniform(batch: int, length: int, vocab: int = VOCAB) -> mx.array:
    """Uniform random ids (batch, length)."""
    return mx.random.randint(0, vocab, (batch, length))


def largest(x: mx.array) -> float:
    """The largest magnitude in ``x``."""
    return mx.abs(x).max().item()


def distance(a: mx.array, b: mx.array) -> float:
    """Largest difference of two arrays, relative to their largest magnitude where that is above 1."""
    assert a.shape == b.shape and a.dtype == b.dtype
    return largest(a - b) / max(1.0, largest(a))


def tree_distance(a: Any, b: Any) -> float:
    """The largest :func:`distance` between the arrays of two trees whose other leaves are equal."""
    left, right = dict(tree_flatten(a)), dict(tree_flatten(b))
    assert left.keys() == right.keys()
    worst = 0.0
    for name, leaf in left.items():
        if isinstance(leaf, mx.array):
            found = distance(leaf, right[name])
            assert math.isfinite(found), (name, found)
            worst = max(worst, found)
        else:
            assert leaf == right[name], name
    return worst


def tree_bytes(tree: Any) -> int:
    """Bytes of every array in a tree, such as a cache."""
    return sum(leaf.nbytes for _, leaf in tree_flatten(tree) if isinstance(leaf, mx.array))
