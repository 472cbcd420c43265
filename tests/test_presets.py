"""Named sizes: what they count, and that they are configurations like any other."""

import mlx.core as mx
import pytest

from titans_mlx import Titans, TitansConfig, preset
from titans_mlx.presets import PRESETS, parameters
from titans_mlx.training import count_parameters

MILLIONS = {
    "tiny": {"lmm": 0.18, "mac": 0.20, "mag": 0.20, "mal": 0.28, "transformer": 0.13},
    "small": {"lmm": 6.13, "mac": 7.31, "mag": 7.31, "mal": 10.88, "transformer": 4.89},
    "170m": {"lmm": 122.35, "mac": 143.61, "mag": 143.59, "mal": 207.30, "transformer": 110.71},
    "340m": {"lmm": 378.83, "mac": 454.40, "mag": 454.35, "mal": 681.26, "transformer": 338.35},
    "400m": {"lmm": 411.59, "mac": 487.17, "mag": 487.12, "mal": 714.03, "transformer": 371.12},
    "760m": {"lmm": 822.45, "mac": 992.43, "mag": 992.36, "mal": 1502.00, "transformer": 733.42},
}
"""Of each variant, counted. The paper's labels of 340M and 760M are those of a Transformer of its sizes."""


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_preset_counts(name: str) -> None:
    counted = {variant: parameters(preset(name, variant)) / 1e6 for variant in MILLIONS[name]}
    assert counted == pytest.approx(MILLIONS[name], abs=0.006)


@pytest.mark.parametrize("variant", ["lmm", "mac", "mag", "mal", "transformer", "sliding_window"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_count_is_that_of_the_whole_model(variant: str, tied: bool) -> None:
    config = preset("tiny", variant, num_layers=3, tie_embeddings=tied)
    assert parameters(config) == count_parameters(Titans(config))


def test_counting_draws_nothing() -> None:
    drawn = []
    for _ in range(2):
        mx.random.seed(3)
        parameters(preset("tiny", "mag", dim=80))
        drawn.append(mx.random.normal((1,)).item())
    assert drawn[0] == drawn[1]


def test_fields_can_be_changed_and_names_are_checked() -> None:
    config = preset("340m", "mal", window_size=512)
    assert isinstance(config, TitansConfig) and config.dim == 1024 and config.num_layers == 24
    assert config.window_size == 512 and config.vocab_size == 32_000
    with pytest.raises(ValueError, match=r"name must be one of \['tiny', .*\], got 'huge'"):
        preset("huge")
    with pytest.raises(ValueError, match="variant must be one of"):
        preset("tiny", "mamba")
