"""A lease: one command at a time writes into a workdir, a results file or a prepared directory, also in a bucket.

    NAME.lease            who holds it: host, process, start, command, and after how many seconds it may be taken
    NAME.lease.<token>    a number that the holder raises every `EVERY_S` seconds

File locks are of no use here: buckets have none, and of network file systems not all keep them. A lease is a file that
only one of several commands can create, and a sign of life beside it. A command that finds the lease of another

- takes it at once if the holder ran on this machine and is gone, as after kill -9;
- refuses to start if the holder runs on this machine;
- else watches the sign of life, and refuses to start as soon as it changes. If it does not change for the time that
  the lease states, the command takes it over.

What is compared is the sign itself, seen twice by one and the same clock of this machine, so clocks of machines need
not agree. A holder that was stalled meanwhile (SIGSTOP, a suspended machine, a network that hangs) finds the name of
another in its lease; it then writes nothing more, since `io.atomic` asks the lease before every file.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from etils import epath

from luab_jax.errors import StorageError, UserError
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file, create, guarded, write_bytes
from luab_jax.io.console import say
from luab_jax.io.holder import Holder, read_holder, this_process

EVERY_S = 10.0
TIMEOUT_S = 60.0
"""Six signs of life, so that a machine short of processor time does not lose its lease."""
SETTLE_S = 2.0
"""In a bucket, where two commands may take over one lease: the last writer keeps it, and after this time both see who
that is. Who needs more than half of it to look and to write waits until the other has seen the new name, too."""
_MAX_TIMEOUT_S = 3600.0


class LeaseLostError(StorageError):
    """Another command has taken over what this one was writing; nothing is wrong with what is read."""


class Lease:
    """Held while it is entered. `active=False` holds nothing, for the hosts of a run other than the first."""

    def __init__(
        self, subject: epath.PathLike, *, remedy: str, file: epath.PathLike | None = None, active: bool = True
    ):
        """Of a folder, or of a file and all that is named after it.

        Args:
            subject: What is written: a folder, or a results file.
            remedy: The last part of a refusal, as in "choose another --workdir".
            file: Where the lease is; `SUBJECT/lease` of a folder by default.
            active: Whether there is anything to hold.

        Raises:
            StorageError: A name in a bucket that is not to be written.
        """
        storage.check_writable(subject)
        self.path = os.fspath(storage.resolved(file or storage.place(os.fspath(subject)) / "lease"))
        self._covers = os.fspath(storage.resolved(subject)).removesuffix(".json")
        self._subject, self._remedy, self._active = os.fspath(subject), remedy, active
        self._token = uuid.uuid4().hex
        self._beats = 0
        self._confirmed_at = 0.0
        self._taken_by: Holder | None = None
        self._renewing = threading.RLock()
        self._ended = threading.Event()
        self._stack = contextlib.ExitStack()
        self._new_folders: list[Path] = []

    def __enter__(self) -> Lease:
        """Raises `UserError` if another command holds it."""
        if self._active:
            self._new_folders = _missing_folders(self.path)
            try:
                self._acquire()
            except BaseException:
                self._release()
                raise
            self._confirmed_at = _now()
            self._stack.enter_context(guarded(self._guard))
            threading.Thread(target=self._keep, daemon=True, name="lease").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._active:
            return
        self._stack.close()
        self._release()

    def _release(self) -> None:
        self._ended.set()
        with self._renewing, contextlib.suppress(OSError, UserError):
            found = read_holder(self.path, TIMEOUT_S)
            if found is not None and found.token == self._token:
                storage.remove(self.path)
            storage.remove(_sign_path(self.path, self._token))
        self._remove_new_folders()

    def check(self) -> None:
        """Raises `LeaseLostError` if another command has taken over. Costs nothing unless this process was stalled."""
        if self._active and self._taken_by is None and _now() - self._confirmed_at > TIMEOUT_S / 2:
            with contextlib.suppress(OSError, StorageError):  # a store that cannot be reached is not written to either
                self._renew()
        if self._taken_by is not None:
            raise LeaseLostError(
                f"{self._subject}: {self._taken_by} took over, since this command gave no sign of life for"
                f" {TIMEOUT_S:.0f} s. It stops here and has written nothing since"
            )

    def _guard(self, path: str) -> None:
        covered = path == self._covers or path.startswith((f"{self._covers}/", f"{self._covers}."))
        if covered and not path.startswith(self.path):
            self.check()

    def _content(self) -> bytes:
        return (json.dumps(asdict(this_process(self._token, TIMEOUT_S)), indent=1) + "\n").encode()

    def _acquire(self) -> None:
        content = self._content()
        while not create(self.path, content):
            found = read_holder(self.path, TIMEOUT_S)
            if found is None:  # it was released meanwhile
                continue
            if found.token == self._token:  # the store wrote it, and its answer to the first try was lost
                return
            if not found.is_gone() and (found.runs_here() or self._gives_sign(found)):
                raise UserError(
                    f"{self._subject}: in use by {found}. Wait for its end, stop it, or {self._remedy} ({self.path} may"
                    f" be taken {found.timeout_s:.0f} s after its last sign of life)"
                )
            if self._take_over(found, content):
                return

    def _gives_sign(self, found: Holder) -> bool:
        """Watches for a change, for as long as the lease states."""
        timeout_s = min(max(found.timeout_s, 0.0), _MAX_TIMEOUT_S)
        say(f"{self._subject}: held by {found}; waiting up to {timeout_s:.0f} s for a sign of life")
        first, start = _sign(self.path, found.token), _now()
        while _now() - start < timeout_s:
            time.sleep(min(1.0, timeout_s / 20))
            holder = read_holder(self.path, TIMEOUT_S)
            if holder is None or holder.token != found.token:
                return False  # released, or taken by another one: to be looked at anew
            if _sign(self.path, found.token) != first:
                return True
        return False

    def _take_over(self, found: Holder, content: bytes) -> bool:
        """Whether this command holds the lease now; if not, it has changed hands, or is free."""
        say(f"{self._subject}: taking over from {found}, which ended or is stalled")
        if not storage.is_remote(self.path):
            _remove_exactly(Path(self.path), found.token)
            storage.remove(_sign_path(self.path, found.token))
            return False  # whoever creates it next holds it
        start = _now()
        holder = read_holder(self.path, TIMEOUT_S)
        if holder is None or holder.token != found.token:
            return False
        write_bytes(self.path, content)
        took_s = _now() - start
        time.sleep(SETTLE_S)
        if took_s > SETTLE_S / 2:  # it may have replaced the lease of one that has settled: until that one must look
            time.sleep(TIMEOUT_S / 2)
        storage.remove(_sign_path(self.path, found.token))
        holder = read_holder(self.path, TIMEOUT_S)
        return holder is not None and holder.token == self._token

    def _keep(self) -> None:
        while not self._ended.wait(EVERY_S):
            with contextlib.suppress(OSError, StorageError):  # it is tried again; `check` knows how old the last one is
                self._renew()

    def _renew(self) -> None:
        """Looks whose lease it is, then gives a sign of life."""
        with self._renewing:
            if self._ended.is_set() or self._taken_by is not None:
                return
            start = _now()
            found = read_holder(self.path, TIMEOUT_S)
            if found is None:  # somebody removed it by hand
                content = self._content()
                create(self.path, content)
                found = read_holder(self.path, TIMEOUT_S)
            if found is not None and found.token != self._token:
                self._taken_by = found
                return
            self._confirmed_at = start
            self._beats += 1
            sign = _sign_path(self.path, self._token)
            with atomic_file(sign, sync=False) as temporary:
                temporary.write_text(f"{self._beats}\n", encoding="ascii")

    def _remove_new_folders(self) -> None:
        """A command that failed before it wrote anything leaves nothing."""
        with contextlib.suppress(OSError):
            for folder in self._new_folders:
                folder.rmdir()


def _sign_path(path: str, token: str) -> str:
    return f"{path}.{token[:12]}"


def _sign(path: str, token: str) -> bytes:
    try:
        return storage.read_all(_sign_path(path, token))
    except FileNotFoundError:
        return b""


def _remove_exactly(path: Path, token: str) -> None:
    """Removes the lease of this holder, and of no other: what is renamed away belongs to one command alone."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        moved = read_holder(str(aside), TIMEOUT_S)
        if moved is not None and moved.token != token:  # another one was faster
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()


def _missing_folders(path: str) -> list[Path]:
    """Those above a local file, innermost first."""
    if storage.is_remote(path):
        return []
    return [folder for folder in Path(path).parents if not folder.exists()]


def _now() -> float:
    """Seconds that also pass while the machine sleeps, and that nobody sets."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
