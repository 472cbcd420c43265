"""Under mlx-lm's caches a model says what it says alone, however prompts are cut, padded, batched and stored."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.generate import BatchGenerator, batch_generate, generate_step
from mlx_lm.models import cache as mlx_lm_cache

from titans_mlx import Titans
from titans_mlx.lm import as_model, from_pretrained
from titans_mlx.lm.model import Model

from .conftest import MODELS, TEXT, config_of, ids_of

PROMPTS = ("the cat sat on the mat, and the d", "on the", "dog sat on the log. the c")
GetModel = Callable[[str], Titans]


def said(model: Model, prompt: str, count: int = 12, **options: object) -> list[int]:
    steps = generate_step(mx.array(ids_of(prompt)), model, max_tokens=count, **options)
    return [token for token, _ in steps]


def alone(model: Titans, prompt: str, count: int = 12) -> list[int]:
    steps = model.generate_step(mx.array([ids_of(prompt)]), [None] * len(model.layers))
    return [ids.item() for ids, _ in islice(steps, count)]


def test_a_model_made_for_mlx_lm_moves_no_random_state(model_of: GetModel) -> None:
    model = model_of("mac")
    mx.random.seed(5)
    drawn = mx.random.normal((3,))
    mx.random.seed(5)
    as_model(model)
    assert mx.array_equal(mx.random.normal((3,)), drawn)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [1, 5, 512, 2048])
def test_prompts_cut_anywhere_give_the_same_tokens(model_of: GetModel, name: str, size: int) -> None:
    model = as_model(model_of(name))
    assert said(model, PROMPTS[0], prefill_step_size=size) == alone(model, PROMPTS[0])


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_without_a_cache(model_of: GetModel, name: str) -> None:
    model = as_model(model_of(name))
    tokens = mx.array([ids_of(PROMPTS[0])])
    cache, pieces = model.make_cache(), []
    for first in range(0, tokens.shape[1], 7):
        pieces.append(model(tokens[:, first : first + 7], cache=cache))
    assert mx.allclose(mx.concatenate(pieces, axis=1), model(tokens), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [3, 2048])
def test_a_batch_says_what_each_row_says(model_of: GetModel, folder_of: Callable, name: str, size: int) -> None:
    model, tokenizer = from_pretrained(folder_of(name))
    prompts = [ids_of(prompt) for prompt in (*PROMPTS, "t")]
    answers = batch_generate(model, tokenizer, prompts, max_tokens=12, return_token_ids=True, prefill_step_size=size)
    assert answers.token_ids == [alone(model, prompt) for prompt in (*PROMPTS, "t")]


@pytest.mark.parametrize("name", ["lmm", "mac", "mag", "mal", "transformer"])
def test_32_requests_in_batches_are_bit_for_bit_what_each_is_alone(model_of: GetModel, name: str) -> None:
    model = as_model(model_of(name))
    model.rows_alone = True
    prompts = [ids_of(TEXT[first : first + 9 + first % 7]) for first in range(32)]
    generator = BatchGenerator(model, max_tokens=6, completion_batch_size=12, prefill_batch_size=5, prefill_step_size=4)
    rows = generator.insert(prompts)
    found: dict[int, list[mx.array]] = {row: [] for row in rows}
    while responses := generator.next_generated():
        for response in responses:
            found[response.uid].append(response.logprobs)
    for row, prompt in zip(rows, prompts, strict=True):
        alone = generate_step(mx.array(prompt), model, max_tokens=6, prefill_step_size=4)
        for together, (_, own) in zip(found[row], alone, strict=True):
            assert mx.array_equal(together, own)


@pytest.mark.parametrize("name", MODELS)
def test_rows_padded_on_the_right_absorb_their_real_tokens_only(model_of: GetModel, name: str) -> None:
    """As mlx-lm does it: merge, prepare, prompt in pieces, finalize, extract."""
    model = as_model(model_of(name))
    prompts = [ids_of(prompt) for prompt in PROMPTS]
    before = [ids_of("so "), ids_of("a"), []]
    rows = []
    for ids in before:
        rows.append(model.make_cache())
        if ids:
            model(mx.array([ids]), cache=rows[-1])
    merged = [type(parts[0]).merge(list(parts)) for parts in zip(*rows, strict=True)]
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    for layer in merged:
        layer.prepare(lengths=[len(prompt) for prompt in prompts], right_padding=padding)
    tokens = mx.array([prompt + [0] * pad for prompt, pad in zip(prompts, padding, strict=True)])
    for first in range(0, longest, 10):
        model(tokens[:, first : first + 10], cache=merged)
    for layer in merged:
        layer.finalize()
    last = mx.array([[ids_of("e")[0]]] * 3)
    together = model(last, cache=merged)
    for row, (ids, prompt) in enumerate(zip(before, prompts, strict=True)):
        own = model.make_cache()
        model(mx.array([ids + prompt]), cache=own)
        expected = model(last[:1], cache=own)
        assert mx.allclose(together[row], expected[0], rtol=1e-4, atol=2e-5)
        extracted = [layer.extract(row) for layer in merged]
        assert mx.allclose(model(last[:1], cache=extracted), model(last[:1], cache=own), rtol=1e-4, atol=2e-5)


def test_a_window_of_one_token_is_stored_too(tmp_path) -> None:
    check_stored_cache(as_model(Titans(config_of("sliding_window", window_size=1))), tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_a_stored_cache_goes_on(model_of: GetModel, name: str, tmp_path) -> None:
    check_stored_cache(as_model(model_of(name)), tmp_path)


def check_stored_cache(model: Model, tmp_path: Path) -> None:
    tokens = mx.array([ids_of(PROMPTS[0])])
    cache = model.make_cache()
    model(tokens[:, :21], cache=cache)
    mlx_lm_cache.save_prompt_cache(str(tmp_path / "cache.safetensors"), cache)
    loaded = mlx_lm_cache.load_prompt_cache(str(tmp_path / "cache.safetensors"))
    assert mx.array_equal(model(tokens[:, 21:], cache=loaded), model(tokens[:, 21:], cache=cache))


@pytest.mark.parametrize("name", MODELS)
def test_shapes_and_bytes_do_not_grow(model_of: GetModel, name: str) -> None:
    model = as_model(model_of(name))
    cache, sizes = model.make_cache(), []
    for _ in range(3):
        model(mx.array([ids_of(PROMPTS[0])]), cache=cache)
        sizes.append(sum(layer.nbytes for layer in cache))
    grows = name.startswith("transformer")
    # A KVCache grows by 256 tokens at a time.
    assert len(set(sizes)) == 1 and (not grows or sizes[0] > 0)


def test_both_kinds_of_cache_are_taken_and_told_apart(model_of: GetModel) -> None:
    model = as_model(model_of("mac"))
    tokens = mx.array([ids_of(PROMPTS[1])])
    states, cache = [None] * 2, model.make_cache()
    assert mx.allclose(model(tokens, states), model(tokens, cache), atol=1e-6)
    with pytest.raises(ValueError, match="cache must have an entry for each of 2 layers, got 1"):
        model.read(tokens, cache[:1])
