"""A prepared split as the input of another one."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.features import Example
from luab_jax.errors import DataError
from luab_jax.io import storage


@dataclass(frozen=True, slots=True)
class SplitSource:
    """Where a split lies; small enough to be sent to a worker, which opens it by itself."""

    directory: str
    split: str
    fingerprint: str
    """Of its preparation: what is made of it is made of nothing else."""

    @classmethod
    def find(cls, directory: str, split: str) -> SplitSource:
        """Raises `DataError` that says what is there instead."""
        opened = open_split(directory, split)
        if not len(opened.records):
            raise DataError(f"--from={directory}: split {split!r} holds no image")
        place = str(storage.absolute(storage.place(directory)))
        return cls(place, split, opened.manifest.fingerprint)

    def opened(self) -> PreparedSplit:
        return _opened(self)

    def example(self, index: int) -> Example:
        return Example(self.opened().records[index])

    def facts(self) -> dict[str, str | int | None]:
        """For the manifest of what is made of it."""
        manifest = self.opened().manifest
        return {"from": self.directory, "from_dataset": manifest.dataset, "from_split": self.split,
                "from_fingerprint": self.fingerprint, "from_images": manifest.num_records}  # fmt: skip

    def __str__(self) -> str:
        return f"{self.opened().manifest.dataset} {self.split}"


@functools.lru_cache(maxsize=4)
def _opened(source: SplitSource) -> PreparedSplit:
    """Opened once in a process."""
    opened = open_split(source.directory, source.split)
    if opened.manifest.fingerprint != source.fingerprint:
        raise DataError(f"{source.directory}: split {source.split!r} was prepared anew meanwhile; run this again")
    return opened
