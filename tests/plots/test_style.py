"""Every model has a look of its own, and only ``plots`` knows altair."""

import ast
from pathlib import Path

import pytest

import titans_mlx
from titans_mlx import plots
from titans_mlx.claims import CLAIMS, capacity, depth, frozen, throughput
from titans_mlx.claims.language import FADING
from titans_mlx.claims.recall_jobs import TITANS, model_configs
from titans_mlx.plots.style import FIXED, OTHERS, SAME

PACKAGE = Path(titans_mlx.__file__).parent


def test_every_model_of_the_claim_has_a_style_of_its_own() -> None:
    assert list(plots.STYLES) == [*model_configs(130), "DLinear", *FADING, frozen.FADING]
    colours, _, shapes = zip(*plots.STYLES.values(), strict=True)
    assert len(set(colours)) == len(colours)
    assert len(set(zip(colours, shapes, strict=True))) == len(shapes)
    assert all((dash == plots.SOLID) is (name in TITANS) for name, (_, dash, _) in plots.STYLES.items())


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.id)
def test_no_two_models_of_a_claim_look_alike_and_none_changes_with_its_company(claim) -> None:
    models = list(dict.fromkeys(job.settings.get("model") for job in claim.jobs("full")))
    names = [name for name in models if name not in (None, depth.COST, throughput.FORM, capacity.HAND)]
    known = plots.STYLES | FIXED
    assert set(names) <= known.keys(), "a style by turns depends on what else is shown"
    # A memory goes by the name of the model that it is, where both cannot be meant.
    looks = {known[name][0::2] for name in names}
    assert len(looks) == len({SAME.get(name, name) for name in names})
    assert not {style[0] for style in OTHERS} & {style[0] for style in plots.STYLES.values()}


def imports(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {
        name.split(".")[0] for name in plain | {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    }


def test_only_plots_knows_altair_and_nothing_knows_marimo() -> None:
    used = {path.relative_to(PACKAGE).as_posix(): imports(path) for path in PACKAGE.rglob("*.py")}
    assert {name.split("/")[0] for name, modules in used.items() if "altair" in modules} == {"plots"}
    assert not [name for name, modules in used.items() if "marimo" in modules]
