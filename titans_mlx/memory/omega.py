"""The Omega rule (ATLAS): a write descends the losses of the last ``omega`` tokens, not of one.

    S_t = eta_t S_{t-1} - theta_t (u_t + sum_{t-omega<i<t} gamma_i u_i)

with ``gamma_i`` in (0, 1) the share by which token i counts later, and every ``u_i`` taken at the present anchor:
tokens of the chunk before are therefore looked at again, and a state carries their keys, values and shares. Of a
chunk's coefficients only those of its writes change, by one product with a band matrix of shares.
"""

from typing import NamedTuple

import mlx.core as mx

from titans_mlx._split import split
from titans_mlx.config import MemoryConfig
from titans_mlx.memory.learner import Coefficients, Gates
from titans_mlx.memory.state import MemoryState


class Written(NamedTuple):
    """What is written: keys and values (B, H, past + T, d) and shares (B, H, past + T, 1), None where ``omega`` is 1.

    The first ``past = omega - 1`` are those of the tokens before.
    """

    k: mx.array
    v: mx.array
    share: mx.array | None

    def pieces(self, bounds: list[int], past: int) -> "list[Written]":
        """Those of tokens ``bounds[i]`` to ``bounds[i + 1]``, each with the ``past`` before it."""
        cuts = [past + bound for bound in bounds[1:-1]]
        if not past:
            return [Written(k, v, None) for k, v in zip(*(split(x, cuts, axis=2) for x in self[:2]), strict=True)]
        return [Written(*parts) for parts in zip(*(_overlapping(x, [past, *cuts], past) for x in self), strict=True)]

    def recent(self, past: int, length: int | mx.array) -> tuple[mx.array, ...]:
        """The ``past`` tokens before token ``length``, an int or one per row (B,): a state's ``recent``."""
        if not past:
            return ()
        if isinstance(length, int):
            # Copied: a view would keep the keys and values of a whole call alive.
            return tuple(mx.contiguous(x[:, :, length : length + past]) for x in self)
        index = (length[:, None] + mx.arange(past))[:, None, :, None]
        return tuple(mx.take_along_axis(x, index, axis=2) for x in self)


def _overlapping(x: mx.array, cuts: list[int], past: int) -> list[mx.array]:
    """Pieces of x (B, H, T, d) between cuts, each after the first with the ``past`` tokens before it."""
    before, *pieces = split(x, cuts, axis=2)
    joined = []
    for piece in pieces:
        joined.append(mx.concatenate([before, piece], axis=2))
        before = joined[-1][:, :, -past:]
    return joined


def written(config: MemoryConfig, state: MemoryState, k: mx.array, v: mx.array, gates: Gates) -> tuple[Written, Gates]:
    """What a call writes, those before it in front, and the gates without the shares."""
    if config.omega == 1:
        return Written(k, v, None), gates
    pairs = zip(state.recent, (k, v, gates.share.swapaxes(2, 3)), strict=True)
    return Written(*(mx.concatenate(pair, axis=2) for pair in pairs)), gates._replace(share=None)


def widened(co: tuple[Coefficients, ...], share: mx.array | None) -> tuple[Coefficients, ...]:
    """A chunk's coefficients for b slots with writes of ``past + b`` tokens, given their shares (B, H, past + b, 1)."""
    return co if share is None else tuple(_widened(layer, share) for layer in co)


def _widened(co: Coefficients, share: mx.array) -> Coefficients:
    size, past = co.step.shape[-2], share.shape[2] - co.step.shape[-2]
    lag = mx.arange(size)[:, None] - mx.arange(-past, size)[None]
    counted = mx.where(lag == 0, 1, share.swapaxes(-1, -2))
    band = co.step * mx.where((lag >= 0) & (lag <= past), counted, 0)
    across = band if co.writes.ndim == band.ndim else band[:, :, None]

    def spread(rows: mx.array | None, band: mx.array) -> mx.array | None:
        return None if rows is None else band.swapaxes(-1, -2) @ rows

    return co._replace(
        step=mx.ones_like(share),
        writes=co.writes @ across,
        last_writes=spread(co.last_writes, across),
        momentum_writes=spread(co.momentum_writes, band),
        carried=None if co.carried is None else _carried(co.carried, band, size),
    )


def _carried(carried: mx.array, band: mx.array, size: int) -> mx.array:
    """Momentum from what was carried, if anything, and from the gradients of all tokens looked at."""
    old, new = mx.split(carried, [carried.shape[-1] - size], axis=-1)
    return mx.concatenate([old, new @ band], axis=-1)
