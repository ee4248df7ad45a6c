"""Arrays from `.npz` files that others may have changed: never more memory than the file itself could hold."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np

_MAX_RATIO = 64
"""A list of offsets that deflates better than this was not written here; zeros deflate a thousandfold."""


def read_arrays(file: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The named arrays of an opened file, read only after their headers, sizes and the bytes that are there agree.

    Raises `ValueError` for a file that declares more than it holds, and whatever `zipfile` and numpy raise for a
    damaged one. Nothing is unpickled.
    """
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(file) as archive:
        for name in names:
            info = archive.getinfo(f"{name}.npy")
            if info.file_size > _MAX_RATIO * info.compress_size + 4096:
                raise ValueError(f"{name} declares {info.file_size:,} bytes in {info.compress_size:,}")
            with archive.open(info) as member:
                found[name] = _array(member, name, info.file_size)
    return found


def _array(member: Any, name: str, num_bytes: int) -> np.ndarray:
    version = np.lib.format.read_magic(member)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"{name}: version {version} of the format")
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read_header[version](member)
    shape, _, dtype = header
    if dtype.hasobject or any(side < 0 for side in shape):
        raise ValueError(f"{name}: {dtype} of shape {shape}")
    size = dtype.itemsize
    for side in shape:
        size *= side
    if size > num_bytes:
        raise ValueError(f"{name}: {shape} of {dtype} would take {size:,} bytes, there are {num_bytes:,}")
    data = member.read(size)
    if len(data) < size:
        raise ValueError(f"{name}: cut off")
    return np.frombuffer(data, dtype).reshape(shape)
