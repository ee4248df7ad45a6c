"""Files on a disk or in a bucket: the same calls for both, and errors of a bucket that say what to do.

A path is pathlib's where it is local and etils' where it names a bucket (`gs://`, `s3://`, `az://`, `hf://`); both have
the same methods. What these lack is here: ranged reads without read-ahead, reading forwards in large blocks, listing
one folder without keeping it in memory, and uploads. All of it goes through fsspec, as etils does; a local path never
touches it. Files are written by `atomic`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec
import fsspec.config
from etils import epath
from etils.epath import backend as epath_backend

from luab_jax.errors import StorageError, UserError
from luab_jax.io import retries

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

_MAKE = {"gs": ": gcloud storage buckets create {}", "s3": ": aws s3 mb {}"}

_OF_PATTERNS = "*?[]"

# Where TensorFlow is installed, etils would load it for gs://; it is to read as fsspec does.
os.environ.setdefault("EPATH_USE_TF", "false")


@functools.cache
def _prepare(scheme: str) -> None:
    """Before the first request of a scheme: how all of its file systems behave, those that etils makes among them.

    Raises `ImportError` where the scheme's package is not installed; then it is tried again the next time.
    """
    retries.listen(scheme)
    fsspec.config.conf.setdefault({"gs": "gcs"}.get(scheme, scheme), {}).update(retries.options(scheme))


def is_remote(path: epath.PathLike) -> bool:
    scheme, found, _ = os.fspath(path).partition("://")
    if found:
        with contextlib.suppress(ImportError):  # told by the first request
            _prepare(scheme)
    return bool(found)


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


def resolved(path: epath.PathLike) -> epath.Path:
    """Without links and `..` where it is local, as it stands where it names a bucket.

    pathlib's and etils' own `resolve` and `absolute` make `gs://b/r` a path below the working folder.
    """
    return epath.Path(path) if is_remote(path) else epath.Path(Path(path).resolve())


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
        if not is_remote(path):
            raise
        if isinstance(e, FileNotFoundError) and doing not in ("written", "found"):
            # gcsfs's own text is a URL of its API
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from e
        raise StorageError(f"{os.fspath(path)}: cannot be {doing}: {_cause(e, os.fspath(path))}") from e


def _cause(error: Exception, path: str) -> str:
    """One line with the remedy."""
    scheme = path.partition("://")[0]
    if isinstance(error, FileNotFoundError):
        bucket = "/".join(path.split("/")[:3])
        return f"there is no such bucket; correct its name, or make it{_MAKE.get(scheme, '').format(bucket)}"
    text = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())[:300]
    if isinstance(error, ImportError):
        plugin = PLUGINS.get(scheme, "")
        return f"{scheme}:// needs the package {plugin}: pip install {plugin}"
    refused = str(getattr(error, "code", "")) in ("401", "403") or isinstance(error, PermissionError)
    if (
        refused
        or text.startswith("Forbidden")
        or "credential" in f"{type(error).__name__} {text}".lower()
        or "Anonymous caller" in text
    ):
        return f"no access ({text}); {_LOGIN.get(scheme, 'log in there')}"
    if isinstance(error, TimeoutError | ConnectionError) or "connect" in type(error).__name__.lower():
        return f"no connection ({text}); run the same command again"
    return text


def _system(path: epath.PathLike) -> tuple[Any, str]:
    """The file system of a bucket, and the path in it."""
    is_remote(path)
    return fsspec.url_to_fs(os.fspath(path))


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
        system, inner = _system(path)
        # By name: file systems have further parameters between the path and these, s3fs a `version_id`.
        return system.cat_file(inner, start=start, end=start + num_bytes)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        return os.pread(descriptor, num_bytes, start)
    finally:
        os.close(descriptor)


def read_ranges(path: Place, starts: Sequence[int], sizes: Sequence[int]) -> Iterator[bytes]:
    """Parts of a file; those of a bucket are asked for at once. Raises `OSError`, or `StorageError` of a bucket."""
    if is_remote(path):
        with explained(path):
            system, inner = _system(path)
            ends = [start + size for start, size in zip(starts, sizes, strict=True)]
            for part in system.cat_ranges([inner] * len(ends), list(starts), ends, on_error="raise"):
                if isinstance(part, BaseException):  # fsspec before June 2026 hands them over all the same
                    raise part
                yield part
        return
    with path.open("rb") as file:
        for start, size in zip(starts, sizes, strict=True):
            file.seek(start)
            yield file.read(size)


@contextlib.contextmanager
def listed_at_once(folder: epath.PathLike) -> Iterator[None]:
    """While it is entered, what libraries ask of the objects below a folder of a bucket is answered from one listing.

    They ask for one after the other, and each would be a request. To be entered for reading only: what others write
    meanwhile is not seen. Raises `StorageError`.
    """
    if not is_remote(folder):
        yield
        return
    with explained(folder, "listed"):
        system, inner = epath_backend.fsspec_backend.fs(folder), _system(folder)[1]
        system.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            system.find(inner, detail=True)
    try:
        yield
    finally:
        system.invalidate_cache()


def checksums(folder: epath.PathLike) -> dict[str, tuple[int, str]] | None:
    """Size and checksum of every object below a folder of a bucket, by one listing; names are relative to the folder.

    The checksum is what the store computed of the bytes that it received: `crc32c:BASE64` (Cloud Storage) or
    `etag:TEXT` (S3). `None` where the store lists neither, or not of all. Raises `StorageError`.
    """
    with explained(folder, "listed"):
        system, inner = _system(folder)
        found: dict[str, tuple[int, str]] = {}
        try:
            objects = system.find(inner, detail=True)
        except FileNotFoundError:  # nothing is there yet
            return found
        for path, info in objects.items():
            crc, etag = info.get("crc32c"), info.get("ETag") or info.get("etag")
            if not crc and (not etag or "generation" in info):
                return None
            name = path.removeprefix(inner.rstrip("/") + "/")
            found[name] = int(info["size"]), f"crc32c:{crc}" if crc else f"etag:{str(etag).strip(chr(34))}"
        return found


def read_all(path: epath.PathLike) -> bytes:
    """A whole file; in a bucket by one request. Raises `OSError`, or `StorageError` of a bucket."""
    if not is_remote(path):
        return Path(path).read_bytes()
    with explained(path):
        system, inner = _system(path)
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


def check_writable(path: epath.PathLike) -> None:
    """Raises `StorageError` for a bucket that is only read, and for a name there that libraries take for a pattern.

    fsspec, and with it etils and Orbax, would remove or move all objects that the pattern matches.
    """
    _refuse_read_only(path)
    found = sorted(set(os.fspath(path)) & set(_OF_PATTERNS)) if is_remote(path) else []
    if found:
        raise StorageError(
            f"{os.fspath(path)}: {found[0]} is read as part of a pattern, which objects of other names may match;"
            f" choose a name without {' '.join(_OF_PATTERNS)}"
        )


def _refuse_read_only(path: epath.PathLike) -> None:
    if os.fspath(path).startswith("hf://"):
        raise StorageError(
            f"{os.fspath(path)}: hf:// is read, not written, since every file would be a commit of its own; write to a"
            " folder, and hand it over with `hf upload`"
        )


def upload(file: Path, path: epath.PathLike) -> None:
    """Copies a local file into a bucket, where the object appears once it is complete. Raises `StorageError`."""
    _refuse_read_only(path)
    with explained(path, "written"):
        system, inner = _system(path)
        system.put_file(str(file), inner)


def create(path: epath.PathLike, content: bytes) -> bool:
    """Writes an object of a bucket unless there is one of this name; whether it was written. Raises `StorageError`."""
    _refuse_read_only(path)
    with explained(path, "written"):
        system, inner = _system(path)
        try:
            system.pipe_file(inner, content, mode="create")
        except Exception:  # stores say in different ways that the object exists
            if system.exists(inner):
                return False
            system.pipe_file(inner, content)  # a store without conditional writes; or it fails again, and says why
        return True


def remove(path: epath.PathLike) -> None:
    """Removes a file if it is there. Raises `OSError`, or `StorageError` of a bucket."""
    with contextlib.suppress(FileNotFoundError):
        if not is_remote(path):
            Path(path).unlink()
            return
        with explained(path, "removed"):
            system, inner = _system(path)
            system.rm_file(inner)


def remove_folder(path: epath.PathLike) -> None:
    """Removes a folder and all below it if it is there; in a bucket by one listing and one request for many objects.

    Raises `StorageError`.
    """
    if not is_remote(path):
        try:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path)
        except OSError as e:
            raise StorageError(f"{os.fspath(path)}: cannot be removed ({e.strerror}); remove it by hand") from e
        return
    with explained(path, "removed"):
        system, inner = _system(path)
        system.invalidate_cache()
        objects = system.find(inner)
        if plain := [name for name in objects if not glob.has_magic(name)]:
            system.rm(plain)
        for name in objects:
            if glob.has_magic(name):  # `rm` would take it for a pattern
                system.rm_file(name)
        system.invalidate_cache()


def move_folder(source: epath.PathLike, target: epath.PathLike) -> None:
    """Renames a folder; in a bucket, which has none, each object by itself. Raises `OSError`, or `StorageError`."""
    if not is_remote(source):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(source).rename(target)
        return
    with explained(source, "moved"):
        system, inner = _system(source)
        _, to = _system(target)
        for name in system.find(inner):
            system.cp_file(name, to + name[len(inner) :])  # `mv` would take some names for patterns
            system.rm_file(name)


def check_bucket(path: epath.PathLike) -> None:
    """Raises `StorageError` where the bucket that a path is in does not exist or cannot be seen."""
    if is_remote(path):
        scheme, _, inner = os.fspath(path).partition("://")
        bucket = f"{scheme}://{inner.partition('/')[0]}"
        with explained(bucket, "found"):
            system, name = _system(bucket)
            system.info(name)


def make_folder(path: Place) -> None:
    """A bucket has none to make."""
    if not is_remote(path):
        path.mkdir(parents=True, exist_ok=True)


def scratch_folder(out: Place) -> Path:
    """Where files that only this machine needs may lie: in `out`, or for a bucket a folder of temporary files."""
    if not is_remote(out):
        return Path(out)
    return Path(tempfile.gettempdir(), f"luab_jax_{''.join(c if c.isalnum() else '_' for c in os.fspath(out))}")
