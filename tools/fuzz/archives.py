"""Tars and zips."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from random import Random

from data_prep.images import BadImage, check_length
from data_prep.sources.archive_tree import open_source
from data_prep.sources.tree import walk
from tools.fuzz import formats
from tools.fuzz import mutations as m
from tools.fuzz.reader import Reader


def _members() -> dict[str, bytes]:
    return {"cat/a.JPEG": b"abc" * 300, "cat/" + "long" * 40 + ".JPEG": b"", "dog/é.xml": b"<a/>"}


def _read_archive(path: Path, scratch: Path) -> None:
    source = open_source(str(path), "--images", scratch=scratch)
    try:
        for folder, files in walk(source):
            for name, span in files:
                try:
                    check_length(span.size)
                    source.reader(f"{folder}/{name}", span)
                except (OSError, BadImage):  # what preparation counts
                    continue
        for skipped in source.problems:
            skipped.file.encode()
    finally:
        source.discard(listing=True)


def _tar(mode: str, form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, data in _members().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()[: 512 * 14]


def tars(scratch: Path) -> Reader:
    """Tars, tars in a tar, and compressed tars."""
    plain = [_tar("w", tarfile.GNU_FORMAT), _tar("w", tarfile.PAX_FORMAT)]
    nested = io.BytesIO()
    with tarfile.open(fileobj=nested, mode="w") as archive:
        info = tarfile.TarInfo("cat.tar")
        info.size = len(plain[0])
        archive.addfile(info, io.BytesIO(plain[0]))
    packed = [gzip.compress(plain[0], mtime=0)]
    seeds = [*plain, nested.getvalue()[: len(plain[0]) + 1536], *packed]
    path = scratch / "images.tar"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            _read_archive(path, scratch)
        finally:
            left = [p.name for p in scratch.iterdir() if p != path]
        assert not left, left

    def inside(data: bytes, rng: Random) -> bytes:
        """What is compressed is altered before it is."""
        if data[:2] == b"\x1f\x8b":
            return gzip.compress(formats.tar_with_good_checksum(plain[0], rng), mtime=0)
        return formats.tar_with_good_checksum(data, rng)

    return Reader(seeds, (*m.of_bytes(seeds), inside, inside, inside), read)


def zips(scratch: Path) -> Reader:
    """Zips, stored and deflated."""
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in _members().items():
                archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
        seeds.append(buffer.getvalue())
    path = scratch / "images.zip"
    magic = (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7")

    def read(data: bytes) -> None:
        path.write_bytes(data)
        _read_archive(path, scratch)

    def odd_field(data: bytes, rng: Random) -> bytes:
        """A field of a header or of the directory."""
        places = [i for sign in magic[:3] for i in range(len(data)) if data.startswith(sign, i)]
        if not places:
            return m.flip(data, rng)
        at = rng.choice(places) + rng.randrange(4, 46)
        value = rng.choice((b"\0\0", b"\1\0", b"\xff\xff\xff\xff", b"\x08\0", b"\x0c\0", b"\xff\x7f\0\0"))
        return data[:at] + value + data[at + len(value) :]

    return Reader(seeds, (*m.of_bytes(seeds), odd_field, odd_field, m.insert_one_of(magic)), read)
