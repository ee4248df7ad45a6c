"""Reading a results file of any version and any content: a checked `File`, or one `UserError`."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import msgspec

from luab_jax.errors import UserError
from luab_jax.io import storage
from luab_jax.results.format import VERSION, File, Suite
from luab_jax.results.text import printable
from luab_jax.results.upgrade import UPGRADES

FILE_NAME = "results.json"
_MAX_BYTES = 64 << 20
_MAX_DEPTH = 24
_MAX_INTEGER = 1 << 63


def read_results(path: str | os.PathLike[str]) -> File:
    """Reads a results file, or the `results.json` in a folder.

    Raises `UserError` with one line for a file that cannot be read, is none, or is of another version.
    """
    file = storage.place(os.fspath(path))
    if not storage.is_remote(file) and file.is_dir():
        file = file / FILE_NAME
    return parse(_text(file), os.fspath(file))


def _text(path: storage.Place) -> bytes:
    try:
        text = storage.read_all(path)
    except OSError as e:
        raise UserError(f"{os.fspath(path)}: cannot be read ({e.strerror or e})") from e
    if len(text) > _MAX_BYTES:
        raise UserError(f"{os.fspath(path)}: {len(text):,} bytes, no results file has more than {_MAX_BYTES:,}")
    return text


def parse(text: bytes, where: str) -> File:
    """The content of a results file; `where` names it in messages."""
    try:
        content = json.loads(text)
        _check_plain(content)
        if not isinstance(content, dict) or "results_version" not in content:
            raise ValueError("it has no results_version")
        version = content["results_version"]
        if type(version) is not int or not (version == VERSION or version in UPGRADES):
            what_to_do = "; update luab_jax" if type(version) is int and version > VERSION else ""
            raise UserError(
                f"{where}: results version {version!r:.40}, this version of luab_jax reads 1 to {VERSION}{what_to_do}"
            )
        while version < VERSION:
            content = UPGRADES[version](content)
            version = content["results_version"]
        for name, suite in content["suites"].items():  # one by one, so that a message names the suite
            _check_suite(name, suite)
        return msgspec.convert(content, File)
    except json.JSONDecodeError as e:
        raise UserError(f"{where}: not a results file of luab_jax.evaluate, or one that was cut off ({e})") from e
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as e:
        raise UserError(f"{where}: not a results file of luab_jax.evaluate ({_cause(e)})") from e


def _check_suite(name: str, suite: object) -> None:
    try:
        msgspec.convert(suite, Suite)
    except msgspec.ValidationError as e:
        raise ValueError(f"suite {name}: {e}") from e


def _cause(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, KeyError):
        return f"no field {error.args[0]!r:.60}"
    return printable(str(error))[:300]


def _check_plain(content: Any) -> None:
    """Raises `ValueError` for what JSON can hold and no result has, wherever it stands.

    Nesting beyond `_MAX_DEPTH`, integers beyond 64 bits, and numbers that are not finite.
    """
    waiting: list[tuple[Any, int, str]] = [(content, 0, "$")]
    while waiting:
        value, depth, where = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} deep at {where:.120}")
        if isinstance(value, dict):
            waiting += [(inner, depth + 1, f"{where}.{name:.40}") for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1, f"{where}[{i}]") for i, inner in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value} at {where:.120}")
        elif isinstance(value, int) and abs(value) >= _MAX_INTEGER:
            raise ValueError(f"an integer beyond 64 bits at {where:.120}")
