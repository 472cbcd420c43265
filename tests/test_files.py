"""Files that are whole or absent, whoever writes them."""

import json
import math
import sys
import threading
from collections.abc import Callable

import pytest

from titans_mlx.training.files import replacing, write_json, write_text


def in_threads(work: Callable[[str], None], letters: str) -> list[Exception]:
    """What went wrong in a thread for each letter."""
    failed: list[Exception] = []

    def guarded(letter: str) -> None:
        try:
            work(letter)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(letter,)) for letter in letters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def test_threads_that_write_one_file_take_turns(tmp_path):
    path = tmp_path / "x.txt"

    def write(letter: str) -> None:
        for _ in range(50):
            write_text(path, letter * 1000)

    assert not in_threads(write, "abc") and path.read_text() in {letter * 1000 for letter in "abc"}
    assert [found.name for found in tmp_path.iterdir()] == ["x.txt"]


def test_threads_take_turns_at_the_first_write_of_a_file_too(tmp_path):
    together = threading.Barrier(4, timeout=30)

    def write(letter: str) -> None:
        for count in range(400):
            together.wait()
            write_text(tmp_path / f"{count}.txt", letter * 1000)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        assert not in_threads(write, "abcd")
    finally:
        sys.setswitchinterval(interval)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "config.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": math.nan})
    with pytest.raises(RuntimeError, match="half way"), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
