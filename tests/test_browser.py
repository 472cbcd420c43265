"""Notebooks in a real browser: they open, nothing complains, and the main control changes a chart."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import browser
import pytest

from titans_mlx.claims import CLAIMS
from titans_mlx.claims.store import stored_rows

FOLDER = Path(__file__).parent.parent / "notebooks"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"),
]


CONTROLS: dict[str, Callable[[browser.Page], None]] = {
    "titans_claims": lambda page: page.press("slider", -1, "Home"),
    "02_copying": lambda page: page.choose(0, 1),
    "03_capacity": lambda page: page.choose(0, 1),
    "04_gating": lambda page: page.press("slider", 0, "Home"),
    "05_chunks": lambda page: page.choose(1, 3),
    "06_staleness": lambda page: page.choose(0, 1),
    "07_throughput": lambda page: page.choose(0, 1),
    "08_surprise": lambda page: page.choose(0, 1),
    "09_memory": lambda page: page.press("slider", 0, "Home"),
    "10_variants": lambda page: page.choose(0, 1),
    "11_components": lambda page: page.choose(0, 1),
    "12_series": lambda page: page.choose(0, 1),
    "13_needles": lambda page: page.choose(0, 1),
    "14_tracking": lambda page: page.choose(0, 1),
    "15_text": lambda page: page.choose(0, 1),
    "16_session": lambda page: page.press("slider", 0, "End"),
    "17_choices": lambda page: page.choose(0, 1),
    "18_family": lambda page: page.choose(0, 1),
}
"""What is done in each notebook, and must change a picture."""


SOON = 15
"""Seconds within which a notebook must show its charts, beside other tests; on a quiet machine it takes less than 5."""


@pytest.fixture(scope="module")
def folder(smoke_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebooks with their stored results; where a claim's are not complete, with those of a smoke run."""
    copied = tmp_path_factory.mktemp("notebooks") / "notebooks"
    shutil.copytree(FOLDER, copied, ignore=shutil.ignore_patterns("unfinished", "__pycache__", "__marimo__"))
    for claim in CLAIMS.values():
        if not claim.evidence and claim.judge(stored_rows(FOLDER / "results", claim)).status in (
            "unfinished",
            "not run",
        ):
            shutil.rmtree(copied / "results" / claim.id, ignore_errors=True)
            shutil.copytree(smoke_results / claim.id, copied / "results" / claim.id)
    return copied


@contextmanager
def served(path: Path, theme: str = "light") -> Iterator[str]:
    """Where a notebook is served, as the README's command serves it, on a page of a theme."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (path.parent / "pyproject.toml").write_text(f'[tool.marimo.display]\ntheme = "{theme}"\n')
    command = [sys.executable, "-m", "marimo", "run", str(path), "--headless", "--no-token", "-p", str(port)]
    server = subprocess.Popen(command, cwd=path.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    try:
        browser.wait_for(answers, 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def test_every_notebook_is_opened() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == CONTROLS.keys()


@pytest.mark.parametrize("name", CONTROLS)
def test_it_opens_and_its_control_changes_a_chart(name: str, folder: Path, tmp_path: Path) -> None:
    with served(folder / f"{name}.py") as url, browser.opened(url, tmp_path / "profile") as page:
        seconds = browser.wait_for(lambda: "How to read this" in page.text() and page.charts(), 60)
        print(f"{name}: {seconds:.1f} s")
        assert seconds < SOON
        before = page.settled()
        CONTROLS[name](page)
        browser.wait_for(lambda: page.charts() not in (before, []), 60)
        assert not page.complaints, page.complaints
        assert "An internal error occurred" not in page.text()


def test_charts_on_a_dark_page_are_those_on_a_light_one(folder: Path, tmp_path: Path) -> None:
    """The theme of a page colours what a chart's own does not: its legends were white on white."""
    pictures = []
    for theme in ("light", "dark"):
        with (
            served(folder / "17_choices.py", theme) as url,
            browser.opened(url, tmp_path / theme) as page,
        ):
            browser.wait_for(lambda page=page: len(page.charts()) > 1, 60)
            assert theme in page.evaluate("document.body.className")
            pictures.append(page.settled())
    assert pictures[0] == pictures[1]
