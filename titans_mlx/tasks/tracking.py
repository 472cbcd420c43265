"""State tracking: what a product of many moves amounts to, after each of them."""

from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations
from typing import Literal, get_args

import numpy as np

from titans_mlx._check import check_count, set_count
from titans_mlx._config import choose
from titans_mlx.tasks.batch import Batch, Seed, as_rng

Group = Literal["parity", "mod5", "s5"]


@dataclass(frozen=True)
class TrackingTask:
    """Random moves of a group; the answer at a token is the product of all moves up to it.

    ``parity``: bits, added modulo 2. ``mod5``: the numbers 0 to 4, added modulo 5. ``s5``: the identity and the ten
    transpositions of five things, composed; the answer is one of 120 permutations. S5 is not solvable: tracking it is
    complete for NC1, which is believed to lie beyond TC0, the class of Transformers and of diagonal linear recurrences.

    Ids are moves, then states.

    >>> batch = TrackingTask(group="mod5", length=6).sample(1, seed=2)
    >>> print(batch.tokens[0], batch.answers[0] - 5)
    [4 1 0 1 2 4] [4 0 0 1 3 2]

    Attributes:
        group: of the moves.
        length: moves in a sequence.
        asked: how many of the last tokens are asked; 0: all.
    """

    group: Group = "parity"
    length: int = 32
    asked: int = 0

    def __post_init__(self) -> None:
        choose("group", self.group, get_args(Group))
        set_count(self, "length", 1)
        set_count(self, "asked", 0)
        if self.asked > self.length:
            raise ValueError(f"asked must be at most length={self.length}, got {self.asked}")

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return sum(table(self.group).shape)

    @property
    def chance(self) -> float:
        """Accuracy of a guess among all states."""
        return 1 / len(table(self.group))

    def sample(self, batch: int, seed: Seed) -> Batch:
        """Sequences of ``length`` moves.

        Raises:
            ValueError: ``batch`` < 1 or a bad ``seed``.
        """
        check_count("batch", batch)
        moves = table(self.group)
        tokens = as_rng(seed).integers(moves.shape[1], size=(batch, self.length), dtype=np.int32)
        state, states = np.zeros(batch, dtype=np.int32), np.empty_like(tokens)
        for step in range(self.length):
            states[:, step] = state = moves[state, tokens[:, step]]
        mask = np.zeros(tokens.shape, dtype=np.float32)
        mask[:, -self.asked :] = 1
        return Batch(tokens, states + np.int32(moves.shape[1]), mask)


@cache
def table(group: Group) -> np.ndarray:
    """The state after each move from each state, (states, moves) int32; state 0 and move 0 are the identity."""
    if group != "s5":
        size = {"parity": 2, "mod5": 5}[group]
        return np.add.outer(np.arange(size), np.arange(size)).astype(np.int32) % size
    states = {order: index for index, order in enumerate(permutations(range(5)))}
    after = []
    for order in states:
        moved = [order]
        for first, second in combinations(range(5), 2):
            swapped = list(order)
            swapped[first], swapped[second] = order[second], order[first]
            moved.append(tuple(swapped))
        after.append([states[m] for m in moved])
    return np.array(after, dtype=np.int32)
