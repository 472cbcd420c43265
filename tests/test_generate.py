"""Generation: greedy is the argmax, sampling is mlx-lm's and repeatable, rows and caches are what they should be."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from models import EVERY, SEGMENT, VOCAB, build, uniform

from titans_mlx import Titans
from titans_mlx.lm import generate

each = pytest.mark.parametrize("name", EVERY)


def greedy_by_hand(model: Titans, prompt: mx.array, count: int) -> mx.array:
    """Every id from a full forward pass over everything so far."""
    tokens = prompt
    for _ in range(count):
        chosen = mx.argmax(model(tokens)[:, -1], axis=-1, keepdims=True)
        tokens = mx.concatenate([tokens, chosen.astype(tokens.dtype)], axis=1)
    return tokens[:, prompt.shape[1] :]


@each
@pytest.mark.parametrize("length", [1, SEGMENT - 3, SEGMENT, 2 * SEGMENT + 5])
def test_greedy_is_the_argmax(name: str, length: int) -> None:
    model, prompt = build(name), uniform(2, length)
    new = generate(model, prompt, 6)
    assert new.dtype == mx.int32
    assert new.tolist() == greedy_by_hand(model, prompt, 6).tolist()


@each
def test_a_batch_is_its_rows(name: str) -> None:
    model, prompt = build(name), uniform(3, SEGMENT + 5)
    together = generate(model, prompt, 8).tolist()
    assert together == [generate(model, prompt[row : row + 1], 8).tolist()[0] for row in range(3)]


@each
def test_a_cache_continues(name: str) -> None:
    model, prompt = build(name), uniform(2, SEGMENT + 5)
    whole = generate(model, prompt, 12)
    cache = model.make_cache()
    first = generate(model, prompt, 5, cache=cache)
    rest = generate(model, first[:, -1:], 7, cache=cache)
    assert mx.concatenate([first, rest], axis=1).tolist() == whole.tolist()


def test_a_prompt_may_be_read_beforehand() -> None:
    model, prompt = build("mac-deep"), uniform(2, SEGMENT + 5)
    cache = model.make_cache()
    model(prompt[:, :13], cache)
    assert generate(model, prompt[:, 13:], 6, cache=cache).tolist() == generate(model, prompt, 6).tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (mx.array([0, VOCAB]), rf"sampler's ids must be 2 integers in \[0, {VOCAB}\), got int32 \[0, {VOCAB}\]"),
        (mx.array([0, -1]), r"sampler's ids .* got int32 \[0, -1\]"),
        (mx.array([0]), r"sampler's ids must be 2 integers .* got int32 \[0\]"),
        (mx.array([0.0, 1.0]), "sampler's ids must be 2 integers .* got float32"),
        (mx.array(0), r"sampler's ids must have 1 axes \(B,\), got shape \(\)"),
        (None, r"sampler's ids must be an mx.array \(B,\), got NoneType"),
    ],
)
def test_a_sampler_that_gives_no_ids_is_named(given: Any, message: str) -> None:
    steps = build("lmm-online").generate_step(uniform(2, 5), sampler=lambda _: given)
    with pytest.raises(ValueError, match=message):
        next(steps)


def test_sampling_repeats_with_the_seed() -> None:
    model, prompt = build("mag-deep"), uniform(4, 9)
    first = generate(model, prompt, 16, temperature=1.0, seed=3).tolist()
    assert generate(model, prompt, 16, temperature=1.0, seed=3).tolist() == first
    assert generate(model, prompt, 16, temperature=1.0, seed=4).tolist() != first
    mx.random.seed(3)
    assert generate(model, prompt, 16, temperature=1.0).tolist() == first


def draws(model: Titans, **options: Any) -> tuple[mx.array, set[int]]:
    """Probabilities of the next id after one token, and the ids that 2,000 draws give."""
    prompt = mx.zeros((2000, 1), dtype=mx.int32)
    probabilities = mx.softmax(model(prompt[:1])[0, -1])
    return probabilities, set(generate(model, prompt, 1, seed=0, **options)[:, 0].tolist())


def test_temperature_alone_reaches_every_id() -> None:
    _, drawn = draws(build("lmm-online"), temperature=1.0)
    assert drawn == set(range(VOCAB))


def test_frequencies_are_the_probabilities() -> None:
    model, count = build("lmm-online"), 20_000
    prompt = mx.zeros((count, 1), dtype=mx.int32)
    for temperature in (0.5, 1.0, 2.0):
        wanted = mx.softmax(model(prompt[:1])[0, -1] / temperature)
        ids = generate(model, prompt, 1, temperature=temperature, seed=0)[:, 0]
        given = (ids[:, None] == mx.arange(VOCAB)).mean(0)
        assert mx.abs(given - wanted).max().item() < 4 * (0.25 / count) ** 0.5


def test_top_k_keeps_the_most_probable() -> None:
    probabilities, drawn = draws(build("lmm-online"), temperature=1.0, top_k=3)
    assert drawn == set(mx.argsort(-probabilities)[:3].tolist())


def test_top_k_of_everything_keeps_everything() -> None:
    assert draws(build("lmm-online"), temperature=1.0, top_k=VOCAB)[1] == set(range(VOCAB))


def test_top_p_keeps_the_smallest_set_with_that_share() -> None:
    probabilities, drawn = draws(build("lmm-online"), temperature=1.0, top_p=0.5)
    order = mx.argsort(-probabilities)
    before = mx.cumsum(probabilities[order], inclusive=False)
    assert drawn == set(order[: int((before < 0.5).sum())].tolist())
    assert 0 < len(drawn) < VOCAB


def test_min_p_is_relative_to_the_most_probable() -> None:
    probabilities, drawn = draws(build("lmm-online"), temperature=1.0, min_p=0.5)
    kept = probabilities >= 0.5 * probabilities.max()
    assert drawn == {id for id in range(VOCAB) if kept[id].item()}
    assert 0 < len(drawn) < VOCAB


def test_filters_do_nothing_when_greedy() -> None:
    model, prompt = build("lmm-online"), uniform(2, 9)
    assert generate(model, prompt, 4, top_p=0.1, min_p=0.5, top_k=2).tolist() == generate(model, prompt, 4).tolist()


def test_stop_ends_a_row_and_the_call() -> None:
    model, prompt = build("mag-online"), uniform(3, 9)
    free = generate(model, prompt, 10).tolist()
    ends = {free[0][2], free[1][4]}
    new = generate(model, prompt, 10, stop=ends).tolist()
    first = [next((i for i, id in enumerate(row) if id in ends), 9) for row in free]
    assert len(new[0]) == max(first) + 1
    for row, free_row, end in zip(new, free, first, strict=True):
        assert row[: end + 1] == free_row[: end + 1]
        assert set(row[end:]) == {free_row[end]}


def test_stop_leaves_a_cache_of_what_was_returned() -> None:
    """A row that waits for the others has read its repeated stop id, as returned."""
    model, prompt = build("mag-online"), uniform(3, 9)
    free = generate(model, prompt, 10).tolist()
    cache, whole = model.make_cache(), model.make_cache()
    new = generate(model, prompt, 10, stop=[free[0][1]], cache=cache)
    model(mx.concatenate([prompt, new[:, :-1]], axis=1), whole)
    last = new[:, -1:]
    assert mx.allclose(model(last, cache), model(last, whole), atol=1e-5).item()


def test_stop_ids_may_be_of_any_integer_type() -> None:
    model, prompt = build("mag-online"), uniform(2, 9)
    end = generate(model, prompt, 4)[0, 1].item()
    assert generate(model, prompt, 4, stop=np.array([end])).tolist() == generate(model, prompt, 4, stop=[end]).tolist()


def test_a_refused_call_draws_no_random_numbers() -> None:
    model = build("lmm-online")
    for wrong in ({"prompt": mx.full((1, 3), VOCAB)}, {"prompt": uniform(1, 3) * 0, "cache": [None]}):
        before = mx.random.state[0].tolist()
        with pytest.raises(ValueError, match=r"^(prompt|cache) must"):
            generate(model, **wrong, max_tokens=2, temperature=1.0, seed=3)
        assert mx.random.state[0].tolist() == before


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("max_tokens", {"max_tokens": 0}),
        ("max_tokens", {"max_tokens": 1.5}),
        ("temperature", {"temperature": -0.1}),
        ("temperature", {"temperature": float("nan")}),
        ("temperature", {"temperature": float("inf")}),
        ("temperature", {"temperature": 1e-9}),
        ("top_p", {"top_p": 1.1}),
        ("top_p", {"top_p": -0.1}),
        ("min_p", {"min_p": 1.1}),
        ("min_p", {"min_p": "0.1"}),
        ("top_k", {"top_k": -1}),
        ("top_k", {"top_k": VOCAB + 1}),
        ("top_k", {"top_k": 1.0}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 0.5}),
        ("seed", {"seed": 2**64}),
        ("stop", {"stop": 3}),
        ("stop", {"stop": [VOCAB]}),
        ("stop", {"stop": [-1]}),
        ("prompt", {"prompt": mx.zeros((3,), dtype=mx.int32)}),
        ("prompt", {"prompt": mx.zeros((1, 3))}),
        ("prompt", {"prompt": mx.zeros((1, 0), dtype=mx.int32)}),
        ("prompt", {"prompt": mx.full((1, 3), VOCAB, dtype=mx.int32)}),
        ("cache", {"cache": []}),
    ],
)
def test_bad_arguments_are_named(name: str, options: dict[str, Any]) -> None:
    arguments = {"prompt": mx.zeros((1, 3), dtype=mx.int32), "max_tokens": 2, **options}
    with pytest.raises(ValueError, match=f"^{name} must"):
        generate(build("lmm-online"), **arguments)
