"""The measuring itself: turns are taken, what is unequal is refused, graphs and processes are weighed."""

import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from titans_mlx.bench import Timing, by_turns, ours, peak_megabytes, primitives
from titans_mlx.memory import recipes


def test_turns_are_taken() -> None:
    done: list[str] = []
    timings = by_turns({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, repeats=2, warmup=1)
    assert done == ["a", "b"] * 3
    assert all(len(timing.seconds) == 2 for timing in timings.values())
    with pytest.raises(ValueError, match="repeats must be an integer >= 1, got 0"):
        by_turns({}, repeats=0)


def test_median_and_spread() -> None:
    timing = Timing((1.0, 4.0, 2.0))
    assert timing.median == 2.0
    assert timing.spread == 1.5


def test_primitives_are_counted() -> None:
    x = mx.ones((2, 3))
    assert primitives((x @ x.T).sum() + 1)["Matmul"] == 1


def test_a_process_is_weighed(tmp_path: Path) -> None:
    sizes = []
    for megabytes in (0, 200):
        script = tmp_path / f"hold_{megabytes}.py"
        script.write_text(f"held = bytes([1]) * {megabytes * 10**6}")
        sizes.append(peak_megabytes([str(script)]))
    assert 190 < sizes[1] - sizes[0] < 210
    with pytest.raises(RuntimeError, match="No such file"):
        peak_megabytes([str(tmp_path / "missing.py")])


@pytest.mark.parametrize(
    "config", [recipes.titans(chunk_size=4), recipes.titans_matrix(chunk_size=4)], ids=["deep", "matrix"]
)
def test_what_is_not_the_definition_is_not_timed(config: recipes.MemoryConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ours.memory(config)
    ours.forward(layer, ours.features(1, 9))()
    monkeypatch.setattr(ours, "recurrent", lambda config, state, q, *_: (q, state))
    with pytest.raises(ValueError, match=r"must equal the definition within 0\.0001"):
        ours.memory(config)


def test_the_command_says_what_it_does() -> None:
    script = Path(__file__).parents[1] / "scripts" / "bench.py"
    ended = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    for section in ("memory", "train", "prefill", "scaling", "decode", "peak", "graph"):
        assert section in ended.stdout
