"""Trees inside archives: their index, and bytes read in place."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_prep import archives
from data_prep.archives import Cursor, Member
from data_prep.problems import Reason
from data_prep.sources import File, Folder, Reader, Source, Span
from luab_jax.data.dataset import Skipped
from luab_jax.errors import DataError
from luab_jax.progress import Progress

_ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")
_OFFSET_BITS = 48
"""`Span.at` holds the number of the archive above the offset in it (up to 281 TB)."""


class ArchiveReader:
    """Reads spans of archives; the open files stay behind when it is sent to another process."""

    def __init__(self, paths: tuple[Path, ...], *, zipped: bool = False, password: bytes | None = None):
        self._paths, self._zipped, self._password = paths, zipped, password
        self._open: dict[int, IO[bytes]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def __call__(self, path: str, span: Span) -> bytes:
        number, offset = span.at >> _OFFSET_BITS, span.at & ((1 << _OFFSET_BITS) - 1)
        if number not in self._open:
            self._open[number] = self._paths[number].open("rb", buffering=-1 if self._zipped else 0)
        file = self._open[number]
        if self._zipped:
            return archives.read_zipped(file, offset, span.size, self._password)
        data = os.pread(file.fileno(), span.size, offset)
        while len(data) < span.size and (more := os.pread(file.fileno(), span.size - len(data), offset + len(data))):
            data += more
        if len(data) < span.size:
            raise OSError(0, f"{self._paths[number]} ends inside this file")
        return data

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def __del__(self) -> None:
        self.close()


class _Bundle:
    """The files of one folder of an archive, in little memory."""

    __slots__ = ("ats", "names", "sizes")

    def __init__(self) -> None:
        self.names = bytearray()
        self.sizes, self.ats = array("Q"), array("Q")

    def add(self, name: str, span: Span) -> None:
        self.names += os.fsencode(name) + b"\0"
        self.sizes.append(span.size)
        self.ats.append(span.at)

    def files(self) -> list[File]:
        names = bytes(self.names).split(b"\0")
        return sorted(
            File(os.fsdecode(name), Span(size, at)) for name, size, at in zip(names, self.sizes, self.ats, strict=False)
        )


class Index:
    """The tree inside one or several archives."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.problems: list[Skipped] = []
        self._bundles: dict[str, _Bundle] = {}
        self._children: dict[str, set[str]] = {"": set()}

    def add(self, member: Member, number: int = 0, mount: str = "") -> None:
        """Takes a file in, or lists it as a problem. `mount` is the folder that an inner archive stands for."""
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        shown = f"{mount}/{member.name}" if mount else member.name
        if member.name.startswith("/") or ".." in parts or "\0" in member.name or not parts:
            self.problems.append(Skipped(file=os.fsencode(shown).decode(errors="replace"), reason=Reason.ARCHIVE_NAME))
        elif any(part.startswith(".") for part in parts):
            return
        elif member.is_link:
            self.problems.append(Skipped(file=os.fsencode(shown).decode(errors="replace"), reason=Reason.ARCHIVE_LINK))
        else:
            folder = "/".join([mount, *parts[:-1]] if mount else parts[:-1])
            if folder not in self._bundles:
                self._bundles[folder] = _Bundle()
                self._connect(folder)
            self._bundles[folder].add(parts[-1], Span(member.size, number << _OFFSET_BITS | member.at))

    def _connect(self, folder: str) -> None:
        while folder:
            parent, _, name = folder.rpartition("/")
            children = self._children.setdefault(parent, set())
            if name in children:
                return
            children.add(name)
            folder = parent

    def folders(self, folder: str) -> list[str]:
        return sorted(self._children.get(folder, ()))

    def files(self, folder: str) -> list[File]:
        """Raises `DataError` for a name that stands twice: which of the two is meant cannot be known."""
        files = self._bundles[folder].files() if folder in self._bundles else []
        for one, other in itertools.pairwise(files):
            if one.name == other.name:
                raise DataError(
                    f"{self.place}: {folder}/{one.name} stands twice in it; unpack it (the last one then wins) and give"
                    " the folder"
                )
        return files

    def has(self, folder: str) -> bool:
        return folder in self._bundles or folder in self._children


class Archive:
    """A tree inside archives."""

    def __init__(self, index: Index, reader: Reader, name: str, *, root: str = "", scratch: tuple[Path, ...] = ()):
        self._index, self.reader, self.name, self._root, self._scratch = index, reader, name, root, scratch
        self.place = f"{index.place}/{root}" if root else index.place

    @property
    def problems(self) -> tuple[Skipped, ...]:
        return tuple(self._index.problems)

    def _inside(self, folder: str) -> str:
        return "/".join(filter(None, (self._root, folder)))

    def folders(self, folder: str = "") -> list[str]:
        return self._index.folders(self._inside(folder))

    def files(self, folder: str = "") -> list[File]:
        return self._index.files(self._inside(folder))

    def below(self, folder: str) -> Source:
        inside = self._inside(folder)
        if not self._index.has(inside):
            raise DataError(f"{self.place}: holds no folder {folder!r}; its folders are {self.folders()[:10]}")
        name = folder.rpartition("/")[2] or self.name
        return Archive(self._index, self.reader, name, root=inside, scratch=self._scratch)

    def discard(self) -> None:
        if isinstance(self.reader, ArchiveReader):
            self.reader.close()
        for path in self._scratch:
            path.unlink(missing_ok=True)


def is_tar(name: str) -> bool:
    """By its name."""
    return name.lower().endswith(".tar")


def stem(name: str) -> str:
    """Without the suffixes of an archive."""
    return next((name[: -len(s)] for s in _ARCHIVE_SUFFIXES if name.lower().endswith(s)), name)


def _filled(index: Index, members: Iterable[Member]) -> Index:
    for member in members:
        index.add(member)
    return index


def open_tars(place: str, name: str, paths: list[Path], *, mounted: bool) -> Source:
    """Opens tars as one tree; mounted, each is a folder of its own name."""
    index = Index(place)
    with Progress(f"list {name}", None, unit="files") as progress:
        for number, path in enumerate(paths):
            with path.open("rb") as file, path.open("rb") as inner:
                cursor = Cursor(file, end=path.stat().st_size)
                mount = stem(path.name) if mounted else ""
                for member in archives.tar_members(cursor, str(path)):
                    progress.advance(_add_or_enter(index, member, number, mount, inner))
    return Archive(index, ArchiveReader(tuple(paths)), name)


def _add_or_enter(index: Index, member: Member, number: int, mount: str, file: IO[bytes]) -> int:
    """Takes in a file, or the files of a tar inside the tar, whose name then stands for a folder; returns how many."""
    if not is_tar(member.name) or member.is_link or member.name.rpartition("/")[2].startswith("."):
        index.add(member, number, mount)
        return 1
    cursor = Cursor(file, member.at, member.at + member.size)
    folder = "/".join(filter(None, (mount, stem(member.name).removeprefix("./"))))
    count = 0
    for inner in archives.tar_members(cursor, f"{index.place}: {member.name}"):
        index.add(inner, number, folder)
        count += 1
    return count


def _open_compressed(path: Path, scratch: Path) -> Source:
    """Unpacks into one file without headers, `.bin`, beside its index, `.npz`, which is written last."""
    facts = path.stat()
    key = hashlib.blake2b(repr((path.name, facts.st_size, facts.st_mtime_ns)).encode(), digest_size=8).hexdigest()
    data, table = scratch / f"scratch-{key}.bin", scratch / f"scratch-{key}.npz"
    if not (table.exists() and data.exists()):
        print(f"{path}: unpacking into {data}, removed at the end", file=sys.stderr, flush=True)
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            _unpack(path, data, table)
        except OSError as e:
            data.unlink(missing_ok=True)
            raise DataError(f"{path}: cannot be unpacked into {data} ({e.strerror or e})") from e
        except DataError:
            data.unlink(missing_ok=True)
            raise
    index = Index(str(path))
    with data.open("rb") as file:
        for member in _members_of(table):
            _add_or_enter(index, member, 0, "", file)
    return Archive(index, ArchiveReader((data,)), stem(path.name), scratch=(data, table))


def _unpack(path: Path, data: Path, table: Path) -> None:
    names = bytearray()
    sizes, ats, links = array("Q"), array("Q"), array("B")
    with data.open("wb") as out, Progress(f"unpack {path.name}", None, unit="files") as progress:
        for member, cursor in archives.stream_members(path):
            names += os.fsencode(member.name) + b"\0"
            ats.append(out.tell())
            size = sum(out.write(chunk) for chunk in cursor.chunks(member.size))
            if size < member.size:
                raise DataError(f"{path}: cut off inside {member.name!r}; copy or download the archive again")
            sizes.append(size)
            links.append(member.is_link)
            progress.advance()
    partial = table.with_suffix(".tmp.npz")
    with partial.open("wb") as file:
        np.savez(file, names=np.frombuffer(bytes(names), np.uint8), sizes=sizes, ats=ats, links=links)
    partial.replace(table)


def _members_of(table: Path) -> Iterator[Member]:
    with np.load(table) as arrays:
        names = arrays["names"].tobytes().split(b"\0")
        columns = (arrays[name].tolist() for name in ("sizes", "ats", "links"))
        for name, size, at, is_link in zip(names, *columns, strict=False):
            yield Member(os.fsdecode(name), size, at, bool(is_link))


def open_archive(path: Path, flag: str, scratch: Path, password: str | None) -> Source:
    """Opens an archive, whatever its name says it is."""
    name = stem(path.name)
    try:
        if archives.is_compressed(path):
            return _open_compressed(path, scratch)
        if archives.is_zip(path):
            index = _filled(Index(str(path)), archives.zip_members(path, encrypted=password is not None))
            phrase = password.encode() if password else None
            return Archive(index, ArchiveReader((path,), zipped=True, password=phrase), name)
        return open_tars(str(path), name, [path], mounted=False)
    except DataError as e:
        raise DataError(f"{flag}: {e}") from e


def open_source(path: str, flag: str, *, scratch: Path, password: str | None = None) -> Source:
    """Opens what a flag names; `scratch` is a folder for what cannot be read in place, made only if it is needed.

    Raises `DataError` that says what is there instead.
    """
    if "://" in path:
        raise DataError(f"{flag}={path}: only local files can be read so far; copy it here first")
    whole = Path(path)
    if whole.is_dir():
        tars = [] if Folder(whole).folders() else [whole / f.name for f in Folder(whole).files() if is_tar(f.name)]
        return open_tars(str(whole), whole.name, tars, mounted=True) if tars else Folder(whole)
    for file in (whole, *whole.parents):
        if file.is_file():
            source = open_archive(file, flag, scratch, password)
            inside = whole.relative_to(file).as_posix()
            return source.below(inside) if inside != "." else source
    raise DataError(f"{flag}={path}: no such folder or archive")
