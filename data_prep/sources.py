"""What people downloaded, as a tree of named files that workers can read: a folder, or archives as they came.

    a folder                                    as it lies
    a tar, or a folder of tars                  headers in one pass, then bytes in place; so are tars inside a tar
    a zip                                       its directory, then members in place
    a compressed tar (.tar.gz, .tgz, .bz2, .xz) unpacked once, in one pass, into one scratch file

`ARCHIVE/folder/inside` names a folder of an archive. The index of an archive takes about 42 bytes an entry,
names included: 50 MB for 1.1 million. A scratch file is as large as what is in the archive; it lies in --out while
the preparation runs, a stopped one finds it again, and a finished one removes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

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
    """Reads files in any process; small when pickled. Raises `OSError`."""

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

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders in `folder`, sorted."""
        ...

    def files(self, folder: str = "") -> list[File]:
        """Files in `folder`, sorted by name."""
        ...

    def below(self, folder: str) -> Source:
        """The tree from `folder` on."""
        ...

    def discard(self) -> None:
        """Removes what was unpacked for reading."""
        ...


class FolderReader:
    """Reads `root/path`."""

    def __init__(self, root: Path):
        self._root = root

    def __call__(self, path: str, span: Span) -> bytes:
        return (self._root / path).read_bytes()


class Folder:
    """A folder on disk."""

    problems: tuple[Skipped, ...] = ()

    def __init__(self, root: Path):
        self._root, self.place, self.name = root, str(root), root.resolve().name
        self.reader: Reader = FolderReader(root)

    def folders(self, folder: str = "") -> list[str]:
        return sorted(e.name for e in self._entries(folder) if not e.name.startswith(".") and e.is_dir())

    def files(self, folder: str = "") -> list[File]:
        entries = (e for e in self._entries(folder) if not e.name.startswith(".") and e.is_file())
        return sorted(File(e.name, Span(e.stat().st_size)) for e in entries)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / folder) as entries:
                return list(entries)
        except OSError as e:
            raise DataError(f"{self._root / folder}: cannot be listed as a folder ({e.strerror or e})") from e

    def below(self, folder: str) -> Source:
        return Folder(self._root / folder) if folder else self

    def discard(self) -> None:
        pass


def walk(source: Source, folder: str = "") -> Iterator[tuple[str, list[File]]]:
    """Every folder that holds files, with them, in the order of names."""
    if files := source.files(folder):
        yield folder, files
    for name in source.folders(folder):
        yield from walk(source, f"{folder}/{name}" if folder else name)
