"""Configs as plain values, nested or flat, and back."""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from luab_jax.config.byproduct import Byproduct, ByproductConfig, several
from luab_jax.config.types import inner, is_optional
from luab_jax.errors import ConfigError


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values; enums by value, and a whole number in a float field as a float, so that 5 and 5.0 agree."""
    values: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        elif isinstance(value, enum.Enum):
            value = value.value
        elif isinstance(value, tuple):
            value = [to_dict(item) if dataclasses.is_dataclass(item) else item for item in value]
        elif hint in (float, float | None) and value is not None:
            value = float(value)
        values[name] = value
    return values


def from_dict(cls: type, values: dict[str, Any]) -> Any:
    """The inverse of `to_dict`; unknown fields raise `ConfigError`."""
    hints = typing.get_type_hints(cls)
    unknown = set(values) - set(hints)
    if unknown:
        raise ConfigError(
            f"{cls.__name__} has no field {', '.join(sorted(unknown))}: written by another version of luab_jax"
        )
    return cls(**{name: _from_plain(hints[name], value) for name, value in values.items()})


def _from_plain(hint: Any, value: Any) -> Any:
    if is_optional(hint):
        return None if value is None else _from_plain(inner(hint), value)
    if hint is ByproductConfig and isinstance(value, list | tuple):
        return several(*(from_dict(Byproduct, item) for item in value))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value)
    if typing.get_args(hint)[:1] == (Byproduct,):
        return tuple(from_dict(Byproduct, item) for item in value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        try:
            return hint(value)
        except ValueError as e:
            raise ConfigError(f"{e}: written by another version of luab_jax") from e
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def entry_values(name: str, entries: Sequence[dict[str, Any]], default: Any) -> Iterator[tuple[str, Any]]:
    """Fields and values, in the order of a command line, that make the list `name` what `entries` are: first their
    targets, then what each has otherwise than `default`."""
    usual = to_dict(default)
    key = next(iter(usual))
    yield name, ",".join(entry[key] for entry in entries)
    for entry in entries:
        for field, value in sorted(entry.items()):
            if field != key and value != usual.get(field):
                yield f"{name}.{entry[key]}.{field}", value


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """`{"optim.learning_rate": 0.1, ...}`; of a list of byproducts each under its target, as in `more.box.weight`."""
    flat: dict[str, Any] = {}
    for name, value in (config if isinstance(config, dict) else to_dict(config)).items():
        if isinstance(value, list) and value and all(isinstance(item, dict) and "target" in item for item in value):
            value = {str(item["target"]): item for item in value}
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
