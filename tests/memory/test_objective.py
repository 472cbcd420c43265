"""An objective of one's own: registered with its gradient checked, and then a choice like any other."""

import mlx.core as mx
import pytest

from titans_mlx.config import OBJECTIVES, MemoryConfig
from titans_mlx.memory import NeuralMemory, objective, recipes

from .cases import assert_close, by_definition, by_fast_form, gradients, make_case


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Nothing is registered before a test, and what it registers is gone after it."""
    monkeypatch.setattr(objective, "_registered", {})
    before = list(OBJECTIVES)
    OBJECTIVES[:] = objective.OWN
    yield
    OBJECTIVES[:] = before


def log_cosh(output, value):
    difference = mx.abs(output - value)
    return (difference + mx.logaddexp(-2 * difference, 0)).sum(-1)


@pytest.mark.parametrize("gradient", [None, lambda output, value: mx.tanh(output - value)], ids=["derived", "given"])
def test_a_registered_objective_is_one_like_any_other(float64, gradient):
    assert objective.register("log cosh", log_cosh, gradient) < 1e-2
    case = make_case(objective="log cosh", depth=2, activation="silu", chunk_size=3, tokens=7)
    assert_close(by_fast_form(case), by_definition(case), 1e-10)
    assert_close(gradients(by_fast_form, case), gradients(by_definition, case), 1e-9)
    assert recipes.choices(case.config)["objective"] == "log cosh"


def test_the_squared_error_registered_again_is_the_squared_error():
    objective.register("mine", lambda output, value: ((output - value) ** 2).sum(-1))
    memory = NeuralMemory(8, 2, chunk_size=4)
    mine = NeuralMemory(8, 2, MemoryConfig(objective="mine", chunk_size=4))
    mine.update(memory.parameters())
    x = mx.random.normal((2, 9, 8))
    assert mx.allclose(mine(x)[0], memory(x)[0], atol=1e-6)


def test_a_name_registered_again_stands_for_the_new_loss():
    x = mx.ones((1, 5, 8))
    objective.register("mine", log_cosh)
    config = MemoryConfig(objective="mine", chunk_size=4)
    memory = NeuralMemory(8, 2, config)
    before = memory(x)[0]
    objective.register("mine", lambda output, value: 3 * log_cosh(output, value))
    assert not mx.allclose(memory(x)[0], before, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "loss", "error", "message"),
    [
        ("l2", log_cosh, None, "name must be none of this package's own"),
        ("", log_cosh, None, "name must be a text, got ''"),
        ("sum", lambda o, v: (o - v).sum(), None, r"loss must give an array of shape .* got \(\)"),
        ("nothing", lambda o, v: None, lambda o, v: o, "loss must give an array of shape .* got NoneType"),
        ("rows", log_cosh, lambda o, v: (o - v).sum(-1), "error must give an array of shape"),
        ("earlier", lambda o, v: ((o - v.cumsum(-2)) ** 2).sum(-1), None, "loss must be each token's own"),
        ("norm", lambda o, v: mx.sqrt(((o - v) ** 2).sum(-1)), None, "error must be finite where output and value"),
        ("mixed", lambda o, v: ((o - v) ** 2).sum(-1) * o.sum((-1, -2))[..., None], None, "loss must be each token's"),
        ("wrong", log_cosh, lambda o, v: 2 * mx.tanh(o - v), "error must be the gradient of loss, .* off by"),
    ],
)
def test_what_is_refused(name, loss, error, message):
    with pytest.raises(ValueError, match=message):
        objective.register(name, loss, error)
    assert list(objective.OWN) == OBJECTIVES


@pytest.mark.parametrize("threshold", [1e-15, 1e-25])
def test_a_threshold_whose_square_underflows_divides_nothing_by_zero(threshold):
    memory = NeuralMemory(8, 2, objective="huber", threshold="fixed", threshold_init=threshold)
    x = mx.concatenate([mx.zeros((1, 5, 8)), mx.random.normal((1, 5, 8))], axis=1)
    loss, gradient = mx.value_and_grad(lambda x: memory(x)[0].square().sum())(x)
    assert mx.isfinite(loss).item() and mx.isfinite(gradient).all().item()


def test_a_loss_with_kinks_is_one_too():
    assert objective.register("l1", lambda output, value: mx.abs(output - value).sum(-1)) < 1e-2


def test_an_objective_that_nobody_registered_is_named():
    with pytest.raises(ValueError, match=r"objective must be one of \['l2', 'dot', 'lp', 'huber'\], got 'log cosh'"):
        MemoryConfig(objective="log cosh")
