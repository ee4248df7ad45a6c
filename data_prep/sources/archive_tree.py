"""Trees inside archives: their index, and bytes read in place."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple

from data_prep.sources import archives
from data_prep.sources.archive_index import OFFSET_BITS, Index, is_inner_tar, is_packed, is_tar, listed, stem
from data_prep.sources.archives import Cursor, Member
from data_prep.sources.buckets import BucketFolder
from data_prep.sources.scratch_tar import Scratch, Unpacked, listing_path, scratch_of
from data_prep.sources.tree import File, Folder, Reader, Source, Span
from luab_jax.data.dataset import Skipped
from luab_jax.errors import DataError
from luab_jax.io import storage
from luab_jax.io.console import Progress
from luab_jax.io.storage import Place
from luab_jax.io.threads import in_threads

_TARS_AT_ONCE = 8
"""Of a bucket: each has a block of 16 MiB under way."""
_HEADER_BLOCK = 1 << 16
"""Bytes of one request for the headers of a tar whose members are skipped."""
_ZIP_BLOCK = 1 << 20
"""Bytes of one request for a member of a zip in a bucket."""
_AN_ARCHIVE = ", expected a folder or an archive (.tar, .tar.gz, .tgz, .tar.bz2, .tar.xz, .zip)"
_EXPECTED = {
    "--byproducts": ", expected XML in class folders (a folder or an archive); a table of clicks goes with `data_prep"
    " folder`, as .csv with a header file_name,x,y or as .jsonl with one JSON object a line",
    "--boxes": ", expected ILSVRC's XML (a folder or an archive) or a .txt of boxes; Kaggle's LOC_val_solution.csv"
    " repeats the XML of ILSVRC/Annotations/CLS-LOC/val",
}
_DATA_FILES = {
    *(".jpg", ".jpeg", ".png", ".mp4", ".xml"),
    *(".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".npz", ".npy"),
}
"""Suffixes of images, annotations and tables: a folder with one of them is read as it is, whatever else it holds."""
_NO_ARCHIVES = _DATA_FILES | {".txt", ".xls", ".xlsx", ".pkl", ".md", ".html", ".rar", ".7z"}
"""Suffixes of what people give by mistake; anything else is looked into."""
_BUCKET_PARTS = 3
"""`/`, `gs` and the bucket: nothing above them is a file."""


class ArchiveReader:
    """Reads spans of archives; the open files stay behind when it is sent to another process."""

    def __init__(self, paths: tuple[Place, ...], *, zipped: bool = False, password: bytes | None = None):
        self._paths = tuple(map(storage.absolute, paths))
        self._zipped, self._password = zipped, password
        self._open: dict[int, IO[bytes]] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_paths": self._paths, "_zipped": self._zipped, "_password": self._password}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_open": {}, "_lock": threading.Lock()}

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(map(str, self._paths))

    def __call__(self, path: str, span: Span) -> bytes:
        number, offset = span.at >> OFFSET_BITS, span.at & ((1 << OFFSET_BITS) - 1)
        if self._zipped:
            with self._lock:  # a file has one position
                return archives.read_zipped(self._file(number), offset, span.size, self._password)
        data = self._read(number, offset, span.size)
        while len(data) < span.size and (more := self._read(number, offset + len(data), span.size - len(data))):
            data += more
        if len(data) < span.size:
            raise OSError(0, f"{self._paths[number]} ends inside this file")
        return data

    def _read(self, number: int, offset: int, size: int) -> bytes:
        """In a bucket one request; on a disk from a file that stays open."""
        path = self._paths[number]
        if not storage.is_remote(path):
            with self._lock:
                file = self._file(number)
            return os.pread(file.fileno(), size, offset)
        with storage.explained(path):
            return storage.read_range(str(path), offset, size) if size else b""

    def _file(self, number: int) -> IO[bytes]:
        if number not in self._open:
            path = self._paths[number]
            if storage.is_remote(path):
                self._open[number] = storage.open_forwards(path, block=_ZIP_BLOCK)
            else:
                buffering = -1 if self._zipped else 0
                self._open[number] = Path(path).open("rb", buffering=buffering)  # noqa: SIM115 (closed by close)
        return self._open[number]

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def __del__(self) -> None:
        self.close()


class Archive:
    """A tree inside archives."""

    def __init__(
        self,
        index: Index,
        reader: ArchiveReader,
        name: str,
        *,
        root: str = "",
        listing: Place | None = None,
        unpacked: Unpacked | None = None,
    ):
        self._index, self._reader, self.name, self._root = index, reader, name, root
        self._listing, self._unpacked = listing, unpacked
        self.reader: Reader = reader
        self.place = f"{index.place}/{root}" if root else index.place

    @property
    def places(self) -> tuple[str, ...]:
        return self._reader.places

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
        return Archive(self._index, self._reader, name, root=inside, listing=self._listing, unpacked=self._unpacked)

    def make_readable(self) -> None:
        if self._unpacked is not None:
            self._unpacked.make_readable()

    def discard(self, *, listing: bool) -> None:
        self._reader.close()
        if self._unpacked is not None:
            self._unpacked.discard()
        if listing and self._listing is not None:
            with contextlib.suppress(OSError):
                self._listing.unlink(missing_ok=True)


def open_tars(place: str, name: str, paths: list[Place], out: Place, *, mounted: bool) -> Source:
    """Opens tars as one tree; mounted, each is a folder of its own name.

    Headers stand between the files, so that those of a bucket are read as a whole; hence their listing is kept.
    """
    listing = listing_path(paths, out) if storage.is_remote(paths[0]) else None
    index = Index.load(listing, place) if listing else None
    if index is None:
        index = Index(place)
        mounts = [stem(path.name) if mounted else "" for path in paths]
        with Progress(f"list {name}", None, unit="files") as progress:
            if storage.is_remote(paths[0]):
                _add_tars_of_bucket(index, paths, mounts, progress)
            else:
                for number, path in enumerate(paths):
                    _add_tar(index, path, number, mounts[number], progress)
        index.separate()
        if listing is not None:
            storage.make_folder(out)
            index.save(listing)
    return Archive(index, ArchiveReader(tuple(paths)), name, listing=listing)


class _Stretch(NamedTuple):
    """What is listed by itself: a tar in a bucket, or one member of it, such as a tar inside it."""

    number: int
    path: Place
    mount: str
    member: Member | None = None


def _add_tars_of_bucket(index: Index, paths: list[Place], mounts: list[str], progress: Progress) -> None:
    """Several at a time, for headers stand between the files, and each tar is read from end to end."""
    stretches = (_Stretch(number, path, mounts[number]) for number, path in enumerate(paths))
    parts = itertools.chain.from_iterable(map(_stretches, stretches))
    for found, members in in_threads(functools.partial(_listed, place=index.place), parts, _TARS_AT_ONCE):
        for member, folder in members:
            index.add(member, found.number, folder)
        progress.advance(len(members))


def _stretches(whole: _Stretch) -> Iterator[_Stretch]:
    """The members of a tar that begins with a tar, found by its own headers alone; any other tar as a whole."""
    with storage.open_forwards(whole.path, block=_HEADER_BLOCK) as file:
        members = archives.tar_members(Cursor(file, end=file.seek(0, os.SEEK_END)), str(whole.path))
        first = next(members, None)
        if first is None or not is_inner_tar(first):
            yield whole
            return
        for member in itertools.chain([first], members):
            yield whole._replace(member=member)


def _listed(stretch: _Stretch, place: str) -> tuple[_Stretch, list[tuple[Member, str]]]:
    """Runs in a thread."""
    _, path, mount, member = stretch
    if member is not None and not is_inner_tar(member):
        return stretch, [(member, mount)]
    with storage.open_forwards(path) as file:
        members: Iterable[Member | None] = [member]
        if member is None:
            members = archives.tar_members(Cursor(file, end=file.seek(0, os.SEEK_END)), str(path))
        return stretch, [entry for one in members if one for entry in listed(one, file, place, mount)]


def _add_tar(index: Index, path: Place, number: int, mount: str, progress: Progress) -> None:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(storage.open_forwards(path))
        # Two positions in a file on a disk, one in a bucket, where blocks that were fetched should not be left.
        inner = file if storage.is_remote(path) else stack.enter_context(storage.open_forwards(path))
        cursor = Cursor(file, end=file.seek(0, os.SEEK_END))
        for member in archives.tar_members(cursor, str(path)):
            progress.advance(index.enter(member, inner, number, mount))


def open_archive(path: Place, flag: str, scratch: Scratch, password: str | None) -> Source:
    """Opens an archive, whatever its name says it is."""
    name = stem(path.name)
    try:
        if archives.is_compressed(path):
            unpacked = Unpacked(path, scratch)
            index = unpacked.index()
            return Archive(index, ArchiveReader((unpacked.data,)), name, listing=unpacked.listing, unpacked=unpacked)
        if archives.is_zip(path):
            facts = storage.facts(path)
            limit = scratch.limit(facts.size if facts else 0)
            index = Index(str(path)).fill(archives.zip_members(path, encrypted=password is not None, limit=limit))
            phrase = password.encode() if password else None
            reader = ArchiveReader((path,), zipped=True, password=phrase)
            if phrase is not None:
                _check_password(index, reader)
            return Archive(index, reader, name)
        return open_tars(str(path), name, [path], scratch.folder, mounted=False)
    except DataError as e:
        raise DataError(f"{flag}: {e}") from e


def _check_password(index: Index, reader: ArchiveReader) -> None:
    """On one small file, so that a wrong phrase does not leave out every image. Raises `DataError`."""
    files = (file for folder in index.all_folders() for file in index.files(folder))
    smallest = min(itertools.islice(files, 10_000), key=lambda file: file.span.size, default=None)
    try:
        if smallest is not None:
            reader(smallest.name, smallest.span)
    except OSError as e:
        if "assword" in str(e):
            raise DataError(f"{index.place}: --password is not the phrase of this archive") from e
    finally:
        reader.close()


def open_source(path: str, flag: str, *, scratch: Place | Scratch, password: str | None = None) -> Source:
    """Opens what a flag names; `scratch` is a folder for what cannot be read in place, made only if it is needed.

    Raises `DataError` that says what is there instead, and `StorageError` for a bucket that cannot be read.
    """
    whole, scratch = storage.place(path), scratch_of(scratch)
    facts = storage.facts(whole)
    if facts is not None and facts.is_folder:
        folder = BucketFolder(path) if storage.is_remote(whole) else Folder(Path(whole))
        names = [] if folder.folders() else [file.name for file in folder.files()]
        if tars := [whole / name for name in names if is_tar(name)]:
            return open_tars(str(whole), whole.name, tars, scratch.folder, mounted=True)
        packed = [name for name in names if is_packed(name)]
        if packed and not any(PurePath(name).suffix.lower() in _DATA_FILES for name in names):
            first = ", ".join(packed[:3]) + (", ..." if len(packed) > 3 else "")
            raise DataError(
                f"{flag}={path}: holds archives ({first}); give one of them, or unpack them (in a folder, only"
                " uncompressed .tar files are read directly)"
            )
        return folder
    for file in (whole, *whole.parents):
        if storage.is_remote(whole) and len(file.parts) <= _BUCKET_PARTS:
            break
        if (facts := storage.facts(file)) is not None and not facts.is_folder:
            if file.suffix.lower() in _NO_ARCHIVES:
                raise DataError(f"{flag}={path}: a {file.suffix} file{_EXPECTED.get(flag, _AN_ARCHIVE)}")
            source = open_archive(file, flag, scratch, password)
            inside = whole.relative_to(file).as_posix()
            return source.below(inside) if inside != "." else source
    raise DataError(f"{flag}={path}: no such folder or archive")
