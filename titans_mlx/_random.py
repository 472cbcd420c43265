"""MLX's random state of this thread, set and kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx


def set_random_state(state: mx.array) -> None:
    """Make ``state``, (2,) uint32, this thread's random state."""
    # A seed is the 64 bits of the key it makes, so any state can be set as one.
    high, low = state.tolist()
    mx.random.seed((high << 32) | low)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """What is drawn within changes nothing of what is drawn afterwards."""
    before = mx.array(mx.random.state[0])
    try:
        yield
    finally:
        set_random_state(before)
