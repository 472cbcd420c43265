"""Charts say what the rows say, in marks that can be told apart, and only ``plots`` knows altair."""

import ast
import re
from pathlib import Path

import altair as alt
import pytest

import titans_mlx
from titans_mlx import plots
from titans_mlx.claims.recall_jobs import SLIDING, TITANS, model_configs

PACKAGE = Path(titans_mlx.__file__).parent
MODELS = ("LMM matrix", "RetNet", SLIDING)
GATES = ("surprise", "alpha", "eta", "theta", "movement")


@pytest.fixture(autouse=True)
def theme():
    """The package's look, for one test."""
    before = alt.theme.active
    plots.use_theme()
    yield
    alt.theme.enable(before)


def summary(models=MODELS, setting="few", option="paper", distances=(256, 1024, 65_536)):
    """Rows as ``summarise`` gives them, with accuracies that tell them apart."""
    return [
        {
            "setting": setting,
            "model": model,
            "option": option,
            "distance": distance,
            "accuracy": 0.9 - 0.1 * index,
            "low": 0.8 - 0.1 * index,
            "high": 0.95 - 0.1 * index,
            "seeds": 3,
            "answers": 768,
            "chance": 0.02,
            "trained_length": 1024,
            "parameters": 114_000,
            "seconds_per_sequence": 1e-4 * distance,
            "peak_megabytes": 30.0 + index,
            "filler_step": None,
        }
        for index, model in enumerate(models)
        for distance in distances
    ]


def work(blocks=1, heads=2, layers=1, **values):
    """Rows as ``trace_rows`` gives them for three tokens."""
    fields = dict(zip(GATES, (2.0, 0.001, 0.5, 0.1, 0.3), strict=True)) | values
    return [
        {"position": t, "token": token, "block": block + 1, "head": head + 1, "layer": layer + 1, **fields}
        for block in range(blocks)
        for head in range(heads)
        for layer in range(layers)
        for t, token in enumerate(["k3", "v12", "f7"])
    ]


def values(chart) -> list[dict]:
    """Every row of data in a chart."""

    def walk(node):
        if isinstance(node, dict):
            if isinstance(node.get("data"), dict):
                yield from node["data"]["values"]
            for child in node.values():
                yield from walk(child)
        elif isinstance(node, list):
            for child in node:
                yield from walk(child)

    return list(walk(chart.to_dict()))


def words(chart, folder: Path) -> list[str]:
    """Every word drawn, by rendering; a chart that Vega cannot compile fails here."""
    path = folder / "chart.svg"
    chart.save(path)
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


def test_every_model_of_the_claim_has_a_style_of_its_own():
    assert list(plots.STYLES) == [*model_configs(130), "DLinear"]
    colours, _, shapes = zip(*plots.STYLES.values(), strict=True)
    assert len(set(colours)) == len(colours)
    assert len(set(zip(colours, shapes, strict=True))) == len(shapes)
    assert all((dash == plots.SOLID) is (name in TITANS) for name, (_, dash, _) in plots.STYLES.items())


def test_an_option_is_of_titans_and_baselines_stand_beside_it():
    rows = summary() + summary(["LMM matrix"], option="write cost") + summary(setting="many")
    chosen = plots.chosen_rows(rows, "few", "write cost")
    assert {(row["model"], row["option"]) for row in chosen} == {
        ("LMM matrix", "write cost"),
        ("RetNet", "paper"),
        (SLIDING, "paper"),
    }
    assert {row["model"] for row in plots.chosen_rows(rows, "few", "paper", ["RetNet"])} == {"RetNet"}


def test_a_model_that_lacks_the_option_is_left_out_not_replaced():
    rows = summary(["LMM matrix", "MAC"]) + summary(["MAC"], option="write cost")
    assert {row["model"] for row in plots.chosen_rows(rows, "few", "write cost")} == {"MAC"}


def test_recall_chart_holds_the_rows_and_its_reference_lines(tmp_path):
    chart = plots.recall_chart(summary(), "few", title="Recall")
    drawn = [row for row in values(chart) if "accuracy" in row]
    for row in summary():
        assert {name: row[name] for name in ("model", "distance", "accuracy", "low", "high")}.items() <= next(
            d.items() for d in drawn if (d["model"], d["distance"]) == (row["model"], row["distance"])
        )
    assert {"chance": 0.02} in values(chart)
    assert {"length": 1024} in values(chart)
    shown = words(chart, tmp_path)
    axes = ["Distance (filler tokens between pair and query)", "Accuracy of recall (share of answers)"]
    for word in [*MODELS, *axes, "chance 2%", "trained up to 1,024 tokens", "65,536", "100%", "Recall"]:
        assert word in shown


def test_distances_short_of_the_training_length_leave_room_for_it(tmp_path):
    chart = plots.recall_chart(summary(distances=(16, 64)), "few")
    domains = re.findall(r"'domain': \[([\d., ]+)\], 'nice': False, 'type': 'log'", str(chart.to_dict()))
    assert set(domains) == {"16, 1024"}


def test_recall_chart_refuses_what_has_no_rows():
    with pytest.raises(ValueError, match=r"\('few', 'paper'\).*got \('many', 'paper'\)"):
        plots.recall_chart(summary(), "many")


def test_picture_shows_every_setting_and_one_legend(tmp_path):
    shown = words(plots.recall_picture(summary() + summary(setting="many")), tmp_path)
    assert "Few filler words" in shown
    assert "Many filler words" in shown
    assert shown.count("RetNet") == 1
    with pytest.raises(ValueError, match="option must be that of a row"):
        plots.recall_picture(summary(), "write cost")


def test_a_model_has_one_colour_in_every_panel():
    """Also where the panels hold unlike models, as while runs are going."""
    few = summary(("LMM matrix", "Sliding window"))
    many = summary(("LMM matrix", "MAC", "MAG", "Sliding window"), setting="many")
    found = set()

    def collect(spec):
        if isinstance(spec, dict):
            colour = spec.get("color")
            if isinstance(colour, dict) and "scale" in colour:
                found.add((tuple(colour["scale"]["domain"]), tuple(colour["scale"]["range"])))
            for value in spec.values():
                collect(value)
        elif isinstance(spec, list):
            for value in spec:
                collect(value)

    collect(plots.recall_picture(few + many).to_dict())
    ((domain, colours),) = found
    assert domain == ("LMM matrix", "MAC", "MAG", "Sliding window")
    assert list(colours) == [plots.STYLES[name][0] for name in domain]


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.cost_chart([])


def test_cost_chart_spans_whole_decades(tmp_path):
    rows = summary()
    shown = words(plots.cost_chart(rows), tmp_path)
    for word in ("Seconds per sequence", "Peak memory per sequence (MB)", "0.01", "10", "100", "RetNet"):
        assert word in shown
    assert "RetNet" not in words(plots.cost_chart(rows, legend=False), tmp_path)


def test_heatmap_names_tokens_and_memories(tmp_path):
    shown = words(plots.memory_heatmap(work(blocks=2)), tmp_path)
    for word in ("k3", "v12", "f7", "block 1, head 1", "block 2, head 2", "0.3"):
        assert word in shown
    assert sum(word.split(":")[0] in ("Surprise", "Movement") for word in shown) == 2


def test_heatmap_names_only_what_tells_memories_apart(tmp_path):
    assert "head 2" in words(plots.memory_heatmap(work()), tmp_path)
    assert "head 1, layer 2" in words(plots.memory_heatmap(work(layers=2)), tmp_path)
    assert "layer 2" in words(plots.memory_heatmap(work(heads=1, layers=2)), tmp_path)


def test_heatmap_of_a_memory_without_decay(tmp_path):
    assert "Decay alpha: share of the old weights that is forgotten" in words(
        plots.memory_heatmap(work(alpha=0.0)), tmp_path
    )
    with pytest.raises(ValueError, match="rows must not be empty"):
        plots.memory_heatmap([])


def imports(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {
        name.split(".")[0] for name in plain | {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    }


def test_only_plots_knows_altair_and_nothing_knows_marimo():
    used = {path.relative_to(PACKAGE).as_posix(): imports(path) for path in PACKAGE.rglob("*.py")}
    assert {name.split("/")[0] for name, modules in used.items() if "altair" in modules} == {"plots"}
    assert not [name for name, modules in used.items() if "marimo" in modules]


def swept(models=("LMM matrix", "MAG"), xs=(0.0, 0.5, 1.0), **fields):
    """Rows as ``lab.summarise`` gives them."""
    common = {"low": 0.4, "high": 0.6, "seeds": 3, "answers": 64, "chance": 0.02, "use": "whole", **fields}
    return [{"model": model, "x": x, "accuracy": 0.5 + x / 10, **common} for model in models for x in xs]


def marks(chart) -> list[str]:
    return [layer["mark"]["type"] for layer in chart.to_dict()["layer"] if "mark" in layer]


def test_sweep_chart_holds_its_rows_chance_and_reference(tmp_path):
    chart = plots.sweep_chart(swept(), "x", "Factor", reference=(1.0, "as trained"), levels=True, heading="theta")
    drawn = words(chart, tmp_path)
    assert {"Factor", "theta", "as trained", "chance 2%", "LMM matrix", "MAG", "0.5"} <= set(drawn)
    assert {"area", "line", "point", "rule", "text"} <= set(marks(chart))
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.sweep_chart([], "x", "Factor")


def test_sweeps_over_doubling_numbers_are_logarithmic():
    chart = plots.sweep_chart(swept(xs=(16, 64, 4096)), "x", "Distractors").to_dict()
    scale = chart["layer"][0]["encoding"]["x"]["scale"]
    assert (scale["type"], scale["base"], scale["domain"]) == ("log", 2, [16, 4096])


def test_panels_of_one_picture_share_colours():
    both, alone = swept(), swept(models=("MAG",))
    chart = plots.sweep_chart(alone, "x", "Factor", among=both).to_dict()
    assert chart["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["LMM matrix", "MAG"]


def test_names_that_are_no_models_can_be_told_apart():
    chart = plots.sweep_chart(swept(models=("b", "a", "MAG")), "x", "Factor").to_dict()
    scale = chart["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == ["MAG", "b", "a"]
    assert len(set(scale["range"])) == 3
    chart = plots.sweep_chart(swept(models=("LMM matrix", "a")), "x", "Factor").to_dict()
    assert len(set(chart["layer"][0]["encoding"]["color"]["scale"]["range"])) == 2, "no colour of a model beside it"


def test_dots_stand_under_their_condition(tmp_path):
    rows = swept(xs=(1.0,)) + swept(xs=(0.0,), use="no writes")
    chart = plots.dot_chart(rows, "use", ["whole", "no writes"])
    drawn = words(chart, tmp_path)
    assert drawn.index("whole") < drawn.index("no writes")
    assert chart.to_dict()["height"] == 2 * 64
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.dot_chart([], "use", [])


def test_a_matrix_says_its_numbers(tmp_path):
    rows = [{**row, "y": y} for y in (1, 16) for row in swept(models=("MAG",), xs=(1, 16))]
    drawn = words(plots.matrix_chart(rows, "x", "y", ("tested", "trained"), heading="MAG"), tmp_path)
    assert {"tested", "trained", "MAG", "60%"} <= set(drawn)
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.matrix_chart([], "x", "y", ("tested", "trained"))


def test_small_multiples_have_one_axis_one_chance_and_one_legend(tmp_path):
    chart = plots.small_multiples([("first", swept()), ("second", swept(models=("MAL",)))], "x", "Factor", levels=True)
    drawn = words(chart, tmp_path)
    assert [drawn.count(word) for word in ("first", "second", "chance 2%", "Accuracy (share of answers)")] == [1] * 4
    assert [drawn.count(name) for name in ("LMM matrix", "MAG", "MAL")] == [1, 1, 1]
    with pytest.raises(ValueError, match="panels must hold at least one panel"):
        plots.small_multiples([], "x", "Factor")


def measured(models=("LMM deep", "Transformer"), xs=(512, 4096)):
    return [
        {"model": model, "x": x, "rate": 10.0 * x, "low": 9.0 * x, "high": 11.0 * x} for model in models for x in xs
    ]


def test_quantities_against_length_are_on_two_logarithmic_axes(tmp_path):
    titles = ("Tokens in a sequence", "Tokens a second")
    chart = plots.length_chart(measured(), "rate", titles, heading="Training", interval=True)
    assert {*titles, "Training", "LMM deep", "Transformer"} <= set(words(chart, tmp_path))
    encoding = chart.to_dict()["layer"][-1]["encoding"]
    assert [encoding[axis]["scale"]["type"] for axis in "xy"] == ["log", "log"]
    assert marks(chart) == ["rule", "line", "point"]
    assert marks(plots.length_chart(measured(), "rate", titles)) == ["line", "point"]
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.length_chart([], "rate", titles)


def test_values_stand_beside_their_lines(tmp_path):
    rows = [
        {"model": model, "state": state, "value": 0.4, "low": 0.3, "high": 0.5, "seeds": 3}
        for model in ("MAC", "MAG")
        for state in ("trained", "untrained")
    ]
    chart = plots.value_chart(rows, "Correlation", (-1, 1), [(0, "none"), (0.2, "rule")], heading="Prose")
    assert {"MAC", "MAG", "none", "rule", "Correlation", "trained", "untrained"} <= set(words(chart, tmp_path))
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.value_chart([], "Correlation", (-1, 1), [])


def test_tenths_run_from_expected_to_unexpected(tmp_path):
    rows = [{"model": "MAC", "curve": [index / 10 for index in range(10)]}]
    chart = plots.tenth_chart(rows, heading="Prose")
    assert {"no relation", "MAC", "1", "10"} <= set(words(chart, tmp_path))
    drawn = [row["rank"] for row in values(chart) if "rank" in row][:10]
    assert drawn == rows[0]["curve"]
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.tenth_chart([])


def test_a_strip_shows_a_text(tmp_path):
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


def test_bits_of_a_text_before_and_after(tmp_path):
    rows = [
        {"model": state, "position": place, "token": token, "bits": 1.5 * place + (state == "after")}
        for state in ("before", "after")
        for place, token in enumerate("k·x")
    ]
    drawn = words(plots.bits_chart(rows), tmp_path)
    assert {"k", "·", "x", "before", "after", "a guess", "Bits of the byte", "Byte to foretell"} <= set(drawn)
    strip = words(plots.text_strip(rows[:3]), tmp_path)
    assert {"k", "·", "x", "Token read"} <= set(strip) and any("how little it was expected" in word for word in strip)
    for chart in (plots.bits_chart, plots.text_strip):
        with pytest.raises(ValueError, match="rows must not be empty"):
            chart([])


def test_lengths_name_where_training_ended(tmp_path):
    rows = [{"model": "MAC", "x": 2**power, "bits": 2.0, "trained_length": 256} for power in range(5, 13)]
    titles = ("Position (bytes, up to)", "Bits per byte")
    assert "trained up to 256 tokens" in words(
        plots.length_chart(rows, "bits", titles, log=False, reference=True), tmp_path
    )
    assert "trained up to 256 tokens" not in words(plots.length_chart(rows, "bits", titles, log=False), tmp_path)


def test_values_far_from_nought_fill_their_axis(tmp_path):
    rows = [{"model": "MAC", "state": "trained", "value": 2.2, "low": 2.1, "high": 2.3, "seeds": 3}]
    drawn = words(plots.value_chart(rows, "Bits per byte", (2.0, 2.4), [(2.25, "best baseline")]), tmp_path)
    assert "best baseline" in drawn and not {"0", "0.0", "0.5", "1.0"} & set(drawn)


def test_attention_is_drawn_part_by_part(tmp_path):
    rows = [
        {"row": 0, "token": "k1", "part": "persistent", "column": 0, "seen": "p1", "weight": 0.25},
        {"row": 0, "token": "k1", "part": "segment", "column": 0, "seen": "k1", "weight": 0.75},
    ]
    chart = plots.attention_chart(rows, ("persistent", "retrieved", "segment"))
    assert len(chart.hconcat) == 2
    assert {"Persistent", "Segment", "p1", "k1", "Weight"} <= set(words(chart, tmp_path))
    with pytest.raises(ValueError, match="rows must not be empty"):
        plots.attention_chart([], ())


def test_gains_stand_beside_nothing(tmp_path):
    common = {"accuracy": 0.5, "nats": 1.0}
    rows = [
        {"model": model, "what": what, "gain": gain, **common}
        for model, gain in (("no decay", -50.0), ("+ attention (MAC)", 2.0))
        for what in ("recall", "prose")
    ]
    chart = plots.gain_chart(rows, ["no decay", "+ attention (MAC)"], "Gain")
    drawn = words(chart, tmp_path)
    assert drawn.index("no decay") < drawn.index("+ attention (MAC)") and {"recall", "prose", "Gain"} <= set(drawn)
    assert min(row["shown"] for row in values(chart) if "shown" in row) == -20, "cut where the axis ends"
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        plots.gain_chart([], [], "Gain")
