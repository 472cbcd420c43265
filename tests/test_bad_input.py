"""Bad input to a model: a ValueError that names the argument and its value, and a cache that is as it was."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from models import EVERY, SEGMENT, VOCAB, WINDOW, build, uniform

from titans_mlx import MemoryConfig, Titans, TitansConfig
from titans_mlx.memory import recipes
from titans_mlx.model import Cache

each = pytest.mark.parametrize("name", EVERY)

BAD_TOKENS = {
    "one row without a batch": (mx.zeros((5,), dtype=mx.int32), r"2 axes \(B, T\), got shape \(5,\)"),
    "embeddings": (mx.zeros((1, 5, 16)), r"2 axes \(B, T\), got shape \(1, 5, 16\)"),
    "a list": ([[1, 2]], "mx.array .*got list"),
    "floats": (mx.zeros((1, 5)), "integer dtype, got .*float32"),
    "bools": (mx.zeros((1, 5), dtype=mx.bool_), "integer dtype, got .*bool"),
    "no token": (mx.zeros((1, 0), dtype=mx.int32), r"got shape \(1, 0\)"),
    "no row": (mx.zeros((0, 5), dtype=mx.int32), r"got shape \(0, 5\)"),
    "an id below 0": (mx.array([[3, -1]]), rf"\[0, {VOCAB}\), got ids from -1 to 3"),
    "an id of vocab_size": (mx.array([[3, VOCAB]]), rf"\[0, {VOCAB}\), got ids from 3 to {VOCAB}"),
}


def refused(model: Titans, tokens: Any, cache: Any, message: str) -> None:
    """The call raises, and ``cache`` holds the very same states, in the same order, as before."""
    before = list(cache) if isinstance(cache, list) else None
    with pytest.raises(ValueError, match=message):
        mx.eval(model(tokens, cache))
    if before is not None:
        assert len(cache) == len(before)
        assert all(now is then for now, then in zip(cache, before, strict=True))


def read(model: Titans, batch: int = 2, length: int = SEGMENT + 5) -> Cache:
    """A cache after ``length`` tokens."""
    cache = model.make_cache()
    mx.eval(model(uniform(batch, length), cache), cache)
    return cache


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_tokens(case: str) -> None:
    model = build("mac-deep")
    tokens, message = BAD_TOKENS[case]
    refused(model, tokens, None, f"^tokens must .*{message}")
    refused(model, tokens, model.make_cache(), f"^tokens must .*{message}")
    refused(model, tokens, read(model, batch=1), f"^tokens must .*{message}")


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_prompt(case: str) -> None:
    prompt, message = BAD_TOKENS[case]
    with pytest.raises(ValueError, match=f"^prompt must .*{message}"):
        build("lmm-online").generate_step(prompt)


@each
def test_one_token(name: str) -> None:
    """The shortest input is not a bad one."""
    logits = build(name)(uniform(2, 1))
    assert logits.shape == (2, 1, VOCAB)
    assert mx.isfinite(logits).all().item()


@each
@pytest.mark.parametrize("dtype", [mx.uint8, mx.int64, mx.uint32])
def test_every_integer_dtype(name: str, dtype: mx.Dtype) -> None:
    model, tokens = build(name), uniform(1, 5)
    assert mx.array_equal(model(tokens.astype(dtype)), model(tokens))


@each
@pytest.mark.parametrize("missing", [0, 1])
def test_cache_with_a_state_missing(name: str, missing: int) -> None:
    model = build(name)
    cache = read(model)
    cache[missing] = None
    refused(model, uniform(2, 5), cache, f"^cache must have a state for every block or for none, got None at {missing}")


@each
@pytest.mark.parametrize("cache", [[], [None], [None] * 3, (None, None), {}, "cache"], ids=repr)
def test_cache_of_wrong_form(name: str, cache: Any) -> None:
    refused(build(name), uniform(1, 5), cache, "^cache must be a list of 2 block states")


@each
def test_cache_of_another_batch(name: str) -> None:
    model = build(name)
    refused(model, uniform(3, 5), read(model, batch=2), r"^cache\[0\]\S* must .*3.*got .*2")


SAME_STATE = (
    {"lmm-deep", "lmm-channels", "lmm-muon", "lmm-periods", "lmm-birth"},
    {"lmm-online", "lmm-faded"},
    {"mac-deep", "mac-birth"},
    {"lmm-huber", "lmm-moneta", "lmm-memora"},
    {"mac-huber", "mac-moneta"},
    {"mag-deep", "mag-periods"},
)
"""Memories that carry the same arrays and differ in what they do with them: no state tells whose it is."""


@each
@pytest.mark.parametrize("other", EVERY)
def test_cache_of_another_model(name: str, other: str) -> None:
    """Another variant, or the same with another memory; the baselines share a state while the window is not full."""
    if name == other or any({name, other} <= alike for alike in SAME_STATE):
        return
    refused(build(name), uniform(2, 5), read(build(other)), r"^cache\[0\]\S* must ")


@pytest.mark.parametrize("place", [0, 1])
def test_cache_with_one_strange_state(place: int) -> None:
    """Nothing has been replaced when the second layer's state is refused."""
    model = build("mag-deep")
    cache = read(model)
    cache[place] = read(build("lmm-deep"))[place]
    refused(model, uniform(2, 5), cache, rf"^cache\[{place}\] must be a MAGState, got MemoryState")


MIXED: dict[str, tuple[str, Callable[[Any, Any], Any], str]] = {
    "mag, memory behind": ("mag-deep", lambda state, later: later._replace(memory=state.memory), "equally many tokens"),
    "mal, attention behind": (
        "mal-online",
        lambda state, later: later._replace(attention=state.attention),
        "equally many tokens",
    ),
    "mac, memory behind": ("mac-deep", lambda state, later: later._replace(memory=state.memory), "equally many tokens"),
    "mac, weights before of one row": (
        "mac-deep",
        lambda _, later: later._replace(before=tuple(w[:1] for w in later.before)),
        r"before and \S+ must have the batch size",
    ),
    "mac, weights before in half precision": (
        "mac-online",
        lambda _, later: later._replace(before=tuple(w.astype(mx.float16) for w in later.before)),
        r"before and \S+ must come from this configuration",
    ),
    "mac, a tail of one row": (
        "mac-deep",
        lambda _, later: later._replace(query_tail=later.query_tail[:1]),
        r"query_tail must have the batch size",
    ),
    "mac, an offset of text": (
        "mac-deep",
        lambda _, later: later._replace(offset="5"),
        r"offset must be an integer >= 0, got '5'",
    ),
    "mac, no tail": ("mac-deep", lambda _, later: later._replace(query_tail=None), "query_tail must come from"),
}


@pytest.mark.parametrize("case", MIXED)
def test_cache_of_two_moments_or_half_a_batch(case: str) -> None:
    name, change, message = MIXED[case]
    model = build(name)
    cache = read(model, length=5)
    earlier = list(cache)
    mx.eval(model(uniform(2, 3), cache), cache)
    cache[1] = change(earlier[1], cache[1])
    refused(model, uniform(2, 5), cache, rf"^cache\[1\].*{message}")


CONFIGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"dim": 32}) for name in EVERY),
    *((name, {"num_heads": 4}) for name in EVERY if name != "retnet"),
    *((name, {"window_size": WINDOW - 2}) for name in ("mag-deep", "mal-deep", "sliding_window")),
    *((name, {"window_size": WINDOW + 2}) for name in ("mag-deep", "mal-deep", "sliding_window")),
    ("mac-deep", {"segment_size": SEGMENT - 2}),
    ("mac-deep", {"segment_size": SEGMENT + 2}),
    ("mac-online", {"segment_size": SEGMENT + 10}),
    ("lmm-deep", {"memory": recipes.titans(depth=3)}),
    ("lmm-deep", {"memory": recipes.titans(expansion=2)}),
    ("lmm-deep", {"memory": recipes.titans(momentum="none")}),
    ("lmm-deep", {"memory": recipes.titans(conv_size=0)}),
    ("mac-deep", {"memory": recipes.titans(conv_size=2)}),
    ("mag-deep", {"memory": recipes.titans(depth=1)}),
    ("mal-online", {"memory": recipes.deltanet()}),
    *((name, {"attention_conv_size": 3}) for name in ("mag-deep", "mal-deep", "transformer", "sliding_window")),
    *((name, {"attention_conv_size": 0}) for name in ("mal-online-conv", "transformer-conv")),
    *((name, {"attention_conv_size": 3}) for name in ("mal-online-conv", "transformer-conv")),
]


@pytest.mark.parametrize(("name", "changes"), CONFIGS, ids=lambda value: str(value)[:40])
def test_cache_of_another_config(name: str, changes: dict[str, Any]) -> None:
    refused(build(name), uniform(2, 5), read(build(name, **changes)), r"^cache\[0\]\S* must ")


def test_a_cache_that_is_no_list_of_states() -> None:
    model = build("mac-deep")
    refused(model, uniform(1, 3), (None, None), "^cache must be a list of 2 block states.*got tuple")
    refused(model, uniform(1, 3), [None], "^cache must be a list of 2 block states.*got a list of 1")


def test_a_good_call_still_works_after_a_bad_one() -> None:
    model = build("mac-deep")
    tokens = uniform(2, SEGMENT + 9)
    cache = model.make_cache()
    model(tokens[:, :7], cache)
    refused(model, mx.full((2, 3), VOCAB), cache, "^tokens must")
    refused(model, uniform(1, 3), cache, "must")
    assert mx.allclose(model(tokens[:, 7:], cache), model(tokens)[:, 7:], atol=1e-5).item()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("variant", "titans"),
        ("variant", None),
        ("vocab_size", 1),
        *((field, value) for field in ("vocab_size", "dim", "num_layers", "num_heads") for value in (0, -1, 1.5, True)),
        *((field, value) for field in ("segment_size", "window_size") for value in (0, -1, 8.0, None)),
        *((field, value) for field in ("num_persistent", "mlp_hidden", "attention_conv_size") for value in (-1, 0.5)),
        ("num_heads", 3),
        ("rope_base", 1.0),
        ("rope_base", -1.0),
        ("rope_base", float("inf")),
        ("rope_base", float("nan")),
        ("rope_base", "1e4"),
        ("attention_conv_birth", "random"),
        ("tie_embeddings", 1),
        ("tie_embeddings", None),
        ("norm_eps", 0.0),
        ("norm_eps", 1.0),
        ("norm_eps", float("nan")),
        ("memory", None),
        ("memory", 3),
        ("memory", TitansConfig()),
    ],
)
def test_titans_config(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field} must") as error:
        TitansConfig(**{"dim": 16, "num_heads": 2, field: value})
    assert repr(value) in str(error.value) or str(value) in str(error.value)


@pytest.mark.parametrize("config", [None, {"dim": 16}, MemoryConfig()], ids=str)
def test_a_model_is_made_from_its_config(config: Any) -> None:
    with pytest.raises(ValueError, match=r"^config must be a TitansConfig, got"):
        Titans(config)


def test_odd_heads_have_no_rotary_positions() -> None:
    with pytest.raises(ValueError, match=r"^dim / num_heads must be even"):
        TitansConfig(dim=10, num_heads=2)
    assert TitansConfig(dim=10, num_heads=2, rope_base=None).rope_base is None
    assert TitansConfig(variant="lmm", dim=10, num_heads=2).dim == 10


def test_memory_field_is_validated_when_nested() -> None:
    with pytest.raises(ValueError, match=r"^chunk_size must be an integer >= 1, got 0"):
        TitansConfig.from_dict({"memory": {"chunk_size": 0}})
    assert TitansConfig.from_dict({"memory": {"depth": 3}}).memory == MemoryConfig(depth=3)
