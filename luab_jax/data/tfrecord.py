"""Random access to the records of TFRecord shards, every read checked by CRC.

Grain's own TFRecord source reads in sequence and checks nothing; ArrayRecord has random access, but fewer programs read
it. Hence these few lines. The format: length (uint64), masked CRC-32C of the length, data, masked CRC-32C of the data;
all little-endian (tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import google_crc32c
import numpy as np
from etils import epath

from luab_jax.errors import DataError, ShardError
from luab_jax.io import storage
from luab_jax.io.console import say

HEADER_BYTES = 12
FOOTER_BYTES = 4
_MASK_DELTA = 0xA282EAD8


@runtime_checkable
class _Readable(Protocol):
    """A file opened for reading bytes, wherever it lies."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, whence: int = ..., /) -> int: ...


def masked_crc32c(data: bytes) -> int:
    """CRC-32C, rotated and offset so that a CRC of data that holds CRCs stays a good one."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One record as it stands in the file."""
    return b"".join((_header(len(data)), data, struct.pack("<I", masked_crc32c(data))))


def _header(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", masked_crc32c(packed))


def scan(file: _Readable, name: str) -> Iterator[tuple[int, bytes]]:
    """Yields (offset of the frame, data) of every record in sequence; raises `DataError` at the first bad one."""
    offset, end = 0, file.seek(0, os.SEEK_END)
    file.seek(0)
    while header := file.read(HEADER_BYTES):
        if len(header) < HEADER_BYTES:
            raise DataError(f"{name}: cut off in the header of the record at byte {offset}")
        (length,) = struct.unpack_from("<Q", header)
        if struct.unpack_from("<I", header, 8)[0] != masked_crc32c(header[:8]):
            raise DataError(f"{name}: the length of the record at byte {offset} fails its CRC")
        # Not even a length whose CRC is right may make us reserve more than the file has.
        body = file.read(min(length + FOOTER_BYTES, end - offset))
        yield offset, _checked(body, 0, length, f"{name}: record at byte {offset}")
        offset += HEADER_BYTES + length + FOOTER_BYTES


def _checked(content: bytes, start: int, length: int, where: str) -> bytes:
    """The `length` bytes of data at `start`, whose CRC stands behind them."""
    if len(content) < start + length + FOOTER_BYTES:
        raise ShardError(f"{where}: the file ends before the record does; prepare this shard again")
    data = content[start : start + length]
    if struct.unpack_from("<I", content, start + length)[0] != masked_crc32c(data):
        raise ShardError(
            f"{where}: fails its CRC, the bytes changed after they were written; copy or prepare this shard again"
        )
    return data


class RandomAccessTFRecords:
    """The records of many shards as one sequence of `bytes`; safe in threads and in spawned workers.

    Every read opens its shard anew, which costs far less than decoding the image; so any number of shards fits under
    the system's limit on open files. Elsewhere than on a local disk a read is one ranged request,
    without read-ahead. Nothing is cached in memory: the index costs 12 bytes per record.
    """

    def __init__(
        self,
        paths: Sequence[epath.PathLike],
        offsets: np.ndarray,
        lengths: np.ndarray,
        counts: np.ndarray,
        copies: Sequence[str] = (),
    ):
        """Takes shard paths `[s]`, frame offsets and data lengths `[n]` in shard order, and records per shard `[s]`.

        copies: Where whole shards may come to lie on this host, `[s]`; one that is there is read instead. One that
            cannot be read, or is damaged though its shard is not, is given up with a line.
        """
        self._paths = [os.fspath(path) for path in paths]
        self._copies = list(copies)
        self._offsets = offsets
        self._lengths = lengths
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._given_up: set[int] = set()

    def __repr__(self) -> str:
        # Grain prints sources in its errors and hashes them; a million offsets would not help.
        return f"{type(self).__name__}({len(self)} records in {len(self._paths)} shards)"

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Frame offsets and data lengths `[n]`, in shard order."""
        return self._offsets, self._lengths

    def take(self, indices: Sequence[int]) -> RandomAccessTFRecords:
        """These records alone, in this order."""
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        paths = [self._paths[shard] for shard in shards]
        copies = [self._copies[shard] for shard in shards] if self._copies else []
        chosen = np.asarray(indices, np.int64)
        ones = np.ones(len(chosen), np.int64)
        return RandomAccessTFRecords(paths, self._offsets[chosen], self._lengths[chosen], ones, copies)

    def with_copies(self, copies: Sequence[str]) -> RandomAccessTFRecords:
        """The same records, read from copies of the shards where these are."""
        return RandomAccessTFRecords(self._paths, self._offsets, self._lengths, self.counts, copies)

    def shards_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The shard of every record, by its number."""
        return np.searchsorted(self._starts, indices, side="right") - 1

    @property
    def counts(self) -> np.ndarray:
        """Records per shard `[s]`."""
        return np.diff(self._starts)

    def __getitem__(self, index: int) -> bytes:
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        if not self._copies or shard in self._given_up:
            return self._record(index, shard, self._paths[shard])
        copy = self._copies[shard]
        try:
            return self._record(index, shard, copy)
        except FileNotFoundError:  # not fetched yet, or given up
            return self._record(index, shard, self._paths[shard])
        except (OSError, ShardError) as e:
            record = self._record(index, shard, self._paths[shard])
            self._give_up(shard, e)
            return record

    def _give_up(self, shard: int, error: OSError | ShardError) -> None:
        """Reads the shard itself from now on, and removes its copy unless it only belongs to another user."""
        if shard in self._given_up:  # another thread did
            return
        self._given_up.add(shard)
        copy = Path(self._copies[shard])
        cause = (error.strerror or str(error)) if isinstance(error, OSError) else "damaged"
        removed = ""
        if not isinstance(error, PermissionError):
            with contextlib.suppress(OSError):
                copy.unlink(missing_ok=True)
                removed = "; it was removed"
        say(f"{copy}: {cause}, so this shard is read from {self._paths[shard]}{removed}")

    def _record(self, index: int, shard: int, path: str) -> bytes:
        """From this file. Of a copy `OSError` stays what it is."""
        length = int(self._lengths[index])
        offset = int(self._offsets[index])
        read = _read if path == self._paths[shard] else storage.read_range
        framed = read(path, offset, HEADER_BYTES + length + FOOTER_BYTES)
        where = f"{path}: record {index - int(self._starts[shard])} at byte {offset}"
        if len(framed) >= HEADER_BYTES and framed[:HEADER_BYTES] != _header(length):
            raise ShardError(
                f"{where}: its header is not that of the record in the index; the bytes changed, or shard and index are"
                " of different preparations: copy or prepare this split again"
            )
        return _checked(framed, HEADER_BYTES, length, where)


def _read(path: str, start: int, num_bytes: int) -> bytes:
    """Part of a file; shorter only where the file ends."""
    try:
        return storage.read_range(path, start, num_bytes)
    except Exception as e:  # object stores have error classes of their own
        raise ShardError(
            f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}); is the data set complete?"
        ) from e
