"""`python:MODULE:FUNCTION`: a function of a user's module that makes a model."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import CheckpointError, UserError, option
from luab_jax.foreign.finish import finish
from luab_jax.foreign.model import FunctionModel
from luab_jax.foreign.options import Options
from luab_jax.results.foreign import Foreign

PYTHON = "python:"
_NOT_OF_USERS = (Path(__file__).parents[1], Path(importlib.__file__).parent)
_LIBRARIES = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}


def load_python(checkpoint: str, options: Options) -> FunctionModel:
    """What `FUNCTION()` of the module (or of the file `.py`) returns: `(function, Preprocessing)` or a `FunctionModel`.

    Raises `UserError` for anything else, and for a function that fails on drawn images.
    """
    module, maker = find_function(checkpoint, PYTHON)
    made = explained(checkpoint, maker)()
    if isinstance(made, tuple) and len(made) == 2 and callable(made[0]) and isinstance(made[1], Preprocessing):
        made = FunctionModel(made[0], made[1])
    if not isinstance(made, FunctionModel):
        raise UserError(
            f"{option('checkpoint', checkpoint)}: returned a {type(made).__name__}; expected (function, Preprocessing),"
            " of uint8 images [B, H, W, 3] to logits [B, C], or a luab_jax.FunctionModel"
        )
    name = checkpoint.rpartition(":")[2]
    maps = None if made.maps is None else explained(checkpoint, made.maps)
    model = dataclasses.replace(made, function=explained(checkpoint, made.function), maps=maps, name=name)
    source = getattr(module, "__file__", None)
    facts = {"python": checkpoint.removeprefix(PYTHON)}
    digest = "" if source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12]
    return finish(model, options, checkpoint, Foreign.PYTHON, facts, {"source_hash": digest})


def find_function(checkpoint: str, prefix: str, called: str = "") -> tuple[ModuleType, Callable[..., Any]]:
    """The module and the function that `prefix` MODULE:FUNCTION names; a module may be a file `.py`.

    called: What messages call `checkpoint`, if not that.
    """
    stated = f"{called}={checkpoint}" if called else option("checkpoint", checkpoint)
    checkpoint = checkpoint.removeprefix(prefix)
    place, _, name = checkpoint.rpartition(":")
    if not place or not name:
        raise UserError(f"{stated}: expected {prefix}MODULE:FUNCTION, as in {prefix}mine.models:tower")
    module = _import(place, stated)
    function = getattr(module, name, None)
    if not callable(function):
        there = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")][:8]
        raise UserError(f"{stated}: {place} has no function {name}; it has {', '.join(there) or 'none'}")
    return module, function


def _import(place: str, stated: str) -> ModuleType:
    try:
        if not place.endswith(".py"):
            if "" not in sys.path:
                sys.path.insert(0, "")  # the folder that the command was started in, as with python -m
            return importlib.import_module(place)
        if not Path(place).is_file():
            raise UserError(f"{stated}: there is no file {place}")
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(spec.name, module)  # dataclasses and pickles look their module up
        spec.loader.exec_module(module)
        return module
    except UserError:
        raise
    except Exception as e:  # whatever the user's module raises when it is run
        raise UserError(f"{stated}: {place} cannot be imported ({failure(e)})") from e


def explained(checkpoint: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose failure is told in one line with its place; the rest is the error's cause."""

    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except UserError:
            raise
        except Exception as e:  # whatever the user's function raises
            given = "".join(f" on {a.dtype} {a.shape}" for a in arguments[:1] if hasattr(a, "shape"))
            raise CheckpointError(f"{option('checkpoint', checkpoint)}: failed{given} ({failure(e)})") from e

    return call


def failure(error: Exception) -> str:
    """Type, message and line of an error of a user's code: the line that called a library, not the library's."""
    message = " ".join(str(error).split())[:300]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_of_users(f.filename)]
    own = [f for f in frames if not _is_of_a_library(f.filename)] or frames
    where = f", {Path(own[-1].filename).name} line {own[-1].lineno}" if own else ""
    return f"{type(error).__name__}: {message}{where}"


def _is_of_a_library(file: str) -> bool:
    return any(Path(file).is_relative_to(folder) for folder in _LIBRARIES)


def _is_of_users(file: str) -> bool:
    """Neither ours nor the interpreter's import system. A user's folder may be called luab_jax, too."""
    return not file.startswith("<frozen ") and not any(Path(file).is_relative_to(folder) for folder in _NOT_OF_USERS)
