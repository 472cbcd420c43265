"""Text from a model: greedy, or sampled as mlx-lm samples."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from numbers import Integral

import mlx.core as mx

from titans_mlx._check import check_count, check_number, check_seed
from titans_mlx._random import random_state_kept
from titans_mlx.model import Cache, Titans

COLDEST = 1e-6
"""Log-probabilities over anything much smaller leave float32."""

Sampler = Callable[[mx.array], mx.array]


def generate(
    model: Titans,
    prompt: mx.array | None,
    max_tokens: int,
    *,
    temperature: float = 0.0,
    top_p: float = 0.0,
    min_p: float = 0.0,
    top_k: int = 0,
    seed: int | None = None,
    cache: Cache | None = None,
    logits: mx.array | None = None,
    stop: Collection[int] = (),
) -> mx.array:
    """Continue every row of a prompt.

    The filters are mlx-lm's, in its order: ``top_p``, ``min_p``, ``top_k``, then the temperature. Each has its say
    only when ``temperature`` is above 0.

    Args:
        model: a :class:`~titans_mlx.model.Titans`.
        prompt: (B, T) int ids, T >= 1; None: go on from ``logits``.
        max_tokens: new ids per row, at least 1.
        temperature: divides the log-probabilities; 0 is greedy, the most probable id every time.
        top_p: sample among the most probable ids that hold this share of the probability; 0 or 1: among all.
        min_p: leave out ids less probable than this times the most probable one; 0: none.
        top_k: sample among this many most probable ids; 0: among all.
        seed: of the draws, after which MLX's random state is as it was before; None: go on from where it is.
        cache: what was read before the prompt. On return it holds the prompt and all new ids but the last, so
            ``generate(model, new[:, -1:], ..., cache=cache)`` goes on. None: nothing was read.
        logits: (B, vocab_size) after what ``cache`` holds, in place of a prompt.
        stop: ids that end a row. The row repeats that id until every row has ended.

    Returns:
        New ids (B, N) int32, ``N <= max_tokens``, the first stop id of a row included.

    Raises:
        ValueError: an argument is out of its range, or the prompt or cache is not one of this model and batch.
    """
    check_count("max_tokens", max_tokens)
    _check_stop(stop, model.config.vocab_size)
    if seed is not None:
        check_seed("seed", seed)
    model.check_start(prompt, cache, logits)
    sampler = _make_sampler(temperature, top_p, min_p, top_k, model.config.vocab_size)
    stops = [int(end) for end in stop]
    ends = mx.array(stops, dtype=mx.int32)
    steps = model.generate_step(prompt, cache, _holding(sampler, ends) if stops else sampler, logits)
    new = []
    with _seeded(seed):
        for ids, _ in islice(steps, max_tokens):
            new.append(ids.astype(mx.int32))
            if stops and _ended(ids, ends).all().item():
                break
    return mx.stack(new, axis=1)


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Draws from a seed of their own; others go on afterwards as if there had been none."""
    if seed is None:
        yield
        return
    with random_state_kept():
        mx.random.seed(seed)
        yield


def _make_sampler(temperature: float, top_p: float, min_p: float, top_k: int, vocab_size: int) -> Sampler:
    """Log-probabilities (B, vocab_size) -> ids (B,)."""
    check_number("temperature", temperature, "of at least 0", lambda x: x >= 0)
    if 0 < temperature < COLDEST:
        raise ValueError(f"temperature must be 0 (greedy) or at least {COLDEST:g}, got {temperature!r}")
    for name, value in (("top_p", top_p), ("min_p", min_p)):
        check_number(name, value, "between 0 and 1", lambda x: 0 <= x <= 1)
    if not isinstance(top_k, Integral) or isinstance(top_k, bool) or not 0 <= top_k <= vocab_size:
        raise ValueError(f"top_k must be an integer from 0 to vocab_size = {vocab_size}, got {top_k!r}")
    if temperature == 0:
        return lambda log_probs: mx.argmax(log_probs, axis=-1)
    # Here, since mlx_lm imports transformers, which takes longer than everything else together.
    from mlx_lm.sample_utils import make_sampler

    # mlx-lm refuses a top_k that leaves nothing out.
    kept = 0 if top_k == vocab_size else int(top_k)
    return make_sampler(float(temperature), float(top_p), float(min_p), top_k=kept)


def _holding(sampler: Sampler, ends: mx.array) -> Sampler:
    """``sampler``, except that a row which has drawn one of ``ends`` draws the same again."""
    held: mx.array | None = None

    def sample(log_probs: mx.array) -> mx.array:
        nonlocal held
        ids = sampler(log_probs).astype(mx.int32)
        held = ids if held is None else mx.where(_ended(held, ends), held, ids)
        return held

    return sample


def _ended(ids: mx.array, ends: mx.array) -> mx.array:
    return (ids[:, None] == ends).any(-1)


def _check_stop(stop: Collection[int], vocab_size: int) -> None:
    if not isinstance(stop, Collection):
        raise ValueError(f"stop must be a collection of ids, got {stop!r}")
    for end in stop:
        if not isinstance(end, Integral) or isinstance(end, bool) or not 0 <= end < vocab_size:
            raise ValueError(f"stop must hold ids in [0, {vocab_size}), got {end!r}")
