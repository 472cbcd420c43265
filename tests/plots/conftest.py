"""Every chart is drawn in the package's look."""

from collections.abc import Iterator

import altair as alt
import pytest

from titans_mlx import plots


@pytest.fixture(autouse=True)
def theme() -> Iterator[None]:
    """The package's look, for one test."""
    before = alt.theme.active
    plots.use_theme()
    yield
    alt.theme.enable(before)
