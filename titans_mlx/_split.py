"""Cutting an array into many pieces at a cost, gradient included, that is linear in its size; and joining them."""

import mlx.core as mx

# Beyond ten pieces mx.split slices one by one, and every slice's gradient is an array of the full size.
WAYS = 8


def split(x: mx.array, cuts: int | list[int], axis: int) -> list[mx.array]:
    """As ``mx.split``: ``cuts`` equal pieces, or a piece before each index in ``cuts`` and one after the last.

    A tree of splits of at most eight pieces each.
    """
    if isinstance(cuts, int):
        width = x.shape[axis] // cuts
        cuts = [width * piece for piece in range(1, cuts)]
    pieces = len(cuts) + 1
    if pieces <= WAYS:
        return mx.split(x, cuts, axis=axis)
    per_branch = -(-pieces // WAYS)
    ends = cuts[per_branch - 1 :: per_branch]
    parts = []
    for index, (start, branch) in enumerate(zip([0, *ends], mx.split(x, ends, axis=axis), strict=True)):
        inner = cuts[index * per_branch : (index + 1) * per_branch - 1]
        parts += split(branch, [cut - start for cut in inner], axis)
    return parts


def joined(pieces: list[mx.array], axis: int) -> mx.array:
    """The pieces as one array; one piece is not copied."""
    return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces, axis=axis)
