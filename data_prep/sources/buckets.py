"""A folder of a bucket as a tree of files: listed folder by folder, each file read by one request."""

from __future__ import annotations

from data_prep.sources.tree import File, Reader, Source, Span
from luab_jax.data.dataset import Skipped
from luab_jax.io import storage


class BucketReader:
    """Reads `root/path`."""

    def __init__(self, root: str):
        self._root = root

    def __call__(self, path: str, span: Span) -> bytes:
        return storage.read_all(f"{self._root}/{path}")


class BucketFolder:
    """A folder of a bucket. One listing of a folder is in memory at a time."""

    problems: tuple[Skipped, ...] = ()

    def __init__(self, root: str):
        self._root = self.place = root.rstrip("/")
        self.name = self._root.rpartition("/")[2]
        self.reader: Reader = BucketReader(self._root)
        self.places = (self._root,)
        self._listed: tuple[str, dict[str, storage.Facts]] | None = None

    def _entries(self, folder: str) -> dict[str, storage.Facts]:
        if self._listed is None or self._listed[0] != folder:
            found = storage.listing(f"{self._root}/{folder}" if folder else self._root)
            self._listed = folder, {name: facts for name, facts in found.items() if not name.startswith(".")}
        return self._listed[1]

    def folders(self, folder: str = "") -> list[str]:
        return sorted(name for name, facts in self._entries(folder).items() if facts.is_folder)

    def files(self, folder: str = "") -> list[File]:
        entries = self._entries(folder).items()
        return sorted(File(name, Span(facts.size)) for name, facts in entries if not facts.is_folder)

    def below(self, folder: str) -> Source:
        return BucketFolder(f"{self._root}/{folder}") if folder else self

    def make_readable(self) -> None:
        pass

    def discard(self, *, listing: bool) -> None:
        pass
