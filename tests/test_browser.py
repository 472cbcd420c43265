"""Notebooks in a real browser: they open, nothing complains, and the main control changes a chart."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import browser
import pytest

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


@pytest.fixture(scope="module")
def folder(smoke_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebooks beside results of their own."""
    copied = tmp_path_factory.mktemp("notebooks") / "notebooks"
    shutil.copytree(FOLDER, copied, ignore=shutil.ignore_patterns("results", "__pycache__", "__marimo__"))
    shutil.copytree(smoke_results, copied / "results")
    return copied


@pytest.fixture
def url(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """Where a notebook is served, as the README's command serves it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "run", str(folder / f"{request.param}.py"), "--headless", "--no-token"]
    server = subprocess.Popen([*command, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

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


@pytest.mark.parametrize(("url", "name"), [(name, name) for name in CONTROLS], indirect=["url"])
def test_it_opens_and_its_control_changes_a_chart(url: str, name: str, tmp_path: Path) -> None:
    with browser.opened(url, tmp_path / "profile") as page:
        seconds = browser.wait_for(lambda: "How to read this" in page.text() and page.charts(), 60)
        print(f"{name}: {seconds:.1f} s")
        before = page.settled()
        CONTROLS[name](page)
        browser.wait_for(lambda: page.charts() not in (before, []), 60)
        assert not page.complaints, page.complaints
