"""Every field of the configurations is validated, and a configuration survives JSON."""

import dataclasses
import json
import re

import numpy as np
import pytest

from titans_mlx.config import MemoryConfig, TitansConfig

WRONG = {
    MemoryConfig: {
        "depth": [0, -1, 5, 2.0, True, "2", None],
        "expansion": [0, -4, 1.5, None],
        "activation": ["tanh", None, 3],
        "residual": ["yes", 1, None],
        "norm": ["no", 0, None],
        "objective": ["l1", None],
        "decay": ["exponential", True, None],
        "decay_per": ["layer", "channel", None, "row" * 2],
        "decay_to": ["one", None, 0],
        "decay_rank": [0, -1, 2.5, True, None],
        "retention": ["l3", None, True],
        "omega": [0, -1, 2.5, True, None],
        "retention_power": [2, 1.0, -4.0, 8.1, float("inf"), float("nan"), True, None],
        "orthogonal_writes": ["yes", 1, None],
        "key_degree": [0, 3, 1.5, True, None],
        "decay_init": [0, 1, -0.1, 1.5, float("nan"), "0.1", None, (0.1, 1.0), [0.1, 0]],
        "momentum": ["fixed", False, None],
        "momentum_init": [0, 1, -0.5, float("nan"), None],
        "step_size": ["none", 0.1, None],
        "step_init": [0, 0.5, 0.7, -0.1, float("nan"), None],
        "loss_power": [1, 0.5, -1.0, float("inf"), float("nan"), True, None],
        "threshold": ["none", "", None, 1],
        "threshold_init": [0, -1.0, float("inf"), float("nan"), True, None],
        "step_gate_scale": [0, -1.0, float("inf"), float("nan"), True, None],
        "max_step": [0, -0.5, float("inf"), float("nan"), True, None],
        "shared_gates": ["yes", 1, None],
        "normalized_step": ["yes", 1, None],
        "implicit_step": ["yes", 1, None, True],
        "update": ["offline", None],
        "chunk_size": [0, -16, 1.5, True, None],
        "reset_every": [-16, 2.5, True, None],
        "recompute": [-1, 2.5, True, None],
        "write_bound": [0, -1.0, float("inf"), float("nan"), True, "none"],
        "decay_first": ["yes", 1, None],
        "qk_norm": ["l2", 1, None],
        "conv_size": [-1, 2.5, True, None],
        "conv_birth": ["zeros", None],
    },
    TitansConfig: {
        "variant": ["rnn", "MAC", None],
        "vocab_size": [0, 1, -1, 2.5, True, None],
        "dim": [0, -8, 64.0, None],
        "num_layers": [0, 1.5, None],
        "num_heads": [0, 3, 2.0, None],
        "mlp_hidden": [-1, 2.5, True],
        "segment_size": [0, -64, 1.5, None],
        "window_size": [0, -64, 1.5, None],
        "num_persistent": [-1, 0.5, True, None],
        "rope_base": [0, 1, -1.0, float("inf"), float("nan"), True],
        "attention_conv_size": [-1, 2.5, True, None],
        "attention_conv_birth": ["zeros", None],
        "tie_embeddings": ["no", 0, None],
        "embedding_std": [0, -0.02, float("inf"), float("nan"), True, "small"],
        "norm_eps": [0, 1, -1e-5, float("nan"), None],
        "memory": ["deep", 3, None],
    },
}


CASES = [
    pytest.param(config, name, value, id=f"{config.__name__}-{name}-{value}")
    for config, fields in WRONG.items()
    for name, values in fields.items()
    for value in values
]


@pytest.mark.parametrize(("config", "name", "value"), CASES)
def test_a_wrong_value_is_named(config, name, value):
    shown = value[-1] if isinstance(value, list | tuple) else value
    with pytest.raises(ValueError, match=rf"^{name} must .*got {re.escape(repr(shown))}"):
        config(**{name: value})


@pytest.mark.parametrize("config", WRONG)
def test_no_field_is_left_unvalidated(config):
    assert {f.name for f in dataclasses.fields(config)} == WRONG[config].keys()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"update": "online"}, r"update='online' needs depth=1 and norm=False .*got depth=2, norm=True"),
        ({"update": "online", "depth": 1, "norm": True}, "got depth=1, norm=True"),
        ({"update": "online", "depth": 1, "write_bound": 1.0}, r"write_bound must be None .*got 1\.0"),
        ({"decay_first": True}, "decay_first must be False with update='anchored'"),
        ({"conv_birth": "shift", "conv_size": 1}, "conv_size must be 0 or >= 2 .*got 1"),
        (
            {"decay_per": "row", "decay": "none"},
            "decay_per must be 'head' but with decay='learned', .*got 'row' with 'no",
        ),
        ({"decay_to": "birth", "decay": "none"}, "decay_to must be 'zero' but with .*got 'birth' with 'none', 'l2'"),
        ({"decay_to": "birth", "retention": "lq"}, "decay_to must be 'zero' but .*got 'birth' with 'learned', 'lq'"),
        ({"decay_per": "row", "retention": "kl"}, "decay_per must be 'head' but with .*got 'row' with 'learned', 'kl'"),
        (
            {"depth": 1, "update": "online", "write_bound": None, "retention": "lq"},
            "retention .*'l2' .*got 'head', 'lq'",
        ),
        ({"depth": 1, "update": "online", "write_bound": None, "decay_per": "row"}, "decay_per, .*got 'row', 'l2'"),
        ({"omega": 2, "depth": 1, "update": "online", "write_bound": None}, "omega must be 1 .*got 2"),
        ({"omega": 2, "objective": "huber"}, "omega must be 1 with objective='huber'"),
        ({"key_degree": 2, "residual": True}, "residual must be False with key_degree=2"),
        ({"retention": "kl", "depth": 3}, "depth must be 1 or 2 with retention='kl' .*got 3"),
        ({"orthogonal_writes": True, "normalized_step": True}, "normalized_step must be False with orthogonal_writes"),
        (
            {"depth": 1, "momentum": "none", "decay": "none", "implicit_step": True},
            "a gradient at every token; got True",
        ),
        ({"momentum": "none", "normalized_step": True}, "normalized_step must be False with momentum='none'"),
    ],
)
def test_choices_that_exclude_each_other(fields, message):
    with pytest.raises(ValueError, match=message):
        MemoryConfig(**fields)


def test_a_shift_needs_two_taps_in_attention_too():
    with pytest.raises(ValueError, match=r"attention_conv_size must be 0 or >= 2 .*got 1"):
        TitansConfig(attention_conv_size=1, attention_conv_birth="shift")


def test_heads_divide_the_width_and_rotary_positions_need_pairs():
    with pytest.raises(ValueError, match="num_heads must divide dim=128, got 3"):
        TitansConfig(num_heads=3)
    with pytest.raises(ValueError, match="must be even for rotary positions, got 6/2"):
        TitansConfig(dim=6, num_heads=2)
    assert TitansConfig(dim=6, num_heads=2, rope_base=None).rope_base is None
    assert TitansConfig(dim=6, num_heads=2, variant="lmm").dim == 6


@pytest.mark.parametrize(
    ("fields", "residual", "norm", "bound"),
    [
        ({}, True, True, 1.0),
        ({"depth": 1}, False, False, 1.0),
        ({"depth": 1, "update": "online"}, False, False, None),
        ({"depth": 3, "norm": False}, True, False, 1.0),
        ({"depth": 1, "residual": True, "write_bound": None}, True, False, None),
    ],
)
def test_what_auto_stands_for(fields, residual, norm, bound):
    config = MemoryConfig(**fields)
    assert (config.residual, config.norm, config.write_bound) == (residual, norm, bound)


def test_depth_of_replaced_config_keeps_what_was_decided():
    assert MemoryConfig(depth=2).replace(depth=1).norm is True
    with pytest.raises(ValueError, match="depth must be at most 4, got 9"):
        MemoryConfig().replace(depth=9)


def test_mlp_width_is_eight_thirds_rounded_up_to_eights():
    assert TitansConfig(dim=384, num_heads=4).mlp_hidden == 1024
    assert TitansConfig(dim=100, num_heads=2).mlp_hidden == 272
    assert TitansConfig(mlp_hidden=0).mlp_hidden == 0


CONFIGS = [
    MemoryConfig(),
    MemoryConfig(depth=1, update="online", decay="fixed", decay_init=(0.1, 0.2), decay_first=True),
    MemoryConfig(depth=3, expansion=2, activation="relu", write_bound=None, conv_birth="shift"),
    TitansConfig(),
    MemoryConfig(decay_per="column", key_degree=2),
    MemoryConfig(retention="lq", retention_power=3.0, orthogonal_writes=True),
    MemoryConfig(step_gate_scale=4.0, shared_gates=True, max_step=0.3, norm=False),
    TitansConfig(variant="mal", rope_base=None, memory=MemoryConfig(decay="fixed", decay_init=(0.5, 0.1))),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_json_and_back(config):
    there = json.loads(json.dumps(config.to_dict()))
    assert type(config).from_dict(there) == config


def test_changes_from_the_defaults():
    assert TitansConfig().changes() == {}
    config = TitansConfig(dim=64, memory=MemoryConfig(decay_per="row"))
    assert config.changes() == {"dim": 64, "mlp_hidden": config.mlp_hidden, "memory": {"decay_per": "row"}}
    assert TitansConfig.from_dict(config.changes()) == config


def test_numpy_counts_are_kept_as_ints():
    config = TitansConfig(dim=np.int64(64), memory=MemoryConfig(chunk_size=np.int32(8)))
    assert config == TitansConfig(dim=64, memory=MemoryConfig(chunk_size=8))
    assert json.loads(json.dumps(config.to_dict()))["memory"]["chunk_size"] == 8


def test_unknown_keys_are_ignored():
    """mlx-lm's rule: a model's config.json holds more than the model asks for."""
    known = TitansConfig(memory=MemoryConfig(depth=1))
    there = known.to_dict() | {"model_type": "titans"}
    there["memory"] = there["memory"] | {"comment": "none"}
    assert TitansConfig.from_dict(there) == known


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_cannot_be_changed(config):
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.depth = 3
    assert hash(config) == hash(config.replace())
