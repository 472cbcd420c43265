"""Properties of every model that need no training; the number in a test's name is the property's row.

Rows: 1 causal, 3 rows independent, 4 split anywhere, 5 decode = forward, 6 written once, 7 everything learns, 8 pure.
"""

import itertools
import random

import mlx.core as mx
import mlx.nn as nn
import models
import pytest
from mlx.utils import tree_flatten, tree_map
from models import EVERY, SEGMENT, VOCAB, WITH_MEMORY, build, distance, largest, tree_distance, uniform

from titans_mlx import Titans

LENGTH = 3 * SEGMENT + 7


def tolerance(name: str) -> float:
    """Of float32; five Newton-Schulz steps enlarge the rounding of a small direction up to 500-fold."""
    return 1e-4 if name in ("lmm-muon", "lmm-atlas") else 1e-5


each = pytest.mark.parametrize("name", EVERY)


def random_cuts(seed: int, length: int = LENGTH) -> list[tuple[int, int]]:
    """A sequence in pieces of random lengths, two of one token among them, unaligned with segment and chunk."""
    marks = set(random.Random(seed).sample(range(3, length - 3), 4))
    marks |= {1, length - 1}
    return list(itertools.pairwise([0, *sorted(marks), length]))


def in_pieces(model: Titans, tokens: mx.array, cuts: list[tuple[int, int]]) -> tuple[mx.array, list]:
    """Logits and cache of ``tokens`` read in several calls."""
    cache = model.make_cache()
    logits = mx.concatenate([model(tokens[:, start:stop], cache) for start, stop in cuts], axis=1)
    return logits, cache


def next_token_loss(logits: mx.array, tokens: mx.array) -> mx.array:
    """Mean cross-entropy of predicting each next token."""
    return nn.losses.cross_entropy(logits[:, :-1], tokens[:, 1:], reduction="mean")


@each
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_01_causal(name: str, training: bool) -> None:
    model = build(name).train(training)
    # Row r of the batch has its token r changed; the last row is the sequence itself.
    tokens = mx.repeat(uniform(1, LENGTH), LENGTH + 1, axis=0)
    changed = mx.eye(LENGTH + 1, LENGTH, dtype=tokens.dtype)
    logits = model((tokens + changed) % VOCAB)
    moved = mx.abs(logits[:-1] - logits[-1:]).max(-1)
    earlier = mx.arange(LENGTH)[None, :] < mx.arange(LENGTH)[:, None]
    assert largest(mx.where(earlier, moved, 0)) <= 1e-6
    assert mx.diagonal(moved).min().item() > 1e-3


@each
def test_01_causal_gradient(name: str) -> None:
    """What one output owes to the input: nothing to later tokens, something to its own."""
    model = build(name)
    x = mx.random.normal((1, LENGTH, model.config.dim))
    weight = mx.random.normal((model.config.dim,))

    def output(x: mx.array, at: int) -> mx.array:
        for layer in model.layers:
            x, _ = layer(x)
        return (x[0, at] * weight).sum()

    for at in (0, SEGMENT - 1, SEGMENT + 3, LENGTH - 2):
        gradient = mx.abs(mx.grad(output)(x, at)).max(-1)[0]
        assert largest(gradient[at + 1 :]) == 0
        assert gradient[at].item() > 1e-3


@each
def test_03_rows_are_independent(name: str) -> None:
    model, tokens = build(name), uniform(3, LENGTH)
    together, cache = in_pieces(model, tokens, [(0, 33), (33, LENGTH)])
    for row in range(3):
        alone, alone_cache = in_pieces(model, tokens[row : row + 1], [(0, 33), (33, LENGTH)])
        assert distance(alone, together[row : row + 1]) <= tolerance(name)
        kept = tree_map(lambda leaf, row=row: leaf[row : row + 1] if isinstance(leaf, mx.array) else leaf, cache)
        assert tree_distance(alone_cache, kept) <= tolerance(name)


@each
def test_03_rows_do_not_touch(name: str) -> None:
    """With the shapes unchanged, other rows change nothing at all, neither directly nor through a carried state."""
    model, tokens = build(name), uniform(3, LENGTH)
    others = mx.concatenate([tokens[:1], mx.zeros((2, LENGTH), dtype=tokens.dtype)])
    cuts = [(0, 33), (33, LENGTH)]
    assert mx.array_equal(in_pieces(model, tokens, cuts)[0][0], in_pieces(model, others, cuts)[0][0])


@each
def test_03_rows_are_independent_in_generation(name: str) -> None:
    model, prompt = build(name), uniform(3, SEGMENT + 5)
    together = list(itertools.islice(model.generate_step(prompt), 8))
    for row in range(3):
        alone = itertools.islice(model.generate_step(prompt[row : row + 1]), 8)
        for (ids, log_probs), (row_ids, row_log_probs) in zip(together, alone, strict=True):
            assert distance(row_log_probs[0], log_probs[row]) <= tolerance(name)
            assert ids[row].item() == row_ids[0].item()


@each
@pytest.mark.parametrize("seed", range(3))
def test_04_split_anywhere(name: str, seed: int) -> None:
    model, tokens = build(name), uniform(2, LENGTH)
    whole_cache = model.make_cache()
    whole = model(tokens, whole_cache)
    pieces, cache = in_pieces(model, tokens, random_cuts(seed))
    assert distance(whole, pieces) <= tolerance(name)
    assert tree_distance(whole_cache, cache) <= tolerance(name)


@each
def test_04_split_anywhere_gradients(name: str) -> None:
    model, tokens = build(name), uniform(2, LENGTH)

    def in_one(model: Titans) -> mx.array:
        return next_token_loss(model(tokens), tokens)

    def in_several(model: Titans) -> mx.array:
        return next_token_loss(in_pieces(model, tokens, random_cuts(3))[0], tokens)

    loss, gradients = nn.value_and_grad(model, in_one)(model)
    other_loss, other_gradients = nn.value_and_grad(model, in_several)(model)
    assert distance(loss, other_loss) <= tolerance(name)
    for (path, gradient), (_, other) in zip(tree_flatten(gradients), tree_flatten(other_gradients), strict=True):
        assert largest(gradient - other) <= 10 * tolerance(name) * largest(gradient), path


@each
@pytest.mark.parametrize(
    ("prompt", "steps"),
    [(1, LENGTH - 1), (SEGMENT // 2, 4), (SEGMENT, 4), (SEGMENT + 9, 14), (2 * SEGMENT, 4), (3 * SEGMENT, 7)],
)
def test_05_decode_equals_forward(name: str, prompt: int, steps: int) -> None:
    model, tokens = build(name), uniform(1, prompt + steps)
    forward = model(tokens)
    cache = model.make_cache()
    assert distance(forward[:, :prompt], model(tokens[:, :prompt], cache)) <= tolerance(name)
    for at in range(prompt, prompt + steps):
        step = model(tokens[:, at : at + 1], cache)
        assert distance(forward[:, at : at + 1], step) <= tolerance(name), at


@each
def test_06_written_once(name: str) -> None:
    """Prompt and generated tokens leave the state that one pass over them leaves."""
    model, prompt = build(name), uniform(2, SEGMENT + 3)
    cache, whole_cache = model.make_cache(), model.make_cache()
    ids = [ids for ids, _ in itertools.islice(model.generate_step(prompt, cache), 12)]
    # The last of the ids has been chosen, not read.
    model(mx.concatenate([prompt, mx.stack(ids[:-1], axis=1)], axis=1), whole_cache)
    assert tree_distance(whole_cache, cache) <= tolerance(name)


def first_token_effect(model: Titans, length: int) -> float:
    """How far the first generated log-probabilities move when the first prompt token changes."""
    prompt = uniform(1, length)
    other = mx.concatenate([(prompt[:, :1] + 1) % VOCAB, prompt[:, 1:]], axis=1)
    (_, a), (_, b) = (next(model.generate_step(p)) for p in (prompt, other))
    return largest(a - b)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_06_memory_carries_the_prompt(name: str) -> None:
    """The last prompt token is beyond the reach of convolutions, windows and segments: memory is the only path."""
    assert first_token_effect(build(name), LENGTH) > 1e-3


def test_06_nothing_else_carries_the_prompt() -> None:
    """The same distance without a memory: exactly nothing arrives, so the test above measures the memory."""
    assert first_token_effect(build("sliding_window"), LENGTH) == 0


@each
def test_07_everything_learns(name: str) -> None:
    """Every entry of every parameter has an outer gradient, not only every array."""
    model, tokens = build(name), uniform(4, LENGTH)
    gradients = nn.value_and_grad(model, lambda model: next_token_loss(model(tokens), tokens))(model)[1]
    trained = dict(tree_flatten(gradients))
    assert trained.keys() == dict(tree_flatten(model.parameters())).keys()
    for path, gradient in trained.items():
        assert mx.isfinite(gradient).all().item(), path
        assert (gradient != 0).all().item(), path


@each
def test_07_each_group_of_parameters_is_there(name: str) -> None:
    """So that the test above cannot pass by a parameter having gone missing."""
    paths = [path for path, _ in tree_flatten(build(name).trainable_parameters())]
    wanted = [] if name.endswith("periods") else ["persistent"]
    wanted += {
        "gla": ["decay_rank_gate", "channel_decay_gate"],
        "channels": ["decay_rank_gate", "channel_decay_gate"],
        "huber": ["threshold_gate"],
        "atlas": ["share_gate"],
    }.get(name.split("-")[-1], [])
    if name in WITH_MEMORY:
        wanted += ["initial_weights", "q_proj", "k_proj", "v_proj", "q_conv", "k_conv", "v_conv"]
    if name in WITH_MEMORY and name != "retnet":
        wanted += ["decay_gate", "momentum_gate", "step_gate"]
    if name.endswith("conv"):
        wanted += ["attention.q_conv", "attention.k_conv", "attention.v_conv"]
    if name.endswith("deep"):
        wanted += ["norm_gain", "norm_bias"]
    assert [group for group in wanted if not any(group in path for path in paths)] == []


@each
def test_08_pure(name: str) -> None:
    model, tokens = build(name), uniform(2, LENGTH)
    before = tree_map(mx.array, model.parameters())
    cache = model.make_cache()
    model(tokens[:, :33], cache)
    carried = list(cache)
    snapshot = tree_map(lambda leaf: mx.array(leaf) if isinstance(leaf, mx.array) else leaf, carried)
    mx.eval(before, snapshot)
    runs = []
    for _ in range(2):
        again = list(carried)
        runs.append((model(tokens), model(tokens[:, 33:], again), again))
    nn.value_and_grad(model, lambda model: next_token_loss(model(tokens), tokens))(model)
    list(itertools.islice(model.generate_step(tokens, list(carried)), 3))
    assert mx.array_equal(runs[0][0], runs[1][0])
    assert mx.array_equal(runs[0][1], runs[1][1])
    assert tree_distance(runs[0][2], runs[1][2]) == 0
    assert tree_distance(carried, snapshot) == 0
    assert tree_distance(model.parameters(), before) == 0


def test_every_variant_is_built() -> None:
    variants = {models.config(name).variant for name in EVERY}
    assert variants == {"lmm", "mac", "mag", "mal", "transformer", "sliding_window"}
