"""Queries, keys and values of a memory, from its inputs: projections, convolutions, what the memory sees of a key."""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._cpu import silu
from titans_mlx._joint import linears
from titans_mlx.convolution import ShortConv, convolve, qkv_convolutions
from titans_mlx.memory import structure
from titans_mlx.memory.gates import Gating
from titans_mlx.memory.learner import Gates, implicit_step

NORMALISE_EPS = 1e-6


class Inputs(NamedTuple):
    """What the memory absorbs: q, k, v (B, H, T, d) float32 and the gates."""

    q: mx.array
    k: mx.array
    v: mx.array
    gates: Gates


class Projecting(Gating):
    """The projections and convolutions, for a module with ``config``, ``dim`` and ``num_heads``."""

    def _make_projections(self) -> None:
        config, dim = self.config, self.dim
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        if config.conv_size:
            self.q_conv, self.k_conv, self.v_conv = qkv_convolutions(dim, config.conv_size, config.conv_birth)

    def query(self, x: mx.array, tail: mx.array | None) -> tuple[mx.array, mx.array | None]:
        """Queries (B, H, T, d) float32 of x (B, T, dim), and the new tail of their convolution."""
        tails = () if tail is None else (tail,)
        q, tails = self._streams("q", x, tails)
        return self._as_keys(q), tails[0] if tails else None

    def project(
        self, x: mx.array, tails: tuple[mx.array, ...], lengths: mx.array | None = None, changed: bool = True
    ) -> tuple[Inputs, tuple[mx.array, ...]]:
        """Queries, keys, values and gates of x (B, T, dim), and the new tails of the convolutions.

        ``changed``: gates as ``change_gates`` makes them.
        """
        streams, tails = self._streams("qkv", x, tails, lengths)
        qk, v = mx.split(streams, [2 * self.num_heads], axis=1)
        q, k = mx.split(self._as_keys(qk), 2, axis=1)
        gates = self.gates(x, changed)
        if self.config.implicit_step:
            gates = gates._replace(step=implicit_step(gates.step, k))
        return Inputs(q, k, v, gates), tails

    def _convs(self) -> list[ShortConv]:
        return [self.q_conv, self.k_conv, self.v_conv] if self.config.conv_size else []

    def _streams(
        self, names: str, x: mx.array, tails: tuple[mx.array, ...], lengths: mx.array | None = None
    ) -> tuple[mx.array, tuple[mx.array, ...]]:
        """Projected, convolved and activated x, (B, streams * H, T, d) float32, and the new tails."""
        x = linears(x, [self[f"{name}_proj"] for name in names])
        if self.config.conv_size:
            x, tails = convolve([self[f"{name}_conv"] for name in names], x, tails, lengths)
        x = silu(x).astype(mx.float32)
        return x.reshape(*x.shape[:2], len(names) * self.num_heads, -1).swapaxes(1, 2), tails

    def _as_keys(self, x: mx.array) -> mx.array:
        """Keys or queries (..., d) normalised, with their products where the memory sees those."""
        if self.config.qk_norm:
            x = x * mx.rsqrt((x * x).sum(-1, keepdims=True) + NORMALISE_EPS)
        return structure.features(self.config, x)
