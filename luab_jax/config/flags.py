"""From a command line to a config: `--config=FILE.py[:ARGUMENT]` or `--config=RECIPE`, and any `--config.FIELD=VALUE`.

The syntax is that of ml_collections' config_flags, which ends in a traceback for a file that cannot be imported or a
field that does not exist; see `types` for what it does not check. A file's get_config may return a `Config` or,
as in most JAX codebases, an ml_collections.ConfigDict of the same fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import runpy
import traceback
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from luab_jax.config.byproduct import nearest_target
from luab_jax.config.experiment import Config
from luab_jax.config.plain import flatten, from_dict
from luab_jax.config.types import entry_of, read_value
from luab_jax.errors import ConfigError, UsageError
from luab_jax.recipes import RECIPES

PREFIX = "--config."


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(what is left, `--config.FIELD=VALUE`): a value behind a blank joins its field, and one dash does for two."""
    left, overrides = [], []
    waiting = list(argv)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":  # all that follows are arguments
            return [*left, argument, *waiting], overrides
        if not argument.startswith((PREFIX, PREFIX[1:])):
            left.append(argument)
            continue
        override = f"--{argument.lstrip('-')}"
        if "=" not in override:
            has_value = bool(waiting) and not waiting[0].startswith(("--", PREFIX[1:]))
            override += f"={waiting.pop(0)}" if has_value else "=true"
        overrides.append(override)
    return left, overrides


def load_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """The config of a file with `--config.FIELD=VALUE` set in it, not yet validated; raises `UsageError`."""
    config = _from_file(path)
    for override in overrides:
        name, _, text = override.removeprefix(PREFIX).partition("=")
        set_field(config, name, text)
    _check_listed(overrides)
    return config


_MORE = f"{PREFIX}byproduct.more"


def _check_listed(overrides: Sequence[str]) -> None:
    """A command line that lists the further byproducts gives fields to none but those, and behind the list.

    A field before it would be lost, and one of another byproduct would add a head that the list does not name.
    """
    given = [override.partition("=")[::2] for override in overrides]
    listed = max((place for place, (name, _) in enumerate(given) if name == _MORE), default=None)
    if listed is None:
        return
    known = [name.strip() for name in given[listed][1].strip("()[] ").split(",")]
    for place, (name, _) in enumerate(given):
        if not name.startswith(f"{_MORE}."):
            continue
        key = name.removeprefix(f"{_MORE}.").partition(".")[0]
        if key not in known:
            wanted = ",".join([*filter(None, known), key])
            raise UsageError(f"{name}: {_MORE}={given[listed][1]} does not list {key}; write {_MORE}={wanted}")
        if place < listed:
            raise UsageError(f"{name}: {_MORE} comes after it and would undo it; write {_MORE} first")


def _from_file(path: str) -> Config:
    if path in RECIPES and not Path(path).is_file():
        return RECIPES[path]()
    file, colon, argument = path.partition(":") if not os.path.exists(path) else (path, "", "")
    _check_file(path, file)
    try:
        get_config = runpy.run_path(file).get("get_config")
    except (Exception, SystemExit) as e:
        raise UsageError(f"--config={path}: cannot be imported: {_in_one_line(e, file)}") from e
    if not callable(get_config):
        raise UsageError(f"--config={path}: defines no function get_config, which a file of configs/ has")
    try:
        config = get_config(argument) if colon else get_config()
    except (Exception, SystemExit) as e:
        if isinstance(e, TypeError) and e.__traceback__ is not None and e.__traceback__.tb_next is None:
            wants = "takes no argument" if colon else "needs an argument"  # the call itself failed
            remedy = f"--config={file}" if colon else f"--config={file}:ARGUMENT"
            raise UsageError(f"--config={path}: its get_config {wants}; write {remedy}") from e
        raise UsageError(f"--config={path}: get_config failed: {_in_one_line(e, file)}") from e
    if isinstance(config, ConfigDict):
        try:
            return from_dict(Config, config.to_dict())
        except (ConfigError, TypeError, ValueError, AttributeError) as e:
            raise UsageError(f"--config={path}: {_in_one_line(e, file)}") from e
    if not isinstance(config, Config):
        raise UsageError(
            f"--config={path}: get_config returned {type(config).__name__}, not a luab_jax.config.Config; is there a"
            " return?"
        )
    return config


def _check_file(path: str, file: str) -> None:
    folder = file if os.path.isdir(file) else os.path.dirname(file) or "."
    there = sorted(f for f in os.listdir(folder) if f.endswith(".py") and f[0] != "_") if os.path.isdir(folder) else []
    if os.path.isdir(file):
        listed = f"; it holds {', '.join(there)}" if 0 < len(there) <= 20 else ""
        raise UsageError(f"--config={path}: a folder; name a Python file with a get_config{listed}")
    if not Path(file).is_file():
        near = [os.path.join(folder, name) for name in difflib.get_close_matches(os.path.basename(file), there, n=1)]
        if not near or (os.sep not in file and not file.endswith(".py")):  # an installed package has no configs/
            near = difflib.get_close_matches(Path(file).stem, RECIPES, n=1) or near
        hint = f"did you mean {near[0]}?" if near else f"the built-in recipes are {', '.join(RECIPES)}"
        raise UsageError(f"--config={path}: no such file; {hint}")


def _in_one_line(error: BaseException, file: str) -> str:
    """`SyntaxError in FILE, line 3: ...`, with the last line of a config file that led there."""
    message = " ".join(str(error).split()) or "no message"
    if isinstance(error, SyntaxError):
        line = "" if error.lineno is None else f", line {error.lineno}"
        return f"{type(error).__name__} in {error.filename or file}{line}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file] or frames[-1:]
    return f"{type(error).__name__} in {own[-1].filename}, line {own[-1].lineno}: {message}"


def set_field(config: Config, name: str, text: str) -> None:
    known = flatten(config)
    *groups, field = name.split(".")
    holder: Any = config
    for place, group in enumerate(groups):
        if isinstance(holder, tuple) and place:
            holder = _entry(config, groups[:place], group)
        else:
            holder = getattr(holder, group, None) if dataclasses.is_dataclass(holder) else None
    hints = typing.get_type_hints(type(holder)) if dataclasses.is_dataclass(holder) else {}
    if field not in hints:
        near = _nearest_in_entry(groups, field, list(hints)) or nearest_field(name, list(known))
        hint = f"did you mean {PREFIX}{near}?" if near else "--print_config lists them all"
        raise UsageError(f"{PREFIX}{name}: the config has no field {name!r}; {hint}")
    try:
        setattr(holder, field, read_value(hints[field], text))
    except ValueError as e:
        raise UsageError(f"{PREFIX}{name}={text}: {e}") from e


def _entry(config: Config, groups: Sequence[str], key: str) -> Any:
    """The one of several that has this name, made anew where there is none; `None` for a name that cannot be."""
    *above, last = groups
    holder: Any = config
    for group in above:
        holder = getattr(holder, group)
    entries = getattr(holder, last)
    number = entry_of(entries, key)
    if number is not None:
        return entries[number]
    hint = typing.get_type_hints(type(holder))[last]
    try:
        made = read_value(hint, key)
    except ValueError:
        return None
    setattr(holder, last, (*entries, *made))
    return made[0] if made else None


def _nearest_in_entry(groups: Sequence[str], field: str, fields: Sequence[str]) -> str | None:
    """Of one of several byproducts: `fields` are its own, empty where its target is misspelt."""
    *above, key = groups or [""]
    if f"{PREFIX}{'.'.join(above)}" != _MORE:
        return None
    target = key if fields else nearest_target(key)
    near = difflib.get_close_matches(field, fields, 1) if fields else [field]
    return ".".join([*above, target, *near]) if target and near else None


_NEAR = 0.72
"""Of 1: `workdir` is not `data.workers`, `bath_size` is `batch_size`."""


def nearest_field(name: str, known: Sequence[str]) -> str | None:
    """The field that was probably meant, by the last part of its name first; `None` where nothing is near."""

    def nearness(field: str) -> tuple[float, float]:
        last, wanted = field.rpartition(".")[2], name.rpartition(".")[2]
        initials = "".join(word[0] for word in last.split("_") if word)
        same_initials = len(initials) > 1 and wanted == initials
        begins = len(wanted) > 2 and last.startswith(wanted)  # a flag that was cut short
        ratio = 1.0 if same_initials or begins else difflib.SequenceMatcher(None, wanted, last).ratio()
        return (ratio, difflib.SequenceMatcher(None, name, field).ratio())

    best = max(known, key=nearness, default=None)
    return best if best is not None and max(nearness(best)) >= _NEAR else None
