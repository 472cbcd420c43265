"""Forecasters of time series: blocks of this package over patches, and a linear baseline.

Both see one channel at a time (the same weights for all) and forecast the whole horizon at once.
"""

import mlx.core as mx
import mlx.nn as nn

from titans_mlx._check import check_count, check_finite, check_float, check_rank, check_type
from titans_mlx.blocks import BLOCKS
from titans_mlx.config import TitansConfig

SMALLEST_SPREAD = 1e-4


class Forecaster(nn.Module):
    """Patches of the past as tokens, blocks over them, and a linear map of the last token to the future.

    A window is first brought to mean 0 and spread 1, and the forecast back (instance normalisation), so that a level
    never seen before is no harder than another.

    Args:
        config: of the blocks; its vocabulary is not used.
        lookback: steps seen, a multiple of ``patch``.
        horizon: steps to forecast.
        patch: steps in a token.

    Raises:
        ValueError: if a number is below 1, or ``patch`` does not divide ``lookback``.
    """

    def __init__(self, config: TitansConfig, lookback: int, horizon: int, patch: int = 16) -> None:
        super().__init__()
        check_type("config", config, TitansConfig)
        _check_spans(lookback, horizon)
        check_count("patch", patch)
        if lookback % patch:
            raise ValueError(f"patch must divide lookback={lookback}, got {patch}")
        self.lookback, self.patch = lookback, patch
        self.embed = nn.Linear(patch, config.dim)
        self.layers = [BLOCKS[config.variant](config) for _ in range(config.num_layers)]
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, horizon)

    def __call__(self, past: mx.array) -> mx.array:
        """Past (B, lookback) float -> forecast (B, horizon).

        Raises:
            ValueError: if ``past`` has another shape or dtype, or a NaN or infinity.
        """
        _check_past(past, self.lookback)
        mean = past.mean(1, keepdims=True)
        spread = mx.sqrt(past.var(1, keepdims=True) + SMALLEST_SPREAD)
        x = self.embed(((past - mean) / spread).reshape(past.shape[0], -1, self.patch))
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(self.norm(x[:, -1])) * spread + mean


class LinearForecaster(nn.Module):
    """DLinear (Zeng et al. 2023): a moving average and what is left of it, each mapped linearly to the future.

    Args:
        lookback: steps seen.
        horizon: steps to forecast.
        window: odd width of the moving average, the ends repeated.

    Raises:
        ValueError: if a number is below 1, or ``window`` is even.
    """

    def __init__(self, lookback: int, horizon: int, window: int = 25) -> None:
        super().__init__()
        _check_spans(lookback, horizon)
        check_count("window", window)
        if window % 2 == 0:
            raise ValueError(f"window must be odd, got {window}")
        self.lookback, self.window = lookback, window
        self.trend, self.rest = nn.Linear(lookback, horizon), nn.Linear(lookback, horizon)

    def __call__(self, past: mx.array) -> mx.array:
        """Past (B, lookback) float -> forecast (B, horizon).

        Raises:
            ValueError: if ``past`` has another shape or dtype, or a NaN or infinity.
        """
        _check_past(past, self.lookback)
        half, level = self.window // 2, past.mean(axis=1, keepdims=True)
        # Running sums of a level far from 0 would lose the digits of what moves around it.
        past = past - level
        ends = [mx.repeat(past[:, :1], half, axis=1), past, mx.repeat(past[:, -1:], half, axis=1)]
        sums = mx.cumsum(mx.pad(mx.concatenate(ends, axis=1), ((0, 0), (1, 0))), axis=1)
        trend = (sums[:, self.window :] - sums[:, : -self.window]) / self.window
        return self.trend(trend + level) + self.rest(past - trend)


def _check_spans(lookback: int, horizon: int) -> None:
    check_count("lookback", lookback)
    check_count("horizon", horizon)


def _check_past(past: mx.array, lookback: int) -> None:
    check_rank("past", past, 2, "(B, lookback)")
    check_float("past", past)
    if past.shape[1] != lookback or past.shape[0] == 0:
        raise ValueError(f"past must have shape (B, {lookback}) with B >= 1, got {past.shape}")
    check_finite("past", past)
