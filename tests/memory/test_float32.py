"""Row 10 as it runs: the fast forms equal the definition to 1e-5 in float32, at default gates and widths."""

import mlx.core as mx
import pytest

from .cases import assert_close, by_definition, by_fast_form, by_slots, gradients, make_case, masked

BIRTH = (-6.9, 0.0, -1.4)
"""Mean logits of a memory at birth: alpha 0.001, eta 0.5, theta 0.1."""


def case_of(**fields):
    return make_case(**{"width": 16, "expansion": 4, "dtype": mx.float32, "centre": BIRTH, "tokens": 150, **fields})


@pytest.mark.parametrize("chunk", [1, 16, 64, 256])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_chunked_equals_the_definition(depth, chunk):
    case = case_of(depth=depth, chunk_size=chunk)
    assert_close(by_fast_form(case), by_definition(case), 1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"momentum": "none"},
        {"decay": "none"},
        {"activation": "silu"},
        {"activation": "relu"},
        {"residual": False},
        {"norm": False},
        {"objective": "dot"},
        {"normalized_step": True},
        {"position": 7},
    ],
    ids=str,
)
def test_chunked_equals_the_definition_with_one_choice_changed(fields):
    case = case_of(tokens=70, **fields)
    assert_close(by_fast_form(case), by_definition(case), 1e-5)


@pytest.mark.parametrize("fields", [{}, {"depth": 1, "update": "online", "chunk_size": 64}], ids=str)
def test_rows_of_unlike_position_and_length(fields):
    case = case_of(batch=3, tokens=70, **fields)
    case = case._replace(state=case.state._replace(position=mx.array([0, 5, 30])))
    lengths = mx.array([70, 33, 1])
    assert_close(by_slots(case, lengths), masked(case, mx.arange(70)[None] < lengths[:, None]), 1e-5)


@pytest.mark.parametrize("fields", [{}, {"depth": 1, "update": "online", "chunk_size": 64}], ids=str)
def test_outer_gradients(fields):
    case = case_of(batch=1, tokens=40, **fields)
    assert_close(gradients(by_fast_form, case), gradients(by_definition, case), 1e-4)
