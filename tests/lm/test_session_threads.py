"""Sessions over threads: each is what it is alone, wherever it was fed or loaded."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from titans_mlx import Titans
from titans_mlx.lm import MemorySession

from .conftest import TEXT, same

GetModel = Callable[[str], Titans]


def test_sessions_over_threads_are_bit_for_bit_what_each_is_alone(model_of: GetModel) -> None:
    """32 sessions, each fed and asked in turns, on 4 threads of 8 that take turns among their own."""
    model = model_of("mac")
    texts = [[TEXT[start : start + 11 + start % 5] for start in range(first, first + 60, 20)] for first in range(32)]

    def step(session: MemorySession, text: str) -> str:
        session.feed(text)
        return session.generate("and ", 3, temperature=0.8, seed=len(text))

    alone = []
    for own in texts:
        session = MemorySession(model)
        alone.append((session, [step(session, text) for text in own]))
    together = [(MemorySession(model), []) for _ in texts]

    def work(worker: int) -> None:
        for turn in range(3):
            for index in range(worker, 32, 4):
                session, answers = together[index]
                answers.append(step(session, texts[index][turn]))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (session, answers), (other, others) in zip(alone, together, strict=True):
        assert answers == others and same(session, other)


@pytest.mark.parametrize("name", ["mac", "mag", "sliding_window"])
def test_what_one_thread_loaded_another_may_use(name: str, model_of: GetModel, tmp_path: Path) -> None:
    path, text = tmp_path / "memory.safetensors", TEXT[:5]
    first = MemorySession(model_of(name))
    first.feed(text)
    first.save(path)
    loaded = MemorySession(model_of(name))
    loaded.load(path)
    with ThreadPoolExecutor() as pool:
        assert pool.submit(loaded.generate, "and ", 5).result() == first.generate("and ", 5)
    assert same(first, loaded)
