"""Property 14: what the README shows runs."""

import re
from pathlib import Path

import pytest

from titans_mlx.claims.report import write_table

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_claims_table_follows_from_the_stored_evidence(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
    write_table(copy, README.parent / "notebooks" / "results")
    assert copy.read_text(encoding="utf-8") == README.read_text(encoding="utf-8"), (
        "run: python scripts/claims.py report"
    )


def test_14_readme_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block, in order and in one namespace, as a reader would paste them."""
    text = README.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert blocks, "README.md shows no Python"
    assert len(blocks) == text.count("```python"), "a Python block is not closed, or is indented"
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        # Blank lines in front, so that a traceback names the README's own line.
        exec(compile("\n" * line + block[1], str(README), "exec"), namespace)
