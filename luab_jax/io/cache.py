"""The folder where compiled programs are kept between runs, or none where that is not possible."""

from __future__ import annotations

import os
from pathlib import Path

from etils import epath

from luab_jax.io import storage
from luab_jax.io.console import say


def cache_folder(path: str, *, active: bool = True) -> epath.Path | None:
    """A folder of the config with `~` expanded; None, with a line that says why, if it cannot be written.

    Nothing is lost without a cache but the time to compile again, so a run goes on without it.
    """
    if not path:
        return None
    if storage.is_remote(path):
        return epath.Path(path)
    expanded = os.path.expanduser(path)  # noqa: PTH111 (pathlib's raises where there is no home)
    if expanded.startswith("~"):
        why = "this user has no home"
    else:
        try:
            Path(expanded).mkdir(parents=True, exist_ok=True)
            why = "" if os.access(expanded, os.W_OK | os.X_OK) else "no permission to write there"
        except OSError as e:
            why = e.strerror or str(e)
    if not why:
        return epath.Path(expanded)
    say(f"{path}: compiled programs cannot be kept ({why}), so every start compiles them again", active=active)
    return None
