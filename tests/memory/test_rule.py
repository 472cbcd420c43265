"""The equations shown for a configuration, and the name that it has."""

import pytest

from titans_mlx.config import MemoryConfig
from titans_mlx.memory import recipes
from titans_mlx.memory.rule import equations, known_name


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_recipe_is_known_by_its_choices(name):
    assert known_name(recipes.RECIPES[name].make()) == name


def test_what_is_no_recipe_has_no_name():
    assert known_name(MemoryConfig(objective="lp", loss_power=1.5)) is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (recipes.linear_attention(), [r"\ell_i = -\langle M(k_i), v_i \rangle", r"W_t = W_{t-1} - u_t"]),
        (recipes.retnet(4), [r"W_t = (1 - \alpha) W_{t-1} - u_t"]),
        (recipes.gla(), [r"W_t = W_{t-1}\, \mathrm{diag}(1 - \alpha_t) - u_t"]),
        (recipes.deltanet(), [r"y_t = M_t(q_t), \quad M(x) = W x", r"u_t = \nabla \ell_t \text{ at } W_{t-1}"]),
        (recipes.gated_deltanet(), [r"u_t = \nabla \ell_t \text{ at } (1 - \alpha_t) W_{t-1}"]),
        (recipes.longhorn(), [r"u_t = \nabla \ell_t \text{ at } W_t"]),
        (
            recipes.titans(),
            [
                r"y_t = M_t(q_t), \quad M(x) = x + \mathrm{LN}(W^{2} \sigma(W^{1} x))",
                r"u_t = \nabla \ell_t \text{ at } W_{t'}",
                r"S_t = \eta_t\, S_{t-1} - \theta_t u_t",
                r"W_t = (1 - \alpha_t) W_{t-1} + S_t",
            ],
        ),
        (recipes.moneta(), [r"A_t = (1 - \alpha_t) A_{t-1} - \theta_t u_t", r"W_t = A_t / \lVert A_t \rVert_{4}^{2}"]),
        (recipes.memora(), [r"Z_t = (1 - \alpha_t) Z_{t-1} - \theta_t u_t", r"W_t = d\, \mathrm{softmax}(Z_t)"]),
        (recipes.atlas(), [r"W_t = (1 - \alpha_t) W_{t-1} + \theta_t\, \mathrm{NS}_5(S_t)"]),
        (
            recipes.gated_deltanet(decay_to="birth"),
            [r"u_t = \nabla \ell_t \text{ at } W_0 + (1 - \alpha_t) (W_{t-1} - W_0)"],
        ),
        (recipes.gated_deltanet(decay="fixed"), [r"u_t = \nabla \ell_t \text{ at } (1 - \alpha) W_{t-1}"]),
        (MemoryConfig(decay_to="birth"), [r"W_t = W_0 + (1 - \alpha_t) (W_{t-1} - W_0) + S_t"]),
        (MemoryConfig(normalized_step=True), [r"S_t = \eta_t\, S_{t-1} - \theta_t (1 - \eta_t)\, u_t"]),
        (MemoryConfig(omega=4), [r"\lVert \nabla \ell_i \rVert \le 1 \text{ per layer, by scaling}"]),
        (MemoryConfig(reset_every=32), [r"W_t, S_t \text{ as at birth again after every 32 tokens}"]),
    ],
)
def test_equations(config, expected):
    lines = equations(config)
    assert not set(expected) - set(lines), lines


def test_every_choice_shows():
    """No two recipes have the same equations but for what a gate's own dependence says."""
    shown = {name: tuple(equations(recipe.make())) for name, recipe in recipes.RECIPES.items()}
    assert len(set(shown.values())) == len(shown)
