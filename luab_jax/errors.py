"""Errors that a user can mend, and the exit codes of every command.

Commands print a `UserError` as one message and exit; any other exception is our bug and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

ErrorT = TypeVar("ErrorT", bound=BaseException)


class ExitCode(enum.IntEnum):
    """What a command tells the shell or the scheduler that started it."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    STOPPED_RESUMABLE = 3


class UserError(Exception):
    """Something outside the program is wrong; the message names what, where and the remedy."""


class UsageError(UserError):
    """A command line that makes no sense: exit code 2 instead of 1."""


class DataError(UserError):
    """A file, a record or a field of the data is missing, broken or contradicts another."""


class ShardError(DataError):
    """A record is not as it was written; the copy that another host reads may be whole."""


class StorageError(UserError):
    """A bucket cannot be reached, read or written; nothing is said of the data in it, which no reader may leave out."""


class WorkerLostError(UserError):
    """A process that read for this one is gone or hangs; nothing is wrong with what was done: exit code 3."""


class WriteError(StorageError):
    """A file cannot be written; what was there before it is untouched."""


class ConfigError(UserError):
    """A field of the config, or a combination of fields, makes no sense."""


class CompilerError(UserError):
    """The compiler crashed on a program, or failed; another program may be compiled."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to another experiment."""


def reason_of(error: Exception) -> str:
    """What an exception says, for a message that names the file: an `OSError` without its number and that name."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def without_frames(error: ErrorT) -> ErrorT:
    """The same error without the tracebacks of its whole chain, for one that is kept while other work goes on.

    A traceback holds the local variables of every frame, such as a batch of images, in memory.
    """
    chain: list[BaseException | None] = [error]
    cleared: set[int] = set()
    while chain:
        one = chain.pop()
        if one is not None and id(one) not in cleared:
            cleared.add(id(one))
            one.__traceback__ = None
            chain += [one.__cause__, one.__context__]
    return error


_COMMAND: ContextVar[tuple[str, ...] | None] = ContextVar("command", default=None)
"""The words of the command that runs; None where Python called a function."""


@contextlib.contextmanager
def options_are_flags(command: Sequence[str] = ()) -> Iterator[None]:
    """Within a command, messages call options what its user typed, and what it writes states its words."""
    token = _COMMAND.set(tuple(command))
    try:
        yield
    finally:
        _COMMAND.reset(token)


def command_line() -> list[str]:
    """The words of the command that runs; none where Python called a function, whose own words are not ours to keep."""
    return list(_COMMAND.get() or ())


def option(name: str, value: object = None) -> str:
    """How a message calls an option: `--out=x.json` within a command, `out='x.json'` where Python called a function.

    A value of True is that of a switch, such as `--overwrite`.
    """
    if _COMMAND.get() is not None:
        return f"--{name}" if value is None or value is True else f"--{name}={value}"
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    return name if value is None else f"{name}={value!r}"
