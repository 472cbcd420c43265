"""Pictures of a memory and of attention at work."""

from pathlib import Path

import pytest

from titans_mlx import plots

from .charts import words, work


def test_heatmap_names_tokens_and_memories(tmp_path: Path) -> None:
    shown = words(plots.memory_heatmap(work(blocks=2)), tmp_path)
    for word in ("k3", "v12", "f7", "block 1, head 1", "block 2, head 2", "0.3"):
        assert word in shown
    assert sum(word.split(":")[0] in ("Surprise", "Movement") for word in shown) == 2


def test_heatmap_names_only_what_tells_memories_apart(tmp_path: Path) -> None:
    assert "head 2" in words(plots.memory_heatmap(work()), tmp_path)
    assert "head 1, layer 2" in words(plots.memory_heatmap(work(layers=2)), tmp_path)
    assert "layer 2" in words(plots.memory_heatmap(work(heads=1, layers=2)), tmp_path)


def test_heatmap_of_a_memory_without_decay(tmp_path: Path) -> None:
    assert "Decay alpha: share of the old weights that is forgotten" in words(
        plots.memory_heatmap(work(alpha=0.0)), tmp_path
    )
    with pytest.raises(ValueError, match="rows must not be empty"):
        plots.memory_heatmap([])


def test_a_strip_shows_a_text(tmp_path: Path) -> None:
    rows = [
        {"position": place, "token": token, "nll": 1.0, "surprise": 2.0, "written": 0.1}
        for place, token in enumerate(("k", "·", "x"))
    ]
    chart = plots.token_strip(rows)
    drawn = words(chart, tmp_path)
    assert {"k", "·", "x", "Token read"} <= set(drawn) and sum("nats" in word for word in drawn) == 1
    assert chart.to_dict()["vconcat"][-1]["encoding"]["x"]["axis"]["labelColor"] == "#222222", "a letter is no key"
    wide = plots.token_strip([{**row, "token": str(10 + row["position"])} for row in rows])
    angles = [each.to_dict()["vconcat"][-1]["encoding"]["x"]["axis"]["labelAngle"] for each in (chart, wide)]
    assert angles == [0, -90], "words of several letters stand upright"
    with pytest.raises(ValueError, match="rows must not be empty"):
        plots.token_strip([])


def test_bits_of_a_text_before_and_after(tmp_path: Path) -> None:
    rows = [
        {"model": state, "position": place, "token": token, "bits": 1.5 * place + (state == "after")}
        for state in ("before", "after")
        for place, token in enumerate("k·x")
    ]
    drawn = words(plots.bits_chart(rows), tmp_path)
    assert {"k", "·", "x", "before", "after", "a guess", "Bits of the byte", "Byte to predict"} <= set(drawn)
    strip = words(plots.text_strip(rows[:3]), tmp_path)
    assert {"k", "·", "x", "Token read"} <= set(strip) and any("how little it was expected" in word for word in strip)
    for chart in (plots.bits_chart, plots.text_strip):
        with pytest.raises(ValueError, match="rows must not be empty"):
            chart([])


def test_attention_is_drawn_part_by_part(tmp_path: Path) -> None:
    rows = [
        {"row": 0, "token": "k1", "part": "persistent", "column": 0, "seen": "p1", "weight": 0.25},
        {"row": 0, "token": "k1", "part": "segment", "column": 0, "seen": "k1", "weight": 0.75},
    ]
    chart = plots.attention_chart(rows, ("persistent", "retrieved", "segment"))
    assert len(chart.hconcat) == 2
    assert {"Persistent", "Segment", "p1", "k1", "Weight"} <= set(words(chart, tmp_path))
    with pytest.raises(ValueError, match="rows must not be empty"):
        plots.attention_chart([], ())
