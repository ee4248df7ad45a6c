"""Files on a disk or in a bucket: the same calls for both, and errors of a bucket that say what to do.

A path is pathlib's where it is local and etils' where it names a bucket (`gs://`, `s3://`, `az://`, `hf://`); both have
the same methods. What these lack is here: ranged reads without read-ahead, reading forwards in large blocks, listing
one folder without keeping it in memory, and an upload that appears whole or not at all. All of it goes through fsspec,
as etils does; a local path never touches it.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec
from etils import epath

from luab_jax.errors import StorageError, UserError

Place = Path | epath.Path
"""A local path, or one in a bucket."""

PLUGINS = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs", "hf": "huggingface_hub"}
"""The schemes that are read and written, and the package that fsspec needs for each."""

_LOGIN = {
    "gs": "run `gcloud auth application-default login`, or name a key file in GOOGLE_APPLICATION_CREDENTIALS",
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "hf": "run `hf auth login`",
}

# Where TensorFlow is installed, etils would load it for gs://; it is to read as fsspec does.
os.environ.setdefault("EPATH_USE_TF", "false")
# gcsfs logs its retries with tracebacks; what comes of them is in the error that it raises in the end.
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)


def is_remote(path: epath.PathLike) -> bool:
    return "://" in os.fspath(path)


def place(path: str) -> Place:
    """The path that a text names. Raises `StorageError` for a scheme that is not among `PLUGINS`."""
    scheme, found, _ = path.partition("://")
    if not found:
        return Path(path)
    if scheme not in PLUGINS:
        schemes = ", ".join(f"{name}://" for name in PLUGINS)
        raise StorageError(f"{path}: {scheme}:// is not supported; local paths are, and {schemes}")
    return epath.Path(path)


def absolute(path: Place) -> Place:
    """For a process that runs in another folder."""
    return path if is_remote(path) else Path(path).absolute()


@contextlib.contextmanager
def explained(path: epath.PathLike, doing: str = "read") -> Iterator[None]:
    """Turns the errors of a bucket, which has error classes of its own, into `StorageError` with a remedy.

    A file to be read that is not there stays `FileNotFoundError`, and all errors of local paths stay what they are.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as e:
        if not is_remote(path) or (isinstance(e, FileNotFoundError) and doing != "written"):
            raise
        raise StorageError(f"{os.fspath(path)}: cannot be {doing}: {_cause(e, os.fspath(path))}") from e


def _cause(error: Exception, path: str) -> str:
    """One line with the remedy."""
    scheme = path.partition("://")[0]
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket"
    text = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())[:300]
    if isinstance(error, ImportError):
        plugin = PLUGINS.get(scheme, "")
        return f"{scheme}:// needs the package {plugin}: pip install {plugin}"
    refused = str(getattr(error, "code", "")) in ("401", "403") or isinstance(error, PermissionError)
    if refused or "credential" in f"{type(error).__name__} {text}".lower() or "Anonymous caller" in text:
        return f"no access ({text}); {_LOGIN.get(scheme, 'log in there')}"
    if isinstance(error, TimeoutError | ConnectionError) or "connect" in type(error).__name__.lower():
        return f"no connection ({text}); run the same command again"
    return text


def _system(path: epath.PathLike) -> tuple[Any, str]:
    """The file system of a bucket, without its cache of listings, which grows and is not told of other writers."""
    return fsspec.url_to_fs(os.fspath(path), use_listings_cache=False)


class Facts(NamedTuple):
    """What a listing tells of a file or folder."""

    is_folder: bool
    size: int
    version: str
    """Differs when a file was written anew."""


def facts(path: epath.PathLike) -> Facts | None:
    """Of a file or folder that is there; raises `OSError`, or `StorageError` of a bucket."""
    if not is_remote(path):
        try:
            found = Path(path).stat()
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        return Facts(Path(path).is_dir(), found.st_size, str(found.st_mtime_ns))
    with explained(path):
        system, inner = _system(path)
        try:
            info = system.info(inner)
        except FileNotFoundError:
            return None
        return _facts(info)


def _facts(info: dict[str, Any]) -> Facts:
    version = next((info[key] for key in ("generation", "ETag", "etag", "updated", "mtime") if info.get(key)), "")
    return Facts(info["type"] == "directory", int(info.get("size") or 0), str(version))


def listing(path: epath.PathLike) -> dict[str, Facts]:
    """Names in a folder of a bucket; empty where there is none. Nothing of it stays in memory."""
    with explained(path, "listed"):
        system, inner = _system(path)
        try:
            infos = system.ls(inner, detail=True)
        except FileNotFoundError:
            return {}
        root = inner.rstrip("/")
        # A bucket may hold an empty object of the folder's own name, as its browser makes them.
        named = ((info["name"].rstrip("/"), info) for info in infos)
        return {name.rpartition("/")[2]: _facts(info) for name, info in named if name != root}


def names(directory: Place) -> dict[str, int]:
    """Names and sizes of the files in a folder, local or not; empty where there is none."""
    if is_remote(directory):
        return {name: found.size for name, found in listing(directory).items() if not found.is_folder}
    sizes: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # it went since it was listed
                if entry.is_file():
                    sizes[entry.name] = entry.stat().st_size
    return sizes


def read_range(path: str, start: int, num_bytes: int) -> bytes:
    """Part of a file; shorter only where the file ends. In a bucket one request. Raises as its library does."""
    if is_remote(path):
        system, inner = fsspec.url_to_fs(path)
        return system.cat_file(inner, start, start + num_bytes)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        return os.pread(descriptor, num_bytes, start)
    finally:
        os.close(descriptor)


def read_ranges(path: Place, starts: Sequence[int], sizes: Sequence[int]) -> Iterator[bytes]:
    """Parts of a file; those of a bucket are asked for at once. Raises `OSError`, or `StorageError` of a bucket."""
    if is_remote(path):
        with explained(path):
            system, inner = fsspec.url_to_fs(os.fspath(path))
            ends = [start + size for start, size in zip(starts, sizes, strict=True)]
            yield from system.cat_ranges([inner] * len(ends), list(starts), ends, on_error="raise")
        return
    with path.open("rb") as file:
        for start, size in zip(starts, sizes, strict=True):
            file.seek(start)
            yield file.read(size)


def read_all(path: epath.PathLike) -> bytes:
    """A whole file; in a bucket by one request. Raises `OSError`, or `StorageError` of a bucket."""
    if not is_remote(path):
        return Path(path).read_bytes()
    with explained(path):
        system, inner = fsspec.url_to_fs(os.fspath(path))
        return system.cat_file(inner)


class _BucketFile(io.RawIOBase):
    """A file of a bucket, opened for reading, whose errors are `StorageError`."""

    mode = "rb"

    def __init__(self, path: str, block: int):
        self.name = path
        with explained(path):
            system, inner = _system(path)
            self._file = system.open(inner, "rb", block_size=block, cache_type="readahead")

    def readinto(self, buffer: Any, /) -> int:
        with explained(self.name):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


def open_forwards(path: Place, *, block: int = 16 << 20) -> IO[bytes]:
    """For reading from one end to the other; may seek. In a bucket each request fetches a block of so many bytes."""
    return io.BufferedReader(_BucketFile(os.fspath(path), block)) if is_remote(path) else path.open("rb")


@contextlib.contextmanager
def atomic_file(path: Place) -> Iterator[Path]:
    """A local path to write to, whose file gets its place as a whole when the block ends well.

    A local one is synced and renamed; for a bucket it lies among the temporary files, and the object is there when its
    upload is complete. Raises `OSError`, or `StorageError` of a bucket.
    """
    # Process and host keep two commands on the same directory from writing into one file.
    name = f"{path.name}.{socket.gethostname()}-{os.getpid()}.tmp"
    temporary = Path(tempfile.gettempdir(), name) if is_remote(path) else Path(path).with_name(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if is_remote(path):
            with explained(path, "written"):
                system, inner = _system(path)
                system.put_file(str(temporary), inner)
                fsspec.url_to_fs(os.fspath(path))[0].invalidate_cache()  # of the one that etils reads through
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(directory: Place) -> None:
    """Removes what `atomic_file` began in a local directory in processes of this host that were killed."""
    if is_remote(directory):
        return
    for path in Path(directory).glob(f"*.{glob.escape(socket.gethostname())}-*.tmp"):
        process = path.name.removesuffix(".tmp").rpartition("-")[2]
        if process.isdecimal() and not _is_running(int(process)):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def make_folder(path: Place) -> None:
    """A bucket has none to make."""
    if not is_remote(path):
        path.mkdir(parents=True, exist_ok=True)


def scratch_folder(out: Place) -> Path:
    """Where files that only this machine needs may lie: in `out`, or for a bucket a folder of temporary files."""
    if not is_remote(out):
        return Path(out)
    return Path(tempfile.gettempdir(), f"luab_jax_{''.join(c if c.isalnum() else '_' for c in os.fspath(out))}")
