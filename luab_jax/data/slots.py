"""Memory for batches that threads and worker processes fill row by row, and that is used again.

The memory is a file without a name (`memfd_create`, elsewhere an unlinked temporary file), so nothing of it is left
behind whatever ends the run, and the small /dev/shm of a container does not limit it. A batch is handed out as views of
its slot; the slot is used again when the last view is gone, wherever that was: jax keeps the arrays that it transfers,
or on CPUs uses in place, until it is done with them.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_ALIGNMENT = 64
"""Bytes: what jax asks for to use an array in place."""


class Column(NamedTuple):
    """What every row has under one name."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Layout:
    """Where the columns of a batch stand in its slot."""

    def __init__(self, columns: Mapping[str, Column], rows: int):
        """`rows` is the batch's, at least one."""
        self._places: dict[str, tuple[int, tuple[int, ...], np.dtype]] = {}
        end = 0
        for name, column in columns.items():
            shape = (rows, *column.shape)
            self._places[name] = (end, shape, column.dtype)
            end += math.prod(shape) * column.dtype.itemsize
            end = -(-end // _ALIGNMENT) * _ALIGNMENT
        page = mmap.ALLOCATIONGRANULARITY
        self.num_bytes = max(1, -(-end // page)) * page
        """Of a slot."""

    def views(self, slot: np.ndarray) -> dict[str, np.ndarray]:
        """The columns in the bytes of a slot."""
        found: dict[str, np.ndarray] = {}
        for name, (start, shape, dtype) in self._places.items():
            part = slot[start : start + math.prod(shape) * dtype.itemsize]
            found[name] = part.view(dtype).reshape(shape)
        return found


def anonymous_file(num_bytes: int = 0) -> int:
    """The descriptor of a file without a name, which is gone with the last process that has it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("luab_jax")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, num_bytes)
    return descriptor


class Mapped:
    """Slots of a file as this process sees them, mapped when they are first asked for."""

    def __init__(self, descriptor: int, layout: Layout):
        self._descriptor = descriptor
        self._layout = layout
        self._maps: dict[int, mmap.mmap] = {}

    def bytes_of(self, number: int) -> np.ndarray:
        """A new array of the slot's bytes."""
        if number not in self._maps:
            size = self._layout.num_bytes
            self._maps[number] = mmap.mmap(self._descriptor, size, offset=number * size)
        return np.frombuffer(self._maps[number], np.uint8)


class Slots:
    """Hands out memory for batches. Grows where every slot is in use, so that whoever keeps batches may."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.descriptor = anonymous_file()
        self._mapped = Mapped(self.descriptor, layout)
        self._free: deque[int] = deque()
        self._count = 0
        self._closed = weakref.finalize(self, os.close, self.descriptor)

    def take(self) -> tuple[int, dict[str, np.ndarray]]:
        """A slot's number, and its columns; it is free again when all views of these are gone."""
        try:
            number = self._free.popleft()
        except IndexError:
            number, self._count = self._count, self._count + 1
            os.ftruncate(self.descriptor, self._count * self.layout.num_bytes)
        whole = self._mapped.bytes_of(number)
        weakref.finalize(whole, self._free.append, number).atexit = False  # views keep `whole`: it is their base
        return number, self.layout.views(whole)

    def close(self) -> None:
        """What is handed out stays."""
        self._closed()
