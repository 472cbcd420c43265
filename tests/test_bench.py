"""The measuring itself: turns are taken, what is unequal is refused, graphs and processes are weighed."""

import json
import subprocess
import sys
import time
from math import prod
from pathlib import Path

import mlx.core as mx
import pytest

from titans_mlx.bench import Timing, by_turns, ours, peak_megabytes, primitives
from titans_mlx.bench.cost import counted, flops, model_flops
from titans_mlx.bench.ours import config
from titans_mlx.bench.sections import SECTIONS, compared, crossing_length, flops_crossing
from titans_mlx.bench.store import COST, MEASURED, origin, store, write_page
from titans_mlx.memory import recipes


def test_turns_are_taken() -> None:
    done: list[str] = []
    timings = by_turns({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, repeats=2, warmup=1)
    assert done == ["a", "b"] * 3
    assert all(len(timing.seconds) == 2 for timing in timings.values())
    with pytest.raises(ValueError, match="repeats must be an integer >= 1, got 0"):
        by_turns({}, repeats=0)


def test_a_ratio_needs_the_other_work() -> None:
    works = {"ours": lambda: None, "shared_gates": lambda: None}
    row = compared("a step", works, 2, 10, 2.0)
    assert {"ours_ms", "shared_gates_ms", "tokens_per_second"} < row.keys() and "ratio" not in row
    row = compared("a step", works | {"peer": lambda: time.sleep(0.01)}, 2, 10, 2.0)
    assert row["to_reach"] == 2.0 and row["ratio"] == pytest.approx(row["peer_ms"] / row["ours_ms"])


def test_median_and_spread() -> None:
    timing = Timing((1.0, 4.0, 2.0))
    assert timing.median == 2.0 and timing.fastest == 1.0
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


def bench(*arguments: str) -> str:
    script = Path(__file__).parents[1] / "scripts" / "bench.py"
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=True).stdout


def test_the_command_says_what_it_does() -> None:
    assert "report" in bench("--help")
    assert all(section in bench("run", "--help") for section in SECTIONS)


def test_a_section_is_stored_and_shown(tmp_path: Path) -> None:
    out, page = tmp_path / "bench.json", tmp_path / "SPEED.md"
    for ratio in (3.0, 4.5):
        store(
            out, "decode", [{"measure": "decode", "near_ms": 2.0, "ratio": ratio, "to_reach": 1.05}], origin("cpu", 5)
        )
    store(out, "graph", [{"measure": "graph", "forward_per_token": 7.2}], origin("cpu", 5))
    stored = json.loads(out.read_text())
    assert list(stored) == ["decode", "graph"]
    assert stored["graph"]["provenance"]["source_hash"] and stored["decode"]["rows"][0]["ratio"] == 4.5
    page.write_text(" ".join(["before", *MEASURED, "between", *COST, "after"]))
    write_page(page, out)
    text = page.read_text()
    assert "| decode | near ms 2 | 4.5 | 1.05 |" in text and "| graph | forward per token 7.2 |  |  |" in text
    assert "Sections decode, graph: " in text and "| transformer |" in text
    assert text.startswith("before ") and text.endswith(" after")


def test_the_page_follows_from_what_is_stored(tmp_path: Path) -> None:
    notebooks = Path(__file__).parents[1] / "notebooks"
    copy = tmp_path / "SPEED.md"
    copy.write_text((notebooks / "SPEED.md").read_text(encoding="utf-8"), encoding="utf-8")
    write_page(copy, notebooks / "results" / "bench.json")
    assert copy.read_text() == (notebooks / "SPEED.md").read_text(), "run: python scripts/bench.py report"


@pytest.mark.parametrize(
    ("faster", "expected"), [((2.0, 3.0, 4.0), 10), ((0.5, 2.0, 4.0), 10**0.5 * 10), ((0.1, 0.2, 0.4), None)]
)
def test_where_two_curves_cross(faster: tuple[float, ...], expected: float | None) -> None:
    found = crossing_length((10, 100, 1000), faster)
    assert found == (None if expected is None else pytest.approx(expected))


def test_flops_cross_where_the_formulas_agree() -> None:
    length = flops_crossing(config("mag"))
    assert model_flops(config("transformer"), length) == pytest.approx(model_flops(config("mag"), 65_536))


def test_what_is_timed_alone_has_the_work_of_the_whole() -> None:
    layer, x = ours.memory(recipes.titans(chunk_size=4)), ours.features(1, 8)
    with counted() as found:
        layer(mx.array(x))
    shapes = [ours.product_shapes(layer, x, backward) for backward in (False, True)]
    assert [sum(2 * prod(a) * b[-1] for a, b in pairs) for pairs in shapes] == [flops(found), 3 * flops(found)]
    for work in (ours.products_alone(layer, x), ours.products_alone(layer, x, backward=True)):
        work()
    ours.activations_alone(layer, x)()
    assert set(ours.parts(layer, x)) == {"projections", "coefficients", "read_out"}
    for part in ours.parts(layer, x).values():
        part()
    assert ours.gradient_error(layer, layer, x) == 0
    assert ours.peak_of_arrays(lambda: mx.eval(mx.ones((1000, 1000)) + 1)) >= 4
