"""Digests of all files of a checkpoint, by which damage is noticed.

    SHA256SUMS        on a disk: the format of `sha256sum`, which can check it too
    OBJECT_CHECKSUMS  in a bucket: size and checksum of every object as the store computed it of the bytes it received.
                      One listing has those of a whole folder, so nothing is read back after a save, nor later.

Orbax's storage format (OCDBT) has checksums of its index but none of the arrays in it, and nothing guards the JSON
files beside it: of random bit flips in the file of arrays nearly half are restored without a word as other numbers. A
bucket guards against flipped bits itself; there an object that is missing, cut short or replaced is what is noticed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import google_crc32c
from etils import epath

from luab_jax.io import storage
from luab_jax.io.atomic import write_text

SUMS = "SHA256SUMS"
OBJECTS = "OBJECT_CHECKSUMS"
_MAY_COME_LATER = "metrics/"
"""Of an evaluation that was made up for after the checkpoint was complete."""

Listing = Mapping[str, tuple[int, str]]
"""Size and checksum by name relative to a folder, as a store lists them."""


def list_objects(folder: epath.PathLike) -> Listing | None:
    """All objects below a folder of a bucket by one listing; `None` on a disk, or where the store has no checksums."""
    return storage.checksums(folder) if storage.is_remote(folder) else None


def write_sums(folder: epath.Path) -> None:
    """Writes the digests beside the files; as a whole or, if the process dies, not at all."""
    listed = list_objects(folder)
    if listed is None:
        lines = [f"{_digest(folder / name)}  {name}\n" for name in _files(folder)]
        write_text(folder / SUMS, "".join(lines))
        return
    objects = {name: list(stated) for name, stated in sorted(listed.items()) if not _is_of_digests(name)}
    write_text(folder / OBJECTS, json.dumps(objects, indent=1) + "\n")


def has_sums(folder: epath.Path, listed: Listing | None = None) -> bool:
    if listed is not None:
        return OBJECTS in listed or SUMS in listed
    return (folder / OBJECTS).exists() or (folder / SUMS).exists()


def damage(folder: epath.Path, *, part: int = 0, num_parts: int = 1, listed: Listing | None = None) -> list[str]:
    """What is wrong with the files, in words; empty if nothing is, or if there are no digests to tell.

    Args:
        folder: A checkpoint.
        part: Of several hosts each may read its part of the files,
        num_parts: of so many. What is compared without reading is compared by the first.
        listed: The folder's `list_objects`, if it was listed already.
    """
    if listed is None:
        listed = list_objects(folder)
    if listed is not None and OBJECTS in listed:
        return [] if part else _changed_objects(folder, listed)
    if listed is None and (folder / OBJECTS).exists():  # was copied from a bucket
        return [] if part else _damaged_copy(folder)
    if not has_sums(folder, listed):
        return []
    try:
        rows = [line.split("  ", 1) for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()]
        expected = {name: digest for digest, name in rows}
    except ValueError:  # not UTF-8, or not two columns
        return [f"{SUMS} itself cannot be read"]
    found = set(_files(folder)) if listed is None else {name for name in listed if not _is_of_digests(name)}
    wrong = _missing_or_strange(expected.keys(), found, SUMS)
    for name in sorted(expected.keys() & found)[part::num_parts]:
        if _digest(folder / name) != expected[name]:
            wrong.append(f"{name} is not what was written")
    return wrong


def _missing_or_strange(expected: Any, found: set[str], sums: str) -> list[str]:
    wrong = [f"{name} is missing" for name in sorted(expected - found)]
    return wrong + [f"{sums} lacks {name}" for name in sorted(found - expected) if not name.startswith(_MAY_COME_LATER)]


def _stated(folder: epath.Path) -> dict[str, tuple[int, str]] | None:
    try:
        values = json.loads(storage.read_all(folder / OBJECTS))
        return {str(name): (int(size), str(checksum)) for name, (size, checksum) in values.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _changed_objects(folder: epath.Path, listed: Listing) -> list[str]:
    """By what the store lists; one small object is read."""
    expected = _stated(folder)
    if expected is None:
        return [f"{OBJECTS} itself cannot be read"]
    found = {name: tuple(stated) for name, stated in listed.items() if not _is_of_digests(name)}
    wrong = _missing_or_strange(expected.keys(), set(found), OBJECTS)
    both = sorted(expected.keys() & found.keys())
    return wrong + [f"{name} is not what was written" for name in both if found[name] != expected[name]]


def _damaged_copy(folder: epath.Path) -> list[str]:
    """Of a checkpoint that was copied to a disk: by size, and by CRC32C where the store computed that."""
    expected = _stated(folder)
    if expected is None:
        return [f"{OBJECTS} itself cannot be read"]
    found = set(_files(folder))
    wrong = _missing_or_strange(expected.keys(), found, OBJECTS)
    for name in sorted(expected.keys() & found):
        size, checksum = expected[name]
        content = (folder / name).read_bytes()
        crc = "crc32c:" + base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
        if len(content) != size or (checksum.startswith("crc32c:") and crc != checksum):
            wrong.append(f"{name} is not what was written")
    return wrong


def _digest(path: epath.Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


def _is_of_digests(name: str) -> bool:
    """Also a digest file whose writer was killed."""
    return "/" not in name and name.startswith((SUMS, OBJECTS))


def _files(folder: epath.Path) -> list[str]:
    """Names relative to the folder, sorted; without those of the digests."""
    names: list[str] = []
    for path in folder.iterdir():
        if path.is_dir():
            names += [f"{path.name}/{name}" for name in _files(path)]
        else:
            names.append(path.name)
    return sorted(name for name in names if not _is_of_digests(name))
