"""The one way to write a file: complete or not at all, synced, local or in a bucket.

Every file that luab_jax and data_prep leave goes through here (tests/test_architecture.py keeps it so), except what
Orbax and TensorBoard write by themselves.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import socket
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from etils import epath

from luab_jax.errors import WriteError
from luab_jax.io import storage

_MACHINE = socket.gethostname()
with contextlib.suppress(OSError):  # two containers may share a name, but not the numbers of their processes
    _MACHINE += f"-{Path('/proc/self/ns/pid').stat().st_ino}"
_cleaned: set[str] = set()
_guards: list[Callable[[str], None]] = []


@contextlib.contextmanager
def atomic_file(path: epath.PathLike, *, make_folder: bool = False, sync: bool = True) -> Iterator[Path]:
    """A local path to write to; the file appears under its own name, complete, when the block ends without an error.

    A local file is synced and renamed, and keeps the permissions of the file that it replaces. For a bucket the file
    is uploaded from the temporary folder, and the object appears once its upload is complete. Until then, and after
    any failure, `path` is what it was. A device or a pipe, such as /dev/stdout, is written directly.

    Args:
        path: The file, local or in a bucket.
        make_folder: Creates the folders above it first.
        sync: Whether the file must survive a loss of power; False for many small files that can be made again.

    Raises:
        WriteError: Names the file, the cause and the remedy; also for an `OSError` that the block raises.
        StorageError: A bucket refuses the upload.
    """
    with write_errors(path):
        target = _target(path)
    for check in list(_guards):
        check(str(target))
    if isinstance(target, Path) and _is_device(Path(path), target):
        with write_errors(path):
            yield Path(path)
        return
    temporary: Path | None = None
    try:
        with write_errors(path):
            temporary = _temporary_path(target, make_folder=make_folder)
            yield temporary
            with temporary.open("rb+") as file:
                if sync:
                    os.fsync(file.fileno())
            if isinstance(target, Path):
                _replace(temporary, target, sync=sync)
        if not isinstance(target, Path):
            storage.upload(temporary, path)
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _target(path: epath.PathLike) -> Path | str:
    """Behind links, which stay what they are."""
    if storage.is_remote(path):
        return os.fspath(path)
    try:
        return Path(storage.resolved(path))
    except RuntimeError as e:  # links in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path)) from e


def _is_device(path: Path, target: Path) -> bool:
    """Also /dev/stdout where a shell has redirected it into a file."""
    named = storage.absolute(path).as_posix().startswith(("/dev/", "/proc/")) and not target.is_relative_to("/dev/shm")
    return named or (target.exists() and not target.is_file() and not target.is_dir())


def create(path: epath.PathLike, content: bytes) -> bool:
    """Writes a file unless there is one of this name, which of several writers succeeds for one; whether it did.

    Raises `WriteError`, or `StorageError` of a bucket.
    """
    if storage.is_remote(path):
        return storage.create(path, content)
    with write_errors(path):
        temporary = _temporary_path(Path(path), make_folder=True)
        try:
            temporary.write_bytes(content)
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as e:
            if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            return _create_without_link(Path(path), content)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    return True


def _create_without_link(path: Path, content: bytes) -> bool:
    """Where the file system has no hard links; a reader may find the file empty for a moment."""
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def guarded(check: Callable[[str], None]) -> Iterator[None]:
    """While it is entered, `check` is called with the path of every file before it is written; it raises to forbid."""
    _guards.append(check)
    try:
        yield
    finally:
        _guards.remove(check)


def write_bytes(path: epath.PathLike, content: bytes, *, make_folder: bool = False) -> None:
    """Writes a whole file as `atomic_file` does."""
    with atomic_file(path, make_folder=make_folder) as temporary:
        temporary.write_bytes(content)


def write_text(path: epath.PathLike, text: str, *, make_folder: bool = False) -> None:
    """Writes a whole file in UTF-8 as `atomic_file` does, whatever the locale."""
    write_bytes(path, text.encode(), make_folder=make_folder)


def append_line(path: epath.PathLike, line: str) -> None:
    """Appends one line to a local file and syncs it. A line that does not fit is removed again as far as it came.

    Raises `WriteError`.
    """
    for check in list(_guards):
        check(str(storage.resolved(path)))
    with write_errors(path), Path(path).open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            written = file.write(line.encode() + b"\n")
            if written < len(line.encode()) + 1:  # the disk took the first part; the next write says why
                file.write(b"\n")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(size)
            raise


def _temporary_path(target: Path | str, *, make_folder: bool) -> Path:
    """Beside a local file, so that a rename suffices; for a bucket among the temporary files."""
    name = os.path.basename(target).encode()[:150].decode(errors="ignore")  # 255 bytes are the most
    name = f"{name}.{_MACHINE}-{os.getpid()}-{uuid.uuid4().hex}.tmp"
    if not isinstance(target, Path):
        folder = Path(tempfile.gettempdir())
        _clean_once(folder)
        return folder / name
    if make_folder:
        target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if target.exists() and not os.access(target, os.W_OK):  # a rename would not ask
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    _clean_once(target.parent)
    return target.with_name(name)


def _clean_once(folder: Path) -> None:
    if str(folder) not in _cleaned:
        _cleaned.add(str(folder))
        remove_abandoned(folder)


def _replace(temporary: Path, target: Path, *, sync: bool) -> None:
    with contextlib.suppress(OSError):
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    temporary.replace(target)
    if sync:
        with contextlib.suppress(OSError):  # not every file system syncs folders
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


_REMEDIES = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some of your disk quota",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "choose a place that is writable",
    errno.EACCES: "choose a place where you may write, or change the permissions",
    errno.EPERM: "choose a place where you may write, or change the permissions",
    errno.ENOENT: "make the folder first, or correct the path",
    errno.ENOTDIR: "a part of the path is a file; correct the path",
    errno.EISDIR: "a folder has this name; choose another one",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the connection to the file server",
}


@contextlib.contextmanager
def write_errors(path: epath.PathLike) -> Iterator[None]:
    """Turns an `OSError` into one line that names the file, not its temporary name, and says what to do."""
    try:
        yield
    except OSError as e:
        if isinstance(e, BrokenPipeError):
            raise  # nobody reads the output; not a fault
        remedy = _REMEDIES.get(e.errno or 0, "")
        cause = e.strerror or str(e) or type(e).__name__
        raise WriteError(f"{os.fspath(path)}: cannot be written ({cause}){f'; {remedy}' if remedy else ''}") from e


_ABANDONED = re.compile(r"-(\d+)-[0-9a-f]{32}\.tmp$")


def remove_abandoned(directory: epath.PathLike) -> None:
    """Removes the temporary files that killed processes of this machine left in a local directory."""
    if storage.is_remote(directory):
        return
    with contextlib.suppress(OSError):
        for path in Path(directory).glob(f"*.{glob.escape(_MACHINE)}-*.tmp"):
            found = _ABANDONED.search(path.name)
            if found and not is_running(int(found[1])):
                path.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether this machine has a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is somebody else's
        return True
    return True
