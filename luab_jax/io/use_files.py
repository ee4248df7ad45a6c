"""Which files of a shared folder running processes use: `use-<token>` is a list of names, locked by its process."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
import uuid
from collections.abc import Collection
from pathlib import Path

_OWN = re.compile(r"use-[0-9a-f]{32}")
_LOOKS = 20
"""At what another process writes, a hundredth of a second apart."""


class UseFile:
    """Of this process, or of one part of it."""

    def __init__(self, folder: Path):
        self.path = folder / f"use-{uuid.uuid4().hex}"
        self._descriptor: int | None = None

    def write(self, names: Collection[str]) -> None:
        """These, in place of those before."""
        while self._descriptor is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                self._descriptor = descriptor
            else:  # another process took it, not locked yet, for one of a process that is gone
                os.close(descriptor)
        content = json.dumps(sorted(names)).encode()
        write_at(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))

    def others(self) -> set[str]:
        """What the files of other running processes name; files of processes that are gone are removed."""
        used: set[str] = set()
        for path in self.path.parent.glob("use-*"):
            if path != self.path and _OWN.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    used |= _read(path)
        return used

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self.path.unlink(missing_ok=True)


def write_at(descriptor: int, data: bytes, start: int) -> None:
    """All of it."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, start)
        start += written
        view = view[written:]


def _read(path: Path) -> set[str]:
    """Nothing where its process is gone. Raises `OSError` where the file is.

    What is read in the moment in which it is written may be neither the old nor the new, so it is looked at again.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except BlockingIOError:
        for _ in range(_LOOKS):
            with contextlib.suppress(ValueError):
                return set(json.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0)))
            time.sleep(0.01)
    finally:
        os.close(descriptor)
    return set()
