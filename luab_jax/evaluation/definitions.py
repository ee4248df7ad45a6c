"""What defines a suite: a digest of its row, by which a result and half-done work know another suite of the same name.

Names alone would not do for suites that are written in Python and edited: an evaluation that goes on after such an edit
would mix two protocols. Of this package's own functions the name counts, which is the same on every Python; of others
the source, and what they have closed over. What a function calls in turn is not looked at.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import inspect
import json
import re
import types
from collections.abc import Mapping, Set
from typing import Any

import jax
import numpy as np

from luab_jax.evaluation.suite import Part, Suite

_OWN = "luab_jax"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def of_part(part: Part) -> str:
    """Of what is kept of its predictions."""
    return _digest([part.view, part.reduce])


def of_suite(suite: Suite) -> str:
    """Of what decides its scores, model and data apart."""
    parts = {name: [part.split, part.view, part.reduce, part.stored] for name, part in suite.parts.items()}
    return _digest([parts, suite.method, suite.label_space, suite.label_sets])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(_described(value)).encode()).hexdigest()[:12]


def _described(value: Any) -> Any:
    """As JSON has it; equal in every process."""
    if isinstance(value, enum.Enum):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [_name(type(value)), {f.name: _described(getattr(value, f.name)) for f in dataclasses.fields(value)}]
    if isinstance(value, Mapping):
        return [[_described(key), _described(of_key)] for key, of_key in value.items()]
    if isinstance(value, Set):
        return sorted((_described(member) for member in value), key=json.dumps)
    if isinstance(value, list | tuple):
        return [_described(member) for member in value]
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, jax.Array):  # the parameters of a network, perhaps, which are many
        return [str(value.dtype), list(value.shape)]
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, functools.partial):
        return [_described(value.func), _described(value.args), _described(value.keywords)]
    if isinstance(value, types.MethodType):
        return [_described(value.__func__), _described(value.__self__)]
    if callable(wrapped := getattr(value, "__wrapped__", None)):
        return _described(wrapped)
    if isinstance(value, types.FunctionType):
        return [*_of_code(value), *map(_of_closed_over, _closed_over(value)), _described(value.__defaults__ or ())]
    if isinstance(value, type | types.BuiltinFunctionType):
        return _name(value)
    if type(value).__repr__ is object.__repr__:
        return [_name(type(value)), _described(vars(value)) if hasattr(value, "__dict__") else None]
    return _ADDRESS.sub("", repr(value))


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _of_code(function: types.FunctionType) -> list[str]:
    function = inspect.unwrap(function)
    module = function.__module__ or ""  # none of what `exec` made
    is_own = module.partition(".")[0] == _OWN
    return [_name(function)] if is_own else [_name(function), _source(function)]


def _closed_over(function: types.FunctionType) -> list[Any]:
    return [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]


def _of_closed_over(value: object) -> Any:
    """Functions without what they close over in turn: two may call each other."""
    return _of_code(value) if isinstance(value, types.FunctionType) else _described(value)


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises where nothing was assigned yet
    except ValueError:
        return False
    return True


def _source(function: types.FunctionType) -> str:
    """Of a function that was typed in a prompt, which has none, its compiled form."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        code = function.__code__
        return f"{code.co_code.hex()} {_ADDRESS.sub('', repr(code.co_consts))} {code.co_names}"
