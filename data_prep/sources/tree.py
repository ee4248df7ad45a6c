"""What people downloaded, as a tree of named files that workers can read: a folder, or archives as they came.

    a folder                                    as it lies
    a tar, or a folder of tars                  headers in one pass, then bytes in place; so are tars inside a tar
    a zip                                       its directory, then members in place
    a compressed tar (.tar.gz, .tgz, .bz2, .xz) unpacked once, in one pass, into one scratch file

Each of them on a disk or in a bucket. `ARCHIVE/folder/inside` names a folder of an archive. The index of an archive
takes about 42 bytes an entry, names included: 50 MB for 1.1 million. A scratch file is as large as what is in the
archive; it lies in --out while the preparation runs, a stopped one finds it again, and a finished one removes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from data_prep.problems import Reason
from luab_jax.data.dataset import Skipped
from luab_jax.errors import DataError


class Span(NamedTuple):
    """Where a file's bytes are; its `repr` is the size alone, so that fingerprints do not depend on the packing."""

    size: int
    at: int = 0
    """For an archive's reader; 0 in a folder."""

    def __repr__(self) -> str:
        return str(self.size)


class File(NamedTuple):
    """A file of one folder."""

    name: str
    span: Span


class Reader(Protocol):
    """Reads files in any process; small when pickled.

    Raises `OSError` where this file cannot be read, and `StorageError` where its bucket cannot.
    """

    def __call__(self, path: str, span: Span) -> bytes: ...


class Source(Protocol):
    """A tree of files. Hidden names, macOS's `._name` among them, are not in it."""

    place: str
    """For messages."""
    name: str
    """Its last component, without the suffix of an archive."""

    @property
    def problems(self) -> tuple[Skipped, ...]: ...

    @property
    def reader(self) -> Reader: ...

    @property
    def places(self) -> tuple[str, ...]:
        """The folder or the files that `reader` opens, as absolute paths."""
        ...

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders in `folder`, sorted."""
        ...

    def files(self, folder: str = "") -> list[File]:
        """Files in `folder`, sorted by name."""
        ...

    def below(self, folder: str) -> Source:
        """The tree from `folder` on."""
        ...

    def make_readable(self) -> None:
        """Unpacks what has so far been listed only; comes before the first read."""
        ...

    def discard(self, *, listing: bool) -> None:
        """Removes what was unpacked for reading; with `listing` also what spares the next run to list it again."""
        ...


class FolderReader:
    """Reads `root/path`."""

    def __init__(self, root: Path):
        self._root = root

    def __call__(self, path: str, span: Span) -> bytes:
        return (self._root / path).read_bytes()


class Folder:
    """A folder on disk. What cannot be listed below it is among its problems once someone has asked for it."""

    def __init__(self, root: Path):
        self._root, self.place, self.name = root, str(root), root.resolve().name
        self.reader: Reader = FolderReader(root.absolute())
        self.places = (str(root.absolute()),)
        self._shown = ""
        self._problems: dict[str, Skipped] = {}

    @property
    def problems(self) -> tuple[Skipped, ...]:
        return tuple(self._problems.values())

    def folders(self, folder: str = "") -> list[str]:
        return sorted(e.name for e in self._entries(folder) if self._kind(e, folder) == "folder")

    def files(self, folder: str = "") -> list[File]:
        files = []
        for entry in self._entries(folder):
            if self._kind(entry, folder) == "file":
                try:
                    files.append(File(entry.name, Span(entry.stat().st_size)))
                except OSError as e:  # gone since it was listed
                    self._note(f"{folder}/{entry.name}", Reason.NOT_A_FILE, e.strerror or str(e))
        return sorted(files)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """All that is not hidden; raises `DataError` only if the folder that was given cannot be listed."""
        try:
            with os.scandir(self._root / folder) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as e:
            if not folder and not self._shown:
                raise DataError(f"{self._root}: cannot be listed as a folder ({e.strerror or e})") from e
            self._note(folder, Reason.FOLDER_UNREADABLE, e.strerror or str(e))
            return []

    def _kind(self, entry: os.DirEntry[str], folder: str) -> str:
        """`file`, `folder`, or nothing for what is neither, which is a problem."""
        detail = ""
        try:
            if entry.is_symlink():
                detail = f"link to {Path(entry.path).readlink()}"
            if entry.is_dir():
                if not (detail and self._is_circle(entry, folder)):
                    return "folder"
                detail += ", a folder that it lies in"
                raise OSError
            if entry.is_file():
                return "file"
        except OSError as e:  # a link in a circle, or to where one may not look
            detail = detail or e.strerror or str(e)
        self._note(f"{folder}/{entry.name}", Reason.NOT_A_FILE, detail)
        return ""

    def _is_circle(self, entry: os.DirEntry[str], folder: str) -> bool:
        """Whether a link leads to the folder that holds it, or to one above: whoever follows it never ends."""
        to, parts = os.path.realpath(entry.path), Path(folder).parts
        above = (os.path.realpath(self._root.joinpath(*parts[:depth])) for depth in range(len(parts) + 1))
        return any(f"{path}/".startswith(f"{to}/") for path in above)

    def _note(self, path: str, reason: Reason, detail: str) -> None:
        path = "/".join(filter(None, (self._shown, *path.split("/"))))
        self._problems[path] = Skipped(file=readable(path), reason=reason, detail=readable(detail))

    def below(self, folder: str) -> Source:
        if not folder:
            return self
        inside = Folder(self._root / folder)
        inside._shown = "/".join(filter(None, (self._shown, folder)))
        inside._problems = self._problems
        return inside

    def make_readable(self) -> None:
        pass

    def discard(self, *, listing: bool) -> None:
        pass


def readable(name: str) -> str:
    """A name for messages and lists, whatever bytes it has."""
    return os.fsencode(name).decode(errors="replace")


def walk(source: Source, folder: str = "") -> Iterator[tuple[str, list[File]]]:
    """Every folder that holds files, with them, in the order of names."""
    if files := source.files(folder):
        yield folder, files
    for name in source.folders(folder):
        yield from walk(source, f"{folder}/{name}" if folder else name)
