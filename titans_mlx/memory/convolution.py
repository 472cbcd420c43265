"""The short causal depthwise convolution after the q, k and v projections (NeurIPS version, section 3.3: size 4)."""

import mlx.core as mx
import mlx.nn as nn

from titans_mlx.config import ConvBirth


class ShortConv(nn.Module):
    """``y_t = sum_j w_j x_{t-j}`` per channel, j = 0 ... size - 1, its past carried from call to call.

    Args:
        dim: channels.
        size: taps.
        birth: ``uniform``: U(-size^-1/2, size^-1/2), PyTorch's default; ``identity``: 1 at lag 0 plus small noise;
            ``lag``: 1 at lag 1 and 0.1 at lag 0.
    """

    def __init__(self, dim: int, size: int, birth: ConvBirth | str) -> None:
        super().__init__()
        self.size = size
        if birth == "uniform":
            self.weight = mx.random.uniform(-(size**-0.5), size**-0.5, (size, dim))
        else:
            taps = {"identity": {0: 1.0}, "lag": {0: 0.1, 1: 1.0}}[birth]
            centre = mx.array([taps.get(lag, 0.0) for lag in range(size)])
            self.weight = centre[:, None] + 0.02 * mx.random.normal((size, dim))

    def birth_tail(self, batch_size: int) -> mx.array:
        """The tail before any token, zeros (B, size - 1, dim)."""
        return mx.zeros((batch_size, self.size - 1, self.weight.shape[1]), dtype=self.weight.dtype)

    def __call__(
        self, x: mx.array, tail: mx.array, lengths: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """Convolve x (B, T, dim) after ``tail`` (B, size - 1, dim); the new tail ends at each row's last real token."""
        length, kept = x.shape[1], self.size - 1
        past = mx.concatenate([tail.astype(x.dtype), x], axis=1)
        y = sum(self.weight[lag] * past[:, kept - lag : kept - lag + length] for lag in range(self.size))
        if lengths is None:
            return y, past[:, length:]
        last = lengths[:, None] + mx.arange(kept)[None, :]
        return y, mx.take_along_axis(past, last[:, :, None], axis=1)
