"""The three attentions against a plain reference with explicit masks, and the properties they share."""

from functools import partial
from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from titans_mlx.attention import Attention

DIM, HEADS, WINDOW = 16, 2, 5
PATTERNS = ("full", "sliding", "segment")
EDGES = (1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 2 * WINDOW + 1, 3 * WINDOW - 1, 8 * WINDOW + 3)


def turn(x, positions, base):
    """Rotary positions from their definition, on (B, H, T, d)."""
    half = x.shape[-1] // 2
    angles = mx.array(positions)[:, None] * base ** (-mx.arange(half) / half)
    left, right = x[..., :half], x[..., half:]
    cos, sin = mx.cos(angles), mx.sin(angles)
    return mx.concatenate([left * cos - right * sin, left * sin + right * cos], axis=-1)


def visible(pattern, tokens, prefix, window):
    """Explicit (T, columns) mask over [persistent | x], or [persistent | h | x] for a segment."""
    row, column = np.arange(tokens)[:, None], np.arange(tokens)[None]
    seen = column <= row
    if pattern == "sliding":
        seen &= column > row - window
    parts = [np.ones((tokens, prefix), dtype=bool), seen]
    return np.concatenate([*parts, seen] if pattern == "segment" else parts, axis=1)


def reference(attention, pattern, inputs, window=WINDOW):
    """The whole sequence in plain operations: every score is formed, and what is hidden is set to -inf."""
    x, h, persistent = inputs["x"], inputs["h"], inputs.get("persistent")
    heads = attention.num_heads

    def project(linear, rows, turned):
        y = linear(rows).reshape(*rows.shape[:2], heads, -1).transpose(0, 2, 1, 3)
        turned = turned and attention.rope_base is not None
        return turn(y, np.arange(rows.shape[1]), attention.rope_base) if turned else y

    sources = [(h, True), (x, True)] if pattern == "segment" else [(x, True)]
    if persistent is not None:
        sources.insert(0, (mx.broadcast_to(persistent, (x.shape[0], *persistent.shape)), False))
    q = project(attention.q_proj, x, True)
    k = mx.concatenate([project(attention.k_proj, rows, turned) for rows, turned in sources], axis=2)
    v = mx.concatenate([project(attention.v_proj, rows, False) for rows, _ in sources], axis=2)
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]).item()
    if persistent is not None and pattern != "segment":
        # Persistent tokens have no position, nor has the query that meets them.
        count, plain = persistent.shape[0], project(attention.q_proj, x, False)
        met = plain @ k[:, :, :count].swapaxes(-1, -2) / np.sqrt(q.shape[-1]).item()
        scores = mx.concatenate([met, scores[..., count:]], axis=-1)
    mask = visible(pattern, x.shape[1], 0 if persistent is None else persistent.shape[0], window)
    y = mx.softmax(mx.where(mx.array(mask), scores, -mx.inf), axis=-1) @ v
    return attention.o_proj(y.transpose(0, 2, 1, 3).reshape(x.shape))


def attend(attention, pattern, inputs, cuts=(), state=None, window=WINDOW):
    """One call, or several chained through the state."""
    x, h, persistent = inputs["x"], inputs["h"], inputs.get("persistent")
    start = 0 if state is None else state.offset
    outputs = []
    bounds = [0, *cuts, x.shape[1]]
    for low, high in pairwise(bounds):
        piece = x[:, low:high]
        if pattern == "full":
            y, state = attention.full(piece, state, persistent=persistent)
        elif pattern == "sliding":
            y, state = attention.sliding(piece, state, window=window, persistent=persistent)
        else:
            size = start + x.shape[1]
            y, state = attention.segment(piece, h[:, low:high], state, segment_size=size, persistent=persistent)
        outputs.append(y)
    return mx.concatenate(outputs, axis=1), state


def make(tokens, *, batch=2, persistent=3, dtype=mx.float32, **options):
    attention = Attention(DIM, HEADS, **options)
    attention.set_dtype(dtype)
    inputs = {name: mx.random.normal((batch, tokens, DIM)).astype(dtype) for name in ("x", "h")}
    if persistent:
        inputs["persistent"] = mx.random.normal((persistent, DIM)).astype(dtype)
    mx.eval(attention.parameters(), inputs)
    return attention, inputs


def gradients(attention, inputs, forward):
    """Gradients of a random projection of the output, of every parameter and every input."""
    weight = mx.random.normal(inputs["x"].shape, key=mx.random.key(7))

    def loss(parameters, inputs):
        attention.update(parameters)
        return (forward(attention, inputs) * weight).sum()

    parameters = attention.trainable_parameters()
    grads = mx.grad(loss, argnums=(0, 1))(parameters, inputs)
    attention.update(parameters)
    return dict(tree_flatten(grads))


def random_cuts(rng, tokens):
    cuts = rng.choice(np.arange(1, tokens), size=rng.integers(1, tokens), replace=False)
    return sorted(cuts.tolist())


def assert_close(actual, expected, tolerance=2e-5):
    actual, expected = dict(tree_flatten(actual)), dict(tree_flatten(expected))
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, int):
            assert actual[name] == value, name
            continue
        assert actual[name].shape == value.shape, name
        error = mx.abs(actual[name] - value).max().item() if value.size else 0.0
        assert error <= tolerance * max(1.0, mx.abs(value).max().item() if value.size else 0.0), name


@pytest.mark.parametrize("tokens", EDGES)
@pytest.mark.parametrize("persistent", [0, 3])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_output_equals_reference(pattern, persistent, tokens):
    attention, inputs = make(tokens, persistent=persistent)
    assert_close(attend(attention, pattern, inputs)[0], reference(attention, pattern, inputs))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_output_equals_reference_without_positions(pattern):
    attention, inputs = make(3 * WINDOW + 2, rope_base=None)
    assert_close(attend(attention, pattern, inputs)[0], reference(attention, pattern, inputs))


@pytest.mark.parametrize("trial", range(12))
def test_any_window_any_cut_equals_reference(trial):
    rng = np.random.default_rng(trial)
    tokens, window = int(rng.integers(2, 70)), int(rng.integers(1, 20))
    attention, inputs = make(tokens, batch=int(rng.integers(1, 4)), persistent=int(rng.integers(0, 4)))
    y, state = attend(attention, "sliding", inputs, random_cuts(rng, tokens), window=window)
    assert_close(y, reference(attention, "sliding", inputs, window))
    assert state.keys.shape[2] == min(tokens, window - 1)
    assert state.offset == tokens


@pytest.mark.parametrize("persistent", [0, 3])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_gradients_equal_reference(pattern, persistent):
    attention, inputs = make(3 * WINDOW + 2, persistent=persistent)
    fast = gradients(attention, inputs, lambda a, i: attend(a, pattern, i)[0])
    plain = gradients(attention, inputs, lambda a, i: reference(a, pattern, i))
    assert_close(fast, plain)


@pytest.mark.parametrize("trial", range(4))
@pytest.mark.parametrize("persistent", [0, 3])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_cuts_change_neither_output_nor_state_nor_gradients(pattern, persistent, trial):
    tokens = 4 * WINDOW + 3
    cuts = random_cuts(np.random.default_rng(trial), tokens) if trial else list(range(1, tokens))
    attention, inputs = make(tokens, persistent=persistent)
    assert_close(attend(attention, pattern, inputs, cuts), attend(attention, pattern, inputs))
    whole = gradients(attention, inputs, lambda a, i: attend(a, pattern, i)[0])
    pieces = gradients(attention, inputs, lambda a, i: attend(a, pattern, i, cuts)[0])
    assert_close(pieces, whole)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_state_carries_gradients(pattern):
    attention, inputs = make(WINDOW + 2)

    def last_row(attention, inputs):
        y, _ = attend(attention, pattern, inputs, cuts=[WINDOW + 1])
        return y * (mx.arange(WINDOW + 2) == WINDOW + 1)[:, None]

    moved = mx.abs(gradients(attention, inputs, last_row)["1.x"]).max(axis=(0, 2))
    reach = 2 if pattern == "sliding" else 0
    assert (moved[reach:] > 0).all().item()
    assert (moved[:reach] == 0).all().item()


@pytest.mark.parametrize("source", ["x", "h"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_output_before_a_perturbed_token_moves(pattern, source):
    tokens = 3 * WINDOW + 2
    attention, inputs = make(tokens)
    before, _ = attend(attention, pattern, inputs)
    for position in range(tokens):
        nudge = 10.0 * (mx.arange(tokens) == position)[:, None]
        after, _ = attend(attention, pattern, {**inputs, source: inputs[source] + nudge})
        moved = mx.abs(after - before).max(axis=(0, 2)) > 0
        assert not moved[:position].any().item(), position
        reach = position + WINDOW if pattern == "sliding" else tokens
        assert not moved[reach:].any().item(), position
        used = source == "x" or pattern == "segment"
        assert moved[position:reach].all().item() == used, position


@pytest.mark.parametrize("pattern", PATTERNS)
def test_rows_of_a_batch_do_not_meet(pattern):
    attention, inputs = make(4 * WINDOW + 1, batch=3)
    together, states = attend(attention, pattern, inputs, cuts=[WINDOW + 2])
    for row in range(3):
        single = {**inputs, "x": inputs["x"][row : row + 1], "h": inputs["h"][row : row + 1]}
        alone, state = attend(attention, pattern, single, cuts=[WINDOW + 2])
        assert_close(alone, together[row : row + 1])
        expected = tree_map(lambda a, r=row: a if isinstance(a, int) else a[r : r + 1], list(states))
        assert_close(list(state), expected)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_parameter_and_input_has_a_gradient(pattern):
    attention, inputs = make(3 * WINDOW + 2)
    grads = gradients(attention, inputs, lambda a, i: attend(a, pattern, i, cuts=[WINDOW])[0])
    if pattern != "segment":
        del grads["1.h"]
    assert len(grads) == (7 if pattern == "segment" else 6)
    for name, grad in grads.items():
        rows = mx.abs(grad).max(axis=-1)
        assert (rows > 0).all().item(), name


@pytest.mark.parametrize("pattern", PATTERNS)
def test_state_is_a_value(pattern):
    attention, inputs = make(2 * WINDOW + 2)
    _, state = attend(attention, pattern, inputs)
    copy = [a if isinstance(a, int) else np.array(a) for a in state]
    first, _ = attend(attention, pattern, inputs, state=state)
    second, _ = attend(attention, pattern, inputs, state=state)
    assert mx.array_equal(first, second)
    for kept, now in zip(copy, state, strict=True):
        assert np.array_equal(kept, now)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_bfloat16_stays_bfloat16_and_near_float32(pattern):
    attention, inputs = make(3 * WINDOW + 2)
    exact, _ = attend(attention, pattern, inputs)
    attention.set_dtype(mx.bfloat16)
    inputs = {name: value.astype(mx.bfloat16) for name, value in inputs.items()}
    y, state = attend(attention, pattern, inputs, cuts=[2, WINDOW + 2])
    assert y.dtype == mx.bfloat16
    assert all(a.dtype == mx.bfloat16 for a in state if isinstance(a, mx.array))
    assert_close(y.astype(mx.float32), exact, tolerance=0.03)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_compiled_equals_eager(pattern):
    attention, inputs = make(2 * WINDOW + 2)
    compiled = mx.compile(partial(attend, attention, pattern, cuts=[WINDOW + 1]))
    assert_close(compiled(inputs=inputs)[0], attend(attention, pattern, inputs)[0])


def test_a_prefix_of_no_rows_is_no_prefix():
    attention, inputs = make(2 * WINDOW + 2, persistent=0)
    empty = {**inputs, "persistent": mx.zeros((0, DIM))}
    for pattern in PATTERNS:
        assert mx.array_equal(attend(attention, pattern, empty)[0], attend(attention, pattern, inputs)[0])


def peak_bytes(tokens, window, *, backward):
    attention = Attention(DIM, 1)
    x = mx.random.normal((1, tokens, DIM))
    mx.eval(attention.parameters(), x)

    def loss(x):
        return attention.sliding(x, window=window)[0].square().sum()

    base = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(mx.grad(loss)(x) if backward else loss(x))
    return mx.get_peak_memory() - base


def test_memory_of_the_window_is_linear_in_length():
    short, long = (peak_bytes(tokens, 32, backward=True) for tokens in (2048, 4096))
    assert 1.5 < long / short < 2.3


def test_the_window_never_forms_a_square_of_the_length():
    tokens = 16_384
    assert peak_bytes(tokens, 64, backward=False) < tokens * tokens / 8


def test_masks_handed_to_mlx_are_small(monkeypatch):
    masks = []
    plain = mx.fast.scaled_dot_product_attention

    def record(*args, mask, **kwargs):
        masks.append(mask)
        return plain(*args, mask=mask, **kwargs)

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", record)
    attention, inputs = make(40 * WINDOW + 3)
    attend(attention, "full", inputs, cuts=[7])
    assert masks == ["causal", "causal"]
    masks.clear()
    attend(attention, "sliding", inputs, cuts=[7])
    arrays = [mask for mask in masks if isinstance(mask, mx.array)]
    assert arrays
    assert all(mask.size <= WINDOW * (3 + 2 * WINDOW) for mask in arrays)


def test_the_window_cache_does_not_keep_the_prompt_alive():
    attention = Attention(DIM, 1)
    mx.eval(attention.parameters())
    before = mx.get_active_memory()
    x = mx.random.normal((1, 8192, DIM))
    y, state = attention.sliding(x, window=16)
    mx.eval(y, state)
    del x, y
    assert state.keys.shape == (1, 1, 15, DIM)
    # Half of the prompt's keys: far more than the cache, less than one array of the prompt's length.
    assert mx.get_active_memory() - before < 8192 * DIM * 4 / 2


@pytest.mark.parametrize("persistent", [0, 3])
def test_a_window_does_not_know_where_it_stands(persistent):
    attention, inputs = make(600, persistent=persistent)
    later = 600 - 3 * WINDOW
    whole, _ = attend(attention, "sliding", inputs)
    alone, _ = attend(attention, "sliding", {**inputs, "x": inputs["x"][:, later:]})
    # Rotary angles are float32 products, here of up to 600 rad.
    assert_close(whole[:, later + WINDOW :], alone[:, WINDOW:], 1e-4)


def test_persistent_tokens_alone_are_seen_alike_from_everywhere():
    attention, inputs = make(600)
    x = mx.broadcast_to(inputs["x"][:, :1], inputs["x"].shape)
    y, _ = attend(attention, "sliding", {**inputs, "x": x}, window=1)
    assert_close(y, mx.broadcast_to(y[:, :1], y.shape))
