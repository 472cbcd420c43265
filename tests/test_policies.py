"""Rationed writes: what may be written is written, and nothing else."""

import numpy as np
import pytest
from models import build, largest, uniform

from titans_mlx.claims.policies import delayed, read_sparingly, threshold_for, triggered
from titans_mlx.memory import recipes
from titans_mlx.memory.trace import Recorder

ONE = {"num_layers": 1, "num_persistent": 0}
NAMES = ("lmm-online", "lmm-deep", "mag-online", "mal-deep", "mac-online")


@pytest.mark.parametrize("name", NAMES)
def test_all_written_is_reading_as_ever(name: str) -> None:
    model, tokens = build(name, **ONE), uniform(3, 30)
    hidden, wrote, felt = read_sparingly(model, np.array(tokens), delayed(1))
    recorder = Recorder()
    assert largest(hidden - model.hidden(tokens, observe=recorder)) < 1e-5
    assert wrote.all() and wrote.shape == (3, 30)
    (work,) = recorder.traces()
    np.testing.assert_allclose(felt, np.sqrt((work.surprise**2).sum((1, 2))), rtol=1e-3)


def test_nothing_written_is_a_closed_memory() -> None:
    # With decay, what is read leaves its mark on the weights that fade.
    model, tokens = build("lmm-deep", memory=recipes.titans(decay="none"), **ONE), np.array(uniform(2, 20))
    hidden, wrote, _ = read_sparingly(model, tokens, triggered(np.inf))
    other = tokens.copy()
    other[:, 2] = (other[:, 2] + 1) % 16
    again, _, _ = read_sparingly(model, other, triggered(np.inf))
    assert not wrote.any()
    # Beyond the reach of the convolution nothing tells of what was read.
    assert largest(hidden[:, 8:] - again[:, 8:]) == 0
    written, _, _ = read_sparingly(model, other, delayed(1))
    assert largest(hidden[:, 8:] - written[:, 8:]) > 0


def test_a_clock_writes_every_nth_token() -> None:
    _, wrote, _ = read_sparingly(build("lmm-online", **ONE), np.array(uniform(2, 10)), delayed(4))
    assert list(np.flatnonzero(wrote[0])) == [3, 7] and (wrote[0] == wrote[1]).all()


def test_rows_are_written_by_their_own_surprise() -> None:
    model, tokens = build("lmm-online", **ONE), np.array(uniform(4, 24))
    _, _, felt = read_sparingly(model, tokens, delayed(1))
    threshold = float(np.median(felt))
    hidden, wrote, felt = read_sparingly(model, tokens, triggered(threshold))
    assert (wrote == (felt > threshold)).all() and len({tuple(row) for row in wrote}) > 1
    alone, _, _ = read_sparingly(model, tokens[1:2], triggered(threshold))
    assert largest(hidden[1:2] - alone) < 1e-5
    assert model.layers[0].memory.change_gates is None, "the model is left as it was"


def test_a_threshold_keeps_to_its_share() -> None:
    model, tokens = build("lmm-online", **ONE), np.array(uniform(4, 40))
    for share in (0.5, 0.125):
        _, wrote, _ = read_sparingly(model, tokens, triggered(threshold_for(model, tokens, share)))
        assert 0.5 * share <= wrote.mean() <= share


def test_bad_policies() -> None:
    tokens = np.zeros((1, 4), dtype=np.int32)
    with pytest.raises(ValueError, match="every must be an integer >= 1, got 0"):
        delayed(0)
    with pytest.raises(ValueError, match="share must lie strictly between 0 and 1, got 1"):
        threshold_for(build("lmm-online", **ONE), tokens, 1)
    with pytest.raises(ValueError, match="model must have one block with a memory, got 2 blocks"):
        read_sparingly(build("lmm-online"), tokens, delayed(1))
    with pytest.raises(ValueError, match="theta must be left out"):
        read_sparingly(build("transformer", **ONE), tokens, delayed(1))
