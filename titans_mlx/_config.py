"""What configurations share: to and from a dict, what they differ in, and checks of a field's value."""

import dataclasses
from typing import Any, Self


def choose(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Require one of the values allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}")


def between(name: str, value: Any, low: float, high: float) -> None:
    """Open interval: a gate born at its limit has no gradient."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not low < value < high:
        raise ValueError(f"{name} must be a number strictly between {low:g} and {high:g}, got {value!r}")


def switch(name: str, value: Any) -> None:
    """Require True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


class Config:
    """What every frozen configuration can do."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from a JSON-like dict; unknown keys are ignored (mlx-lm's rule), nested configs are built too."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable dict that :meth:`from_dict` turns back into an equal config."""
        return dataclasses.asdict(self)

    def changes(self) -> dict[str, Any]:
        """What differs from the defaults, as :meth:`to_dict`: the same when later versions know more fields."""
        plain, own = type(self)(), {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        changed = {name: value for name, value in own.items() if value != getattr(plain, name)}
        return {name: value.changes() if isinstance(value, Config) else value for name, value in changed.items()}

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed.

        What ``"auto"`` or None stood for was decided when this configuration was made, and is kept.
        """
        return dataclasses.replace(self, **changes)
