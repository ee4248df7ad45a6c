"""Errors that a user can mend, and the exit codes of every command.

Commands print a `UserError` as one message and exit; any other exception is our bug and keeps its traceback.
"""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What a command tells the shell or the scheduler that started it."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    STOPPED_RESUMABLE = 3


class UserError(Exception):
    """Something outside the program is wrong; the message names what, where and the remedy."""


class DataError(UserError):
    """A file, a record or a field of the data is missing, broken or contradicts another."""


class ShardError(DataError):
    """A record is not as it was written; the copy that another host reads may be whole."""


class StorageError(UserError):
    """A bucket cannot be reached, read or written; nothing is said of the data in it, which no reader may leave out."""


class ConfigError(UserError):
    """A field of the config, or a combination of fields, makes no sense."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to another experiment."""
