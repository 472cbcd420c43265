"""The terminal program around a session."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from titans_mlx import Titans
from titans_mlx.lm import MemorySession

SCRIPT = Path(__file__).parents[2] / "scripts" / "session.py"


@pytest.mark.slow
def test_the_terminal_feeds_answers_keeps_and_undoes(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a fact: the key is 7. ")
    lines = ["/surprise a", f"/feed {tmp_path}/notes.txt", "/save kept.safetensors", "the cat", "/where", "/undo"]
    lines += ["/save no/such.safetensors", "/nothing", "/surprise fact", "", "/undo", "/reset", "/where"]
    lines += ["/load kept.safetensors", "/where", "/quit", "never"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder_of("mac")), "--max-tokens", "5"],
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


def test_a_stop_ends_what_is_under_way_and_loses_nothing(
    model_of: Callable[[str], Titans], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = MemorySession(model_of("mac"))
    session.feed("a fact")
    read = model_of("mac").read

    def typed(_: str) -> str:
        line = next(lines)
        if line is None:
            raise KeyboardInterrupt
        return line

    def stopped(*given: object) -> None:
        read(*given)
        raise KeyboardInterrupt

    lines = iter(["go on", None, "/where", "/quit"])
    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr(session.model, "read", stopped)
    runpy.run_path(str(SCRIPT))["talk"](session, 5, 0.0)
    said = capsys.readouterr().out
    assert "stopped; the memory is as it was" in said and "/save FILE keeps the memory" in said
    assert session.position == 6 and "6 tokens read" in said
