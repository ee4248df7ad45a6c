"""The home folder, as a command line names it."""

from __future__ import annotations

import os


def with_home(word: str) -> str:
    """A word of a command line, `~` and `~user` behind the `=` and each `:` of an option expanded.

    Shells do so in assignments and leave it in options, where it would name a folder `~` of the working folder.
    """
    name, equals, value = word.partition("=")
    if not name.startswith("-"):
        return word
    expanded = (os.path.expanduser(part) for part in value.split(":"))  # noqa: PTH111 (pathlib's raises without a home)
    return f"{name}{equals}{':'.join(expanded)}"
