"""Values of dataclass fields against their types: those of a Python file checked, those of a command line read.

Python checks neither. ml_collections' config_flags reads a command line, but sets no optional field to None that has
another value, and a tuple to any number of anything.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import types
import typing
from typing import Any

from luab_jax.errors import ConfigError

_TRUE, _FALSE, _NONE = ("true", "t", "1", "yes"), ("false", "f", "0", "no"), ("none", "null")


def check_types(config: Any, prefix: str = "config") -> None:
    """Raises `ConfigError` naming the first field of a dataclass whose value is not of its type."""
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(hint) and isinstance(value, hint):  # pyright: ignore[reportArgumentType]
            check_types(value, f"{prefix}.{name}")
        elif isinstance(value, tuple) and value and _holds_dataclasses(hint) and fits(hint, value):
            for item in value:
                check_types(item, f"{prefix}.{name}.{_key_of(item)}")
        elif not fits(hint, value):
            raise ConfigError(f"{prefix}.{name}={value!r}: expected {described(hint)}")


def entry_of(entries: Any, key: str) -> int | None:
    """Where the one that is known by `key` stands among several."""
    return next((number for number, item in enumerate(entries) if _key_of(item) == key), None)


def fits(hint: Any, value: Any) -> bool:
    """Whether a value is of a type as fields have them; a whole number is a number too, a truth value is none."""
    if is_optional(hint):
        return value is None or fits(inner(hint), value)
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        if not isinstance(value, tuple | list):
            return False
        if items[-1] is Ellipsis:
            return all(fits(items[0], item) for item in value)
        return len(value) == len(items) and all(fits(item, each) for item, each in zip(items, value, strict=True))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def read_value(hint: Any, text: str) -> Any:
    """The value that a command line gives to a field of this type; raises ValueError that says what was expected."""
    try:
        value = _read(hint, text.strip())
    except (ValueError, KeyError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError) as e:
        raise ValueError(f"expected {described(hint)}") from e
    if not fits(hint, value):
        raise ValueError(f"expected {described(hint)}")
    return value


def _read(hint: Any, text: str) -> Any:
    if is_optional(hint):
        return None if text.lower() in _NONE else _read(inner(hint), text)
    if dataclasses.is_dataclass(hint):
        return text  # which does not fit
    if _holds_dataclasses(hint):
        return typing.get_args(hint)[0].of_text(text)
    if typing.get_origin(hint) is tuple:
        return _items(ast.literal_eval(text))
    if hint is bool:
        return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.lower()]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {str(key).lower(): member for member in hint for key in (member.name, member.value)}[text.lower()]
    return hint(text)


def _items(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def described(hint: Any) -> str:
    """A type in words: `a whole number, or None`."""
    if is_optional(hint):
        return f"{described(inner(hint))}, or None"
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        if _holds_dataclasses(hint):
            key = typing.get_type_hints(items[0])[dataclasses.fields(items[0])[0].name]
            return f"names separated by commas, each {described(key)}"
        names = {int: "whole numbers", float: "numbers", str: "texts"}
        count = "one or more" if items[-1] is Ellipsis else str(len(items))
        values = ["0.1", "0.2", "0.3", "0.4"] if items[0] is float else ["1", "2", "3", "4"]
        example = ", ".join(values[: 2 if items[-1] is Ellipsis else len(items)])
        return f"{count} {names.get(items[0], 'values')}, as in ({example})"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"one of {', '.join(str(member.value) for member in hint)}"
    if dataclasses.is_dataclass(hint):
        return f"its fields one by one: {_fields_of(hint)}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(hint, str(hint))


def _holds_dataclasses(hint: Any) -> bool:
    """Whether it is a tuple of any number of them."""
    return typing.get_origin(hint) is tuple and dataclasses.is_dataclass(typing.get_args(hint)[0])


def _key_of(item: Any) -> str:
    """By which one of several is known on a command line: its first field."""
    key = getattr(item, dataclasses.fields(item)[0].name)
    return str(key.value if isinstance(key, enum.Enum) else key)


def _fields_of(cls: Any) -> str:
    return ", ".join(f".{field.name}" for field in dataclasses.fields(cls))


def is_optional(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType) and type(None) in typing.get_args(hint)


def inner(hint: Any) -> Any:
    return next(each for each in typing.get_args(hint) if each is not type(None))
