"""Every field of a config as `--print_config` shows it: its meaning, what it may be, its default, and the flag.

The meanings are the sentences below the fields in the source, which Python itself does not keep.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import sys
import textwrap
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from luab_jax.config.plain import entry_values, to_dict
from luab_jax.config.types import described

_WIDTH = 100


def describe(config: Any) -> str:
    """The fields of a config, depth first. Lines without `#` are the flags that give this config."""
    return "\n".join(_lines(config, type(config)(), "--config."))


def _lines(config: Any, default: Any, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(type(config))
    meanings = _meanings(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _lines(value, getattr(default, field.name), f"{prefix}{field.name}.")
            continue
        if isinstance(value, tuple) and value and all(map(dataclasses.is_dataclass, value)):
            yield from _entries(value, f"{prefix}{field.name}", meanings.get(field.name, ""))
            continue
        shown, usual = (to_dict(holder)[field.name] for holder in (config, default))
        text = f"{meanings.get(field.name, '')} ({described(hints[field.name])}; default {usual})".strip()
        yield from textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="#   ")
        yield f"{prefix}{field.name}={shown}"


def _entries(entries: Sequence[Any], name: str, meaning: str) -> Iterator[str]:
    """Several of one kind."""
    yield from textwrap.wrap(meaning, _WIDTH, initial_indent="# ", subsequent_indent="#   ")
    values = entry_values(name, [to_dict(entry) for entry in entries], type(entries[0])())
    yield from (f"{field}={value}" for field, value in values)


def _meanings(cls: type) -> dict[str, str]:
    """Field to the text that stands below it in the class, or in the one that it extends."""
    return {name: text for each in reversed(cls.__mro__[:-1]) for name, text in _own_meanings(each).items()}


@functools.cache
def _own_meanings(cls: type) -> dict[str, str]:
    tree = ast.parse(inspect.getsource(sys.modules[cls.__module__]))
    body = next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    found = {}
    for node, below in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                found[node.target.id] = " ".join(inspect.cleandoc(text).split())
    return found
