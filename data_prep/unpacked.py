"""A compressed tar, unpacked once into a scratch file; its listing stays, so that it need not be unpacked to see it."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from pathlib import Path

from data_prep import archives
from data_prep.archive_index import Index, is_tar
from data_prep.archives import Member
from luab_jax.data import storage
from luab_jax.data.storage import Place
from luab_jax.errors import DataError
from luab_jax.progress import Progress


def listing_path(paths: list[Place], out: Place) -> Place:
    """Where the listing of archives is kept, under a name that is another for other archives."""
    return out / f"archive-{_key(paths)}.listing"


def _key(paths: list[Place]) -> str:
    facts = repr([(path.name, *(storage.facts(path) or ())) for path in paths])
    return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()


class Unpacked:
    """The files of a compressed tar one after the other in `data`, which is there as a whole or not at all.

    A stopped run leaves `data` to the next; a finished one removes it and leaves the listing.
    """

    def __init__(self, path: Place, out: Place):
        self._path = path
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
        partial = self.data.with_suffix(".partial")
        try:
            self.data.parent.mkdir(parents=True, exist_ok=True)
            storage.make_folder(self.listing.parent)
            index = self._copy(partial)
            partial.replace(self.data)
            index.save(self.listing)
        except OSError as e:
            raise DataError(f"{self._path}: cannot be unpacked into {self.data} ({e.strerror or e})") from e
        finally:
            partial.unlink(missing_ok=True)
        return index

    def _copy(self, to: Path) -> Index:
        index = Index(str(self._path))
        progress = Progress(f"unpack {self._path.name}", None, unit="files")
        with progress, to.open("wb") as out, to.open("rb") as written:
            for member, cursor in archives.stream_members(self._path):
                at = out.tell()
                size = sum(out.write(chunk) for chunk in cursor.chunks(member.size))
                if size < member.size:
                    what = f"cut off inside {member.name!r}; copy or download the archive again"
                    raise DataError(f"{self._path}: {what}")
                if is_tar(member.name):
                    out.flush()
                progress.advance(index.enter(Member(member.name, size, at, member.is_link), written))
        return index
