"""Titans: embedding, blocks, head; caches and generation, one token at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from titans_mlx._check import check_count, check_index, check_rank, check_type
from titans_mlx.blocks import BLOCKS
from titans_mlx.config import TitansConfig
from titans_mlx.memory import Observer

Cache = list[Any]
"""One block state per layer, None before the first token. Calls replace its entries; the states are values."""


class Titans(nn.Module):
    """A causal language model; ``config.variant`` names its block.

    Args:
        config: a :class:`TitansConfig`.

    Raises:
        ValueError: if ``config`` is something else.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        check_type("config", config, TitansConfig)
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        if config.embedding_std is not None:
            self.embedding.weight = mx.random.normal(self.embedding.weight.shape, scale=config.embedding_std)
        self.layers = [BLOCKS[config.variant](config) for _ in range(config.num_layers)]
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)
        if not config.tie_embeddings:
            self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        mx.eval(self.parameters())

    def make_cache(self) -> Cache:
        """An empty cache, for streaming and generation."""
        return [None] * len(self.layers)

    def __call__(self, tokens: mx.array, cache: Cache | None = None) -> mx.array:
        """Logits of the next token at every position.

        Args:
            tokens: (B, T) int ids in ``[0, vocab_size)``, T >= 1.
            cache: from :meth:`make_cache`; on return it holds the states after ``tokens``, so that the next call
                continues. Cutting a sequence into calls anywhere changes nothing. Unchanged when an error is raised.

        Returns:
            (B, T, vocab_size) in the parameters' dtype.

        Raises:
            ValueError: if tokens have the wrong rank or dtype, are empty, or hold an id out of range (not looked for
                inside ``mx.compile``, where values cannot be seen), or the cache is of another model or batch.
        """
        self.check_tokens("tokens", tokens)
        if cache is not None:
            self.check_cache(cache, tokens.shape[0])
        return self.logits(self.hidden(tokens, cache))

    def hidden(self, tokens: mx.array, cache: Cache | None = None, observe: Observer | None = None) -> mx.array:
        """The normalised output of the last block, (B, T, dim); arguments as for a call, unchecked.

        ``observe`` is shown every write of every memory, layer by layer.
        """
        x = self.embedding(tokens)
        states = self.make_cache() if cache is None else list(cache)
        for index, layer in enumerate(self.layers):
            x, states[index] = layer(x, states[index], observe)
        if cache is not None:
            cache[:] = states
        return self.norm(x)

    def read(
        self,
        tokens: mx.array | np.ndarray,
        cache: Cache,
        piece: int = 1024,
        progress: Callable[[int], None] | None = None,
        name: str = "tokens",
    ) -> mx.array:
        """Take a long sequence into the cache, piece by piece: neither graph nor memory grows with its length.

        Args:
            tokens: (B, T) int ids, T >= 1. A memory-mapped NumPy array is read from its file as it is needed.
            cache: from :meth:`make_cache`, or what was read before; holds the states after ``tokens`` on return.
            piece: tokens evaluated at a time; changes no result.
            progress: called with the number of tokens read, after each piece.
            name: what messages call ``tokens``.

        Returns:
            Logits (B, vocab_size) after the last token.

        Raises:
            ValueError: as for a call, before anything is read; or if ``piece`` is below 1.
        """
        check_count("piece", piece)
        self._check_ids(name, tokens, piece)
        self.check_cache(cache, tokens.shape[0])
        length = tokens.shape[1]
        for start in range(0, length, piece):
            hidden = self.hidden(mx.array(tokens[:, start : start + piece]), cache)
            mx.eval(hidden, cache)
            if progress is not None:
                progress(min(start + piece, length))
        return self.logits(hidden[:, -1])

    def _check_ids(self, name: str, tokens: mx.array | np.ndarray, piece: int) -> None:
        """As :meth:`check_tokens`, a NumPy array piece by piece: it may be larger than memory."""
        if not isinstance(tokens, np.ndarray):
            self.check_tokens(name, tokens)
            return
        if tokens.ndim != 2:
            raise ValueError(f"{name} must have 2 axes (B, T), got shape {tokens.shape}")
        for start in range(0, max(1, tokens.shape[1]), piece):
            self.check_tokens(name, mx.array(tokens[:, start : start + piece]))

    def logits(self, hidden: mx.array) -> mx.array:
        """The head: (..., dim) -> (..., vocab_size)."""
        return self.head(hidden) if "head" in self else self.embedding.as_linear(hidden)

    def generate_step(
        self,
        prompt: mx.array | None,
        cache: Cache | None = None,
        sampler: Callable[[mx.array], mx.array] | None = None,
        logits: mx.array | None = None,
    ) -> Iterator[tuple[mx.array, mx.array]]:
        """Endless generation after a prompt; memory and time per token do not grow where the variant's do not.

        Args:
            prompt: (B, T) int ids; None: go on from ``logits``.
            cache: what was read before the prompt; None: nothing.
            sampler: log-probabilities (B, vocab_size) -> ids (B,); None: greedy.
            logits: (B, vocab_size) after what ``cache`` holds, in place of a prompt.

        Returns:
            An iterator over the next ids (B,) and the log-probabilities (B, vocab_size) they were chosen from.

        Raises:
            ValueError: at once, if the prompt or the cache is not one of this model and batch, or not one of prompt
                and logits is given; later, if the sampler gives anything but an id of the model for every row.
        """
        self.check_start(prompt, cache, logits)
        return self._steps(prompt, self.make_cache() if cache is None else cache, sampler, logits)

    def _steps(
        self,
        prompt: mx.array | None,
        cache: Cache,
        sampler: Callable[[mx.array], mx.array] | None,
        logits: mx.array | None,
    ) -> Iterator[tuple[mx.array, mx.array]]:
        if prompt is not None:
            logits = self.read(prompt, cache)
        while True:
            log_probs = nn.log_softmax(logits.astype(mx.float32))
            chosen = mx.argmax(log_probs, axis=-1) if sampler is None else sampler(log_probs)
            mx.eval(chosen, log_probs, cache)
            if sampler is not None:
                self._check_chosen(chosen, len(log_probs))
            yield chosen, log_probs
            logits = self.logits(self.hidden(chosen[:, None], cache)[:, -1])

    def _check_chosen(self, chosen: mx.array, rows: int) -> None:
        """By NumPy: they have been computed, and a token would otherwise take two more kernels and wait for them."""
        check_rank("sampler's ids", chosen, 1, "(B,)")
        ids, count = np.array(chosen), self.config.vocab_size
        if len(ids) != rows or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= count:
            raise ValueError(f"sampler's ids must be {rows} integers in [0, {count}), got {ids.dtype} {ids.tolist()}")

    def check_start(self, prompt: mx.array | None, cache: Cache | None, logits: mx.array | None) -> None:
        """Raise a ValueError unless generation can begin from these; see :meth:`generate_step`."""
        if (prompt is None) == (logits is None):
            raise ValueError(f"prompt must be given, or logits in its place, got {prompt!r} and {logits!r}")
        if prompt is not None:
            self.check_tokens("prompt", prompt)
        else:
            check_rank("logits", logits, 2, "(B, vocab_size)")
            if logits.shape[1] != self.config.vocab_size or cache is None:
                raise ValueError(
                    f"logits must be (B, vocab_size = {self.config.vocab_size}) and come with the cache that they are "
                    f"of, got shape {logits.shape} and {'no' if cache is None else 'a'} cache"
                )
        if cache is not None:
            self.check_cache(cache, len(logits if prompt is None else prompt))

    def check_tokens(self, name: str, tokens: mx.array) -> None:
        """Raise a ValueError unless ``tokens`` are ids (B, T) of this vocabulary."""
        check_rank(name, tokens, 2, "(B, T)")
        check_index(name, tokens, self.config.vocab_size)

    def check_cache(self, cache: Cache, batch_size: int) -> None:
        """Raise a ValueError unless ``cache`` is this model's, for ``batch_size`` rows."""
        if not isinstance(cache, list) or len(cache) != len(self.layers):
            given = f"a list of {len(cache)}" if isinstance(cache, list) else type(cache).__name__
            raise ValueError(
                f"cache must be a list of {len(self.layers)} block states, as make_cache() gives it, got {given}"
            )
        empty = [state is None for state in cache]
        if any(empty) and not all(empty):
            raise ValueError(f"cache must have a state for every block or for none, got None at {empty.index(True)}")
        for index, (layer, state) in enumerate(zip(self.layers, cache, strict=True)):
            if state is not None:
                layer.check_state(state, batch_size, f"cache[{index}]")
