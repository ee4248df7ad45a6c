"""A compressed tar, unpacked once into a scratch file; its listing stays, so that it need not be unpacked to see it."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from pathlib import Path
from typing import NamedTuple

from data_prep.sources import archives
from data_prep.sources.archive_index import Index, is_tar
from luab_jax.errors import DataError, WriteError
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file, write_errors
from luab_jax.io.console import Progress
from luab_jax.io.storage import Place


def listing_path(paths: list[Place], out: Place) -> Place:
    """Where the listing of archives is kept, under a name that is another for other archives."""
    return out / f"archive-{_key(paths)}.listing"


def _key(paths: list[Place]) -> str:
    facts = repr([(path.name, *(storage.facts(path) or ())) for path in paths])
    return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()


MAX_RATIO = 250
"""Bytes that a packed byte may become unless --max_unpacked says more. XML of traces shrinks to a thirtieth, deflated
zeros to a thousandth."""
MAX_UNPACKED = 2 << 40
"""Bytes that an archive may become unless --max_unpacked says more."""
_FLOOR = 64 << 20
"""Bytes that even a tiny archive may become."""


class Scratch(NamedTuple):
    """Where archives are unpacked that cannot be read in place, and how much they may become."""

    folder: Place
    max_unpacked: int | None = None
    """Bytes; None takes the limits above."""

    def limit(self, num_packed: int) -> int:
        """The bytes that an archive of `num_packed` bytes may become."""
        return self.max_unpacked or min(MAX_UNPACKED, max(_FLOOR, MAX_RATIO * num_packed))


def scratch_of(place: Place | Scratch) -> Scratch:
    return place if isinstance(place, Scratch) else Scratch(place)


class Unpacked:
    """The files of a compressed tar one after the other in `data`, which is there as a whole or not at all.

    A stopped run leaves `data` to the next; a finished one removes it and leaves the listing.
    """

    def __init__(self, path: Place, scratch: Scratch):
        out = scratch.folder
        self._path = path
        facts = storage.facts(path)
        self._limit = scratch.limit(facts.size if facts else 0)
        self.data = storage.scratch_folder(out) / f"scratch-{_key([path])}.bin"
        self.listing = listing_path([path], out)

    def index(self) -> Index:
        """From the listing if there is one; raises `DataError` if the archive cannot be unpacked."""
        return Index.load(self.listing, str(self._path)) or self._unpack()

    def make_readable(self) -> None:
        if not self.data.exists():
            self._unpack()

    def discard(self) -> None:
        self.data.unlink(missing_ok=True)
        if self.data.parent != self.listing.parent:
            with contextlib.suppress(OSError):  # there may be more in it
                self.data.parent.rmdir()

    def _unpack(self) -> Index:
        print(f"{self._path}: unpacking into {self.data}, removed at the end", file=sys.stderr, flush=True)
        try:
            with atomic_file(self.data, make_folder=True) as partial:
                index = self._copy(partial)
            with write_errors(self.listing):
                storage.make_folder(self.listing.parent)
                index.save(self.listing)
        except WriteError as e:
            raise DataError(f"{self._path}: cannot be unpacked into {self.data}: {e}") from e
        return index

    def _copy(self, to: Path) -> Index:
        index = Index(str(self._path))
        progress = Progress(f"unpack {self._path.name}", None, unit="files")
        with progress, to.open("wb") as out, to.open("rb") as written:
            for member, cursor in archives.stream_members(self._path, self._limit):
                at = out.tell()
                size = sum(out.write(chunk) for chunk in cursor.chunks(member.size))
                if size < member.size:
                    what = f"cut off inside {member.name!r}; copy or download the archive again"
                    raise DataError(f"{self._path}: {what}")
                if is_tar(member.name):
                    out.flush()
                progress.advance(index.enter(member._replace(size=size, at=at), written))
        return index.separate()
