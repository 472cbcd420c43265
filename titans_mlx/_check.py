"""Checks of arguments: a failure is a ``ValueError`` naming the argument, its value and what is allowed."""

import math
from collections.abc import Callable
from numbers import Integral, Real

import mlx.core as mx


def check_count(name: str, value: int, least: int = 1) -> None:
    """Require a whole number of at least ``least``: a size, a length, a window."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")


def set_count(config: object, name: str, least: int) -> None:
    """Require a count in a field of a frozen dataclass, and keep it as an ``int``, which JSON knows."""
    check_count(name, getattr(config, name), least)
    object.__setattr__(config, name, int(getattr(config, name)))


def check_number(name: str, value: float, allowed: str, holds: Callable[[float], bool]) -> None:
    """Require a finite real number for which ``holds``; ``allowed``, such as "> 0", is for the message."""
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value) or not holds(value):
        raise ValueError(f"{name} must be a finite number {allowed}, got {value!r}")


def check_positive(name: str, value: float) -> None:
    """Require a finite real number above 0."""
    check_number(name, value, "above 0", lambda x: x > 0)


def check_seed(name: str, value: int) -> None:
    """Require what MLX takes for the seed of its random state."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise ValueError(f"{name} must be an integer from 0 to 2**64 - 1, got {value!r}")


def check_rank(name: str, x: mx.array, rank: int, layout: str) -> None:
    """Require an array of ``rank`` axes; ``layout``, such as "(B, T, dim)", is for the message."""
    if not isinstance(x, mx.array):
        raise ValueError(f"{name} must be an mx.array {layout}, got {type(x).__name__}")
    if x.ndim != rank:
        raise ValueError(f"{name} must have {rank} axes {layout}, got shape {x.shape}")


def check_type(name: str, value: object, kind: type) -> None:
    """Require an instance of `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def check_float(name: str, x: mx.array) -> None:
    """Require a floating dtype."""
    if not mx.issubdtype(x.dtype, mx.floating):
        raise ValueError(f"{name} must have a floating dtype such as float32 or bfloat16, got {x.dtype}")


def check_sequence(name: str, x: mx.array, dim: int) -> None:
    """Require a float array (B, T, dim) of this width, with at least one row and one token."""
    check_rank(name, x, 3, "(B, T, dim)")
    check_float(name, x)
    if x.shape[-1] != dim or 0 in x.shape:
        raise ValueError(f"{name} must be (B, T, dim = {dim}) with B >= 1 and T >= 1, got shape {x.shape}")


def check_finite(name: str, x: mx.array) -> None:
    """Require finite values, where values can be seen: not inside `mx.compile` or `mx.vmap`."""
    finite = mx.isfinite(x).all()
    if is_traced(finite):
        return
    if not finite.item():
        row = mx.argmin(mx.isfinite(x).reshape(x.shape[0], -1).all(-1)).item()
        raise ValueError(f"{name} must be finite, got a NaN or an infinity in row {row}")


def check_index(name: str, x: mx.array, count: int) -> None:
    """Require ids in ``[0, count)``, at least one, where values can be seen."""
    if not mx.issubdtype(x.dtype, mx.integer):
        raise ValueError(f"{name} must have an integer dtype, got {x.dtype}")
    if x.size == 0:
        raise ValueError(f"{name} must have at least one entry, got shape {x.shape}")
    if is_traced(x):
        return
    low, high = x.min().item(), x.max().item()
    if low < 0 or high >= count:
        raise ValueError(f"{name} must lie in [0, {count}), got ids from {low} to {high}")


def is_traced(x: mx.array) -> bool:
    """Whether `x` is a placeholder of a function being traced, whose value does not exist yet."""
    try:
        mx.eval(x)
    except ValueError as error:
        if "[eval]" in str(error):
            return True
        raise
    return False
