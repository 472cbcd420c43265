"""The terminal program around a session."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_terminal_feeds_answers_keeps_and_undoes(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "session.py"
    (tmp_path / "notes.txt").write_text("a fact: the key is 7. ")
    lines = ["/surprise a", f"/feed {tmp_path}/notes.txt", "/save kept.safetensors", "the cat", "/where", "/undo"]
    lines += ["/save no/such.safetensors", "/nothing", "/surprise fact", "", "/undo", "/reset", "/where"]
    lines += ["/load kept.safetensors", "/where", "/quit", "never"]
    done = subprocess.run(
        [sys.executable, str(script), str(folder_of("mac")), "--max-tokens", "5"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    said = done.stdout.split("> ")[1:]
    assert done.returncode == 0, done.stderr
    assert said[0].startswith("nothing to go by") and said[1].startswith("22 tokens read, 22 in all")
    assert said[2].startswith("kept in") and said[4].startswith("34 tokens read") and said[5].startswith("22 tokens")
    assert said[6].startswith("! ") and said[7].startswith("! command must be one of")
    assert "bits per token" in said[8] and said[10].startswith("22 tokens") and said[12].startswith("0 tokens")
    assert said[13].startswith("22 tokens") and said[14].startswith("22 tokens") and len(said) == 16
