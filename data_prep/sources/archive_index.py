"""The tree inside archives: names, sizes and places of its files in little memory, and as a file beside the shards."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import zipfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import IO

import numpy as np

from data_prep.problems import Reason
from data_prep.sources import archives
from data_prep.sources.archives import Cursor, Member
from data_prep.sources.tree import File, Span
from luab_jax.data.arrays import read_arrays
from luab_jax.data.dataset import Skipped
from luab_jax.errors import DataError
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file
from luab_jax.io.storage import Place

OFFSET_BITS = 48
"""`Span.at` holds the number of the archive above the offset in it (up to 281 TB)."""


_UNSAFE = re.compile(r"[A-Za-z]:[/\\]|\.\.\\|/")
"""Names that lead out of the archive, as Windows writes them too; `..` between slashes is looked for by itself."""
_PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_ARCHIVE_SUFFIXES = (*_PACKED_SUFFIXES, ".tar")


def is_tar(name: str) -> bool:
    """By its name."""
    return name.lower().endswith(".tar")


def is_packed(name: str) -> bool:
    """Whether the name is that of a zip or a compressed tar."""
    return name.lower().endswith(_PACKED_SUFFIXES)


def stem(name: str) -> str:
    """Without the suffixes of an archive."""
    return next((name[: -len(s)] for s in _ARCHIVE_SUFFIXES if name.lower().endswith(s)), name)


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


def is_inner_tar(member: Member) -> bool:
    """Whether its name then stands for a folder."""
    return is_tar(member.name) and not member.is_link and not member.name.rpartition("/")[2].startswith(".")


def listed(member: Member, file: IO[bytes], place: str, mount: str) -> Iterator[tuple[Member, str]]:
    """A file, or the files of a tar inside a tar, each with its folder; `file` is where the member's bytes stand."""
    if not is_inner_tar(member):
        yield member, mount
        return
    cursor = Cursor(file, member.at, member.at + member.size)
    folder = "/".join(filter(None, (mount, stem(member.name).removeprefix("./"))))
    for inner in archives.tar_members(cursor, f"{place}: {member.name}"):
        yield inner, folder


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
        refused = _UNSAFE.match(member.name) or "\0" in member.name
        if refused or ".." in parts or not parts:
            self.problems.append(Skipped(file=os.fsencode(shown).decode(errors="replace"), reason=Reason.ARCHIVE_NAME))
        elif any(part.startswith(".") for part in parts):
            return
        elif member.is_other:
            self.problems.append(Skipped(file=os.fsencode(shown).decode(errors="replace"), reason=Reason.NOT_A_FILE))
        elif member.is_link:
            self.problems.append(Skipped(file=os.fsencode(shown).decode(errors="replace"), reason=Reason.ARCHIVE_LINK))
        else:
            folder = "/".join([mount, *parts[:-1]] if mount else parts[:-1])
            if folder not in self._bundles:
                self._bundles[folder] = _Bundle()
                self._connect(folder)
            self._bundles[folder].add(parts[-1], Span(member.size, number << OFFSET_BITS | member.at))

    def enter(self, member: Member, file: IO[bytes], number: int = 0, mount: str = "") -> int:
        """Takes in a file, or the files of a tar inside the tar, whose name then stands for a folder; returns how many.

        `file` is where the member's bytes stand.
        """
        count = 0
        for one, folder in listed(member, file, self.place, mount):
            self.add(one, number, folder)
            count += 1
        return count

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

    def all_folders(self) -> list[str]:
        """Those that hold files."""
        return list(self._bundles)

    def has(self, folder: str) -> bool:
        return folder in self._bundles or folder in self._children

    def fill(self, members: Iterable[Member]) -> Index:
        for member in members:
            self.add(member)
        return self.separate()

    def separate(self) -> Index:
        """Takes backslashes for slashes where no name has a slash and every one a backslash, as Windows writes them."""
        top = self._bundles.get("")
        if set(self._bundles) != {""} or top is None or any("\\" not in file.name for file in top.files()):
            return self
        del self._bundles[""]
        for name, span in top.files():
            number, at = span.at >> OFFSET_BITS, span.at & ((1 << OFFSET_BITS) - 1)
            self.add(Member(name.replace("\\", "/"), span.size, at), number)
        return self

    def save(self, path: Place) -> None:
        """Writes all of it; `load` gives it back. Raises `OSError`, or `StorageError` of a bucket."""
        bundles = self._bundles.values()
        facts = {"files": {name: len(bundle.sizes) for name, bundle in self._bundles.items()}}
        facts |= {"problems": [asdict(problem) for problem in self.problems]}
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
                names=np.frombuffer(b"".join(bytes(bundle.names) for bundle in bundles), np.uint8),
                sizes=np.concatenate([np.zeros(0, np.uint64), *(np.asarray(bundle.sizes) for bundle in bundles)]),
                ats=np.concatenate([np.zeros(0, np.uint64), *(np.asarray(bundle.ats) for bundle in bundles)]),
            )

    @classmethod
    def load(cls, path: Place, place: str) -> Index | None:
        """What was saved; `None` where there is none, or a damaged one."""
        index = cls(place)
        try:
            arrays = read_arrays(io.BytesIO(storage.read_all(path)), ("facts", "names", "sizes", "ats"))
            facts = json.loads(arrays["facts"].tobytes())
            names, sizes, ats = arrays["names"].tobytes(), arrays["sizes"], arrays["ats"]
            start, name_start = 0, 0
            for folder, count in facts["files"].items():
                bundle = index._bundles[folder] = _Bundle()
                bundle.sizes.frombytes(sizes[start : start + count].tobytes())
                bundle.ats.frombytes(ats[start : start + count].tobytes())
                name_end = name_start
                for _ in range(count):
                    name_end = names.index(b"\0", name_end) + 1
                bundle.names += names[name_start:name_end]
                index._connect(folder)
                start, name_start = start + count, name_end
            index.problems = [Skipped(**problem) for problem in facts["problems"]]
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None
        return index
