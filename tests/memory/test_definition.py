"""Row 10: the fast forms equal the definition, in float64, and the definition is the one on paper."""

import math

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map_with_path

from .cases import (
    assert_close,
    by_definition,
    by_fast_form,
    by_slots,
    gradients,
    in_pieces,
    leaves,
    make_case,
    masked,
    projection,
)

TOLERANCE = 1e-10
GRADIENT_TOLERANCE = 1e-9

pytestmark = pytest.mark.usefixtures("float64")

BARE = {"momentum": "none"}
EITHER = {
    "default": {},
    "no momentum": {"momentum": "none"},
    "no decay": {"decay": "none"},
    "no momentum, no decay": {"momentum": "none", "decay": "none"},
    "fixed decay": {"decay": "fixed", "decay_init": (0.3, 0.01)},
    "decay to birth": {"decay_to": "birth"},
    "fixed decay to birth, no momentum": {"decay": "fixed", "decay_init": (0.3, 0.01), "decay_to": "birth", **BARE},
    "fixed step": {"step_size": "fixed"},
    "normalized step": {"normalized_step": True},
}
VARIATIONS = {
    **EITHER,
    "unbounded": {"write_bound": None},
    "tight bound": {"write_bound": 0.3},
    "residual alone": {"residual": True, "norm": False},
    "shared gates": {"shared_gates": True},
    "shared gates, no momentum": {"shared_gates": True, "momentum": "none"},
    "norm alone": {"residual": False, "norm": True},
    "neither": {"residual": False, "norm": False},
    "both": {"residual": True, "norm": True},
    "dot product": {"objective": "dot"},
    "dot product, no momentum": {"objective": "dot", "momentum": "none", "write_bound": None},
    "l3": {"objective": "lp"},
    "l1.5, unbounded": {"objective": "lp", "loss_power": 1.5, "write_bound": None},
    "huber": {"objective": "huber"},
    "huber, no momentum, unbounded": {"objective": "huber", "momentum": "none", "write_bound": None},
    "huber, shared gates": {"objective": "huber", "shared_gates": True},
    "decay per row": {"decay_per": "row"},
    "decay per row, no momentum, unbounded": {"decay_per": "row", "momentum": "none", "write_bound": None},
    "decay per row, huber, shared gates": {"decay_per": "row", "objective": "huber", "shared_gates": True},
    "decay per row to birth": {"decay_per": "row", "decay_to": "birth"},
    "decay per column": {"decay_per": "column"},
    "decay per column to birth": {"decay_per": "column", "decay_to": "birth", "write_bound": None},
    "decay per column, no momentum, dot": {"decay_per": "column", "momentum": "none", "objective": "dot"},
    "l4 retention": {"retention": "lq"},
    "l3 retention, l3, no momentum": {
        "retention": "lq",
        "retention_power": 3.0,
        "objective": "lp",
        "momentum": "none",
    },
    "KL retention": {"retention": "kl"},
    "KL retention, no momentum, no decay": {"retention": "kl", "momentum": "none", "decay": "none"},
    "orthogonal writes": {"orthogonal_writes": True},
    "orthogonal writes, no momentum": {"orthogonal_writes": True, "momentum": "none"},
    "omega": {"omega": 3},
    "omega, no momentum, unbounded": {"omega": 6, "momentum": "none", "write_bound": None},
    "omega, tight bound, shared gates": {"omega": 2, "write_bound": 0.3, "shared_gates": True},
    "omega, decay per row": {"omega": 3, "decay_per": "row"},
    "omega, decay per column, no momentum": {"omega": 3, "decay_per": "column", "momentum": "none"},
    "omega, orthogonal writes": {"omega": 3, "orthogonal_writes": True},
    "omega, orthogonal writes, no momentum": {"omega": 3, "orthogonal_writes": True, "momentum": "none"},
    "omega, l4 retention, keys of degree 2": {"omega": 3, "retention": "lq", "key_degree": 2},
    "orthogonal writes, no decay, KL": {"orthogonal_writes": True, "decay": "none", "retention": "kl"},
    "keys of degree 2": {"key_degree": 2},
}
ONLINE = {
    **EITHER,
    "residual": {"residual": True},
    "decay first": {"decay_first": True},
    "decay first to birth": {"decay_first": True, "decay_to": "birth"},
    "dot product, residual, decay to birth": {"objective": "dot", "residual": True, "decay_to": "birth"},
    "decay first, no momentum, residual": {"decay_first": True, "momentum": "none", "residual": True},
    "dot product": {"objective": "dot"},
    "dot product, residual": {"objective": "dot", "residual": True},
    "keys of degree 2": {"key_degree": 2},
}


def agree(case, tolerance=TOLERANCE):
    assert_close(by_fast_form(case), by_definition(case), tolerance)


SHALLOW = {name for name, fields in VARIATIONS.items() if fields.get("retention") == "kl"}
"""Refused beyond two layers."""


@pytest.mark.parametrize(
    ("depth", "variation"),
    [(depth, name) for name in VARIATIONS for depth in (1, 2, 3) if depth < 3 or name not in SHALLOW],
)
def test_chunked_equals_the_definition(depth, variation):
    agree(make_case(**{"depth": depth, "activation": "silu", "chunk_size": 4, **VARIATIONS[variation]}))


@pytest.mark.parametrize("activation", ["gelu", "silu", "relu"])
@pytest.mark.parametrize("depth", [2, 4])
def test_chunked_equals_the_definition_for_every_activation(depth, activation):
    agree(make_case(depth=depth, activation=activation, chunk_size=3, tokens=7))


@pytest.mark.parametrize("variation", ONLINE)
def test_online_equals_the_definition(variation):
    agree(make_case(**{"depth": 1, "update": "online", "chunk_size": 5, **ONLINE[variation]}))


@pytest.mark.parametrize("tokens", [1, 5, 37])
@pytest.mark.parametrize("chunk", [1, 2, 3, 16, 64, 256])
@pytest.mark.parametrize("depth", [1, 2])
def test_chunked_equals_the_definition_at_any_chunk(depth, chunk, tokens):
    agree(make_case(depth=depth, activation="silu", chunk_size=chunk, tokens=tokens))


@pytest.mark.parametrize("tokens", [1, 5, 37])
@pytest.mark.parametrize("chunk", [1, 2, 3, 16, 64, 256])
def test_online_equals_the_definition_at_any_chunk(chunk, tokens):
    agree(make_case(depth=1, update="online", chunk_size=chunk, tokens=tokens))


@pytest.mark.parametrize("fields", [{"depth": 1}, {"depth": 2, "activation": "relu"}, {"depth": 1, "update": "online"}])
def test_a_chunk_of_256_within_a_longer_sequence(fields):
    agree(make_case(chunk_size=256, tokens=300, batch=1, **fields))


@pytest.mark.parametrize("extreme", [40.0, 1e4])
@pytest.mark.parametrize("update", ["anchored", "online"])
def test_gates_at_zero_and_one(update, extreme):
    depth = 1 if update == "online" else 2
    case = make_case(depth=depth, update=update, activation="silu", chunk_size=6, tokens=23)
    rng = np.random.default_rng(0)
    signs = {name: mx.array(rng.choice([-1.0, 0.0, 1.0], x.shape)) for name, x in case.logits.items()}
    agree(case._replace(logits={name: x + extreme * signs[name] for name, x in case.logits.items()}))


@pytest.mark.parametrize("fields", [{"depth": 1}, {"depth": 3, "momentum": "none"}])
@pytest.mark.parametrize("position", [1, 3, 4, 6])
def test_a_call_that_begins_in_mid_chunk_keeps_its_anchor(position, fields):
    agree(make_case(activation="silu", chunk_size=4, position=position, **fields))


def test_the_anchor_matters_in_mid_chunk_and_only_there():
    case = make_case(depth=2, activation="silu", chunk_size=4, position=2)
    moved = case._replace(state=case.state._replace(anchor=case.state.weights))
    with pytest.raises(AssertionError):
        assert_close(by_fast_form(moved), by_fast_form(case), 1e-3)
    at_boundary = [c._replace(state=c.state._replace(position=4)) for c in (case, moved)]
    assert_close(*[by_fast_form(c) for c in at_boundary], 0)


@pytest.mark.parametrize("chunk", [3, 16])
def test_a_state_goes_on_at_another_chunk_size(chunk):
    """Its anchor serves until the new memory's next boundary."""
    case = make_case(depth=2, activation="silu", chunk_size=4, tokens=14)
    _, state = by_fast_form(case.tokens(0, 6))
    agree(case.tokens(6, 14)._replace(config=case.config.replace(chunk_size=chunk), state=state))


MIRAS = {
    "decay per row": {"depth": 2, "activation": "silu", "decay_per": "row"},
    "decay per column": {"depth": 2, "activation": "silu", "decay_per": "column", "momentum": "none"},
    "l4 retention": {"depth": 2, "activation": "silu", "retention": "lq"},
    "KL retention": {"depth": 2, "activation": "silu", "retention": "kl", "momentum": "none"},
    "orthogonal writes": {"depth": 2, "activation": "silu", "orthogonal_writes": True},
    "keys of degree 2": {"depth": 2, "activation": "silu", "key_degree": 2},
    "omega": {"depth": 2, "activation": "silu", "omega": 3},
    "decay to birth": {"depth": 2, "activation": "silu", "decay_to": "birth"},
    "omega beyond a chunk": {"depth": 1, "omega": 7, "momentum": "none", "decay_per": "row"},
    "ATLAS": {"depth": 2, "activation": "silu", "omega": 3, "orthogonal_writes": True, "key_degree": 2},
}
UNLIKE = {
    **MIRAS,
    "anchored": {"depth": 2, "activation": "silu"},
    "anchored matrix": {"depth": 1, "momentum": "none"},
    "no decay": {"depth": 2, "activation": "relu", "decay": "none"},
    "online": {"depth": 1, "update": "online"},
    "online, residual": {"depth": 1, "update": "online", "residual": True, "momentum": "none"},
    "online, decay first": {"depth": 1, "update": "online", "decay_first": True},
    "online, decay to birth": {"depth": 1, "update": "online", "decay_to": "birth"},
}


@pytest.mark.parametrize("name", ["anchored", "online", *MIRAS])
@pytest.mark.parametrize("trial", range(3))
def test_cuts_change_nothing(name, trial):
    rng = np.random.default_rng(trial)
    case = make_case(chunk_size=4, tokens=17, **UNLIKE[name])
    cuts = sorted(rng.choice(np.arange(1, 17), 6, replace=False).tolist())
    assert_close(in_pieces(by_fast_form, case, cuts), by_fast_form(case), TOLERANCE)


def unlike_rows(tokens=9, **fields):
    """Five rows that begin and end at positions of their own, the third with no token at all."""
    case = make_case(batch=5, tokens=tokens, chunk_size=4, **fields)
    position, lengths = mx.array([0, 3, 6, 4, 9]), mx.array([tokens, 2, 0, 7, 1])
    real = mx.arange(tokens)[None] < lengths[:, None]
    return case._replace(state=case.state._replace(position=position)), lengths, real


@pytest.mark.parametrize("name", UNLIKE)
def test_rows_of_unlike_position_and_length(name):
    case, lengths, real = unlike_rows(**UNLIKE[name])
    assert_close(by_slots(case, lengths), masked(case, real), TOLERANCE)


@pytest.mark.parametrize("name", UNLIKE)
def test_masked_slots_anywhere_equal_the_row_without_them(name):
    case = make_case(batch=1, chunk_size=4, tokens=11, position=2, **UNLIKE[name])
    real = mx.array([[False, True, True, False, False, True, True, True, False, True, False]])
    kept = mx.array([1, 2, 5, 6, 7, 9])
    q, k, v = (x[:, :, kept] for x in (case.q, case.k, case.v))
    alone = case._replace(q=q, k=k, v=v, logits={name: x[..., kept] for name, x in case.logits.items()})
    reads, state = masked(case, real)
    expected, after = by_definition(alone)
    assert_close(reads[:, :, kept], expected, TOLERANCE)
    assert_close(state._replace(position=8), after, TOLERANCE)


@pytest.mark.parametrize("fields", [{"depth": 2}, {"depth": 1, "update": "online"}])
def test_what_is_not_written_again_fades_to_birth(fields):
    case = make_case(chunk_size=4, tokens=9, momentum="none", decay_to="birth", **fields)
    case = case._replace(logits={**case.logits, "step": 0 * case.logits["step"] - 1e4})
    left = mx.exp(case.gates.log_keep.sum(-1))
    _, after = by_fast_form(case)
    for layer, (w, before, birth) in enumerate(zip(after.weights, case.state.weights, case.birth, strict=True)):
        expected = birth + left[:, :, layer, None, None] * (before - birth)
        assert_close(w, expected, TOLERANCE)


def test_a_slot_with_closed_gates_alone_is_no_mask():
    """``theta = 0, alpha = 0, eta = 1`` still hands momentum to the weights: a mask needs ``m = 0`` too."""
    case = make_case(depth=1, batch=1, chunk_size=4, tokens=1, update="online")
    shut = {"decay": -1e4, "momentum": 1e4, "step": -1e4}
    case = case._replace(logits={name: 0 * x + shut[name] for name, x in case.logits.items()})
    for form in (by_definition, by_fast_form):
        _, after = form(case)
        assert_close(after.weights[0], case.state.weights[0] + case.state.momentum[0], TOLERANCE)
        assert_close(after.momentum[0], case.state.momentum[0], TOLERANCE)
    for _, after in (masked(case, mx.array([[False]])), by_slots(case, mx.array([0]))):
        assert_close(after._replace(position=0), case.state, 0)


@pytest.mark.parametrize("fields", [*UNLIKE.values(), {"depth": 3, "norm": False}], ids=[*UNLIKE, "gelu"])
def test_outer_gradients_equal_the_definition(fields):
    case = make_case(batch=1, chunk_size=3, tokens=7, position=2, write_bound=None, **fields)
    assert_close(gradients(by_fast_form, case), gradients(by_definition, case), GRADIENT_TOLERANCE)


def test_outer_gradients_go_through_the_bound():
    case = make_case(depth=2, activation="silu", batch=1, chunk_size=3, tokens=7, write_bound=0.3)
    assert_close(gradients(by_fast_form, case), gradients(by_definition, case), GRADIENT_TOLERANCE)


@pytest.mark.parametrize("name", ["anchored", "online"])
def test_outer_gradients_of_unlike_rows(name):
    case, lengths, real = unlike_rows(tokens=7, **UNLIKE[name])
    fast = gradients(lambda c: by_slots(c, lengths), case)
    assert_close(fast, gradients(lambda c: masked(c, real), case), GRADIENT_TOLERANCE)


FINITE = {
    "deep": {"depth": 2, "activation": "silu"},
    "online": {"depth": 1, "update": "online"},
    **MIRAS,
}


@pytest.mark.parametrize("fields", FINITE.values(), ids=FINITE)
def test_outer_gradients_equal_finite_differences(fields):
    case = make_case(batch=1, chunk_size=3, tokens=5, position=1, **fields)
    loss, found, step = projection(by_fast_form, case), gradients(by_fast_form, case), 1e-4
    for name, leaf in tree_flatten(leaves(case)):
        direction = mx.random.normal(leaf.shape).astype(leaf.dtype)

        def along(distance, name=name, direction=direction):
            return loss(
                tree_map_with_path(lambda path, x: x + distance * direction if path == name else x, leaves(case))
            )

        # Of the fourth order: Newton-Schulz steps are steep polynomials.
        near, far = (along(width) - along(-width) for width in (step, 2 * step))
        slope = (8 * near - far).item() / (12 * step)
        assert math.isclose(slope, (found[name] * direction).sum().item(), rel_tol=1e-6, abs_tol=1e-9), name
