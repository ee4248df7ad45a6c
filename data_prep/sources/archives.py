"""Members of tar and zip archives, listed in one pass, without unpacking anything.

`tarfile` is not used for walking: it keeps about 1 kB a member and ends without a word at a damaged header. Only its
reading of one header block is. Nothing here ever writes under a name that an archive gives.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from luab_jax.errors import DataError, UserError
from luab_jax.io import storage
from luab_jax.io.storage import Place

_BLOCK = 512
_MAX_HEADER_DATA = 1 << 20
"""Bytes of a long name or of extended headers; real ones have a few hundred."""
_CHUNK = 1 << 20
_MAX_MEMBER = 256 << 20
"""Of a zip, bytes: `images.MAX_IMAGE_BYTES`."""
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_UNREAD_METHODS = {9: "Deflate64 (Windows does so beyond 2 GB)", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES"}
"""APPNOTE.TXT of PKWARE, 4.4.5."""


class Member(NamedTuple):
    """A file in an archive, or what stands where a file should be."""

    name: str
    size: int
    at: int
    """Where its bytes start in the file that is walked (for a zip: its local header)."""
    is_link: bool = False
    is_other: bool = False
    """A device, a pipe or another thing that holds no bytes."""


class Cursor:
    """A stretch of a file, read forwards; skips by seeking where the file can."""

    def __init__(
        self,
        file: IO[bytes],
        start: int = 0,
        end: int | None = None,
        *,
        name: str = "",
        seekable: bool = True,
        limit: int | None = None,
    ):
        """`limit`: bytes beyond which the archive is taken for a bomb."""
        self.file, self.position, self.end, self._seekable, self._limit = file, start, end, seekable, limit
        self._name = name or getattr(file, "name", "")
        if seekable:
            file.seek(start)

    def read(self, size: int) -> bytes:
        if self.end is not None:
            size = min(size, max(self.end - self.position, 0))
        try:
            data = self.file.read(size)
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as e:  # of a compressed file
            raise DataError(f"{self._name}: cut off or damaged ({e}); copy or download the archive again") from e
        self.position += len(data)
        if self._limit is not None and self.position > self._limit:
            raise too_large(self._name, self._limit)
        return data

    def skip_to(self, position: int) -> None:
        if self._seekable:
            self.file.seek(position)
            self.position = position
        while self.position < position and self.read(min(position - self.position, _CHUNK)):
            pass

    def chunks(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, or as many as there are."""
        end = self.position + size
        while self.position < end and (data := self.read(min(end - self.position, _CHUNK))):
            yield data


def too_large(place: str, limit: int) -> DataError:
    return DataError(
        f"{place}: unpacks to more than {limit:,} bytes, which archives of images and annotations of its size do not;"
        " if this one does, say with --max_unpacked=BYTES how much it may become"
    )


def tar_members(cursor: Cursor, where: str) -> Iterator[Member]:
    """Yields files and links; the caller may read a member's bytes from the cursor before it goes on.

    Raises `DataError` naming `where` for what is no tar, is cut off (a tar ends with a block of zeros) or damaged.
    """
    start = cursor.position
    long_name, long_size = "", None
    while True:
        offset = cursor.position
        block = cursor.read(_BLOCK)
        if block == bytes(_BLOCK):
            return
        info = _header(block, where, offset - start)
        size = info.size if long_size is None else long_size
        at = cursor.position
        if size < 0 or (cursor.end is not None and at + size > cursor.end):
            raise DataError(f"{where}: cut off inside {long_name or info.name!r}; copy or download the archive again")
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            data = _header_data(cursor, size, where, at - start)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            else:
                long_name, long_size = _extended(data, long_name)
        elif info.type in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            yield Member(long_name or info.name, 0, at, is_link=True)
            long_name, long_size, size = "", None, 0
        elif info.type == tarfile.GNUTYPE_SPARSE:
            raise DataError(f"{where}: {info.name!r} is stored as a sparse file; pack the archive without --sparse")
        elif info.type not in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
            if info.isreg():
                yield Member(long_name or info.name, size, at)
            elif not info.isdir():
                yield Member(long_name or info.name, 0, at, is_other=True)
            long_name, long_size = "", None
        cursor.skip_to(at + -(-size // _BLOCK) * _BLOCK)


def _header(block: bytes, where: str, offset: int) -> tarfile.TarInfo:
    if len(block) < _BLOCK:
        start = f"not an archive (a file of {len(block):,} bytes)" if block else "the file is empty"
        what = f"cut off at byte {offset:,}" if offset else start
        raise DataError(f"{where}: {what}; copy or download the archive again")
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as e:
        what = f"damaged at byte {offset:,}" if offset else "not a tar archive"
        raise DataError(f"{where}: {what} ({e}); copy or download it again") from e


def _header_data(cursor: Cursor, size: int, where: str, offset: int) -> bytes:
    data = cursor.read(size) if size <= _MAX_HEADER_DATA else b""
    if len(data) < size:
        raise DataError(f"{where}: the long name at byte {offset:,} is cut off or larger than {_MAX_HEADER_DATA} bytes")
    return data


def _extended(data: bytes, name: str) -> tuple[str, int | None]:
    """Name and size from POSIX extended headers: lines `<length> <key>=<value>`."""
    size = None
    while (head := data.partition(b" ")[0]).isdigit() and 0 < int(head) <= len(data):
        key, _, value = data[len(head) + 1 : int(head) - 1].partition(b"=")
        data = data[int(head) :]
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif key == b"size" and value.isdigit():
            size = int(value)
    return name, size


_COMPRESSION = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


def is_compressed(path: Place) -> bool:
    """Whether the file is compressed as a whole (gzip, bzip2, xz), so that nothing in it can be read at random."""
    return _magic(path, 2) in _COMPRESSION


def is_zip(path: Place) -> bool:
    return _magic(path, 4) in (b"PK\3\4", b"PK\5\6")


def _magic(path: Place, size: int) -> bytes:
    try:
        with storage.explained(path):
            return storage.read_range(str(path), 0, size)
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from e


def stream_members(path: Place, limit: int | None = None) -> Iterator[tuple[Member, Cursor]]:
    """The members of a compressed tar, in one pass; as `tar_members`. `limit`: bytes that it may unpack to."""
    with storage.open_forwards(path) as raw, _COMPRESSION[_magic(path, 2)](raw, "rb") as file:
        cursor = Cursor(file, name=str(path), seekable=False, limit=limit)  # pyright: ignore[reportArgumentType]
        for member in tar_members(cursor, str(path)):
            yield member, cursor


def zip_members(path: Place, *, encrypted: bool, limit: int | None = None) -> Iterator[Member]:
    """The files of a zip; `at` is where the local header stands, from which `read_zipped` reads.

    Raises `DataError`, also for an encrypted file where none is expected.
    """
    try:
        with storage.open_forwards(path) as file, zipfile.ZipFile(file) as archive:
            members, size = archive.infolist(), file.seek(0, os.SEEK_END)
    except UserError:  # of a bucket
        raise
    except Exception as e:  # a damaged directory makes zipfile raise nearly anything
        raise DataError(f"{path}: not a whole zip archive ({e}); copy or download it again") from e
    # A member that is larger than any image is left out by itself, unread.
    if limit is not None and sum(info.file_size for info in members if info.file_size <= _MAX_MEMBER) > limit:
        raise too_large(str(path), limit)
    for info in members:
        if info.flag_bits & 1 and not encrypted:
            raise DataError(f"{path}: is encrypted; give the phrase of its download page with --password")
        if not 0 <= info.header_offset < size or not 0 <= info.file_size < 1 << 63:
            raise DataError(f"{path}: damaged at {info.filename!r}; copy or download it again")
        if info.filename.endswith(("/", "\\")) and not info.file_size:
            continue
        if info.compress_type not in _ZIP_METHODS:
            how = _UNREAD_METHODS.get(info.compress_type, f"method {info.compress_type}")
            raise DataError(
                f"{path}: {info.filename} is packed with {how}, which Python does not read; unpack the archive and give"
                " the folder, or pack it again with Deflate"
            )
        yield Member(_zip_name(info), info.file_size, info.header_offset)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name, also as macOS writes it: in UTF-8 without the flag that says so, which zipfile reads as CP437."""
    if not info.flag_bits & 0x800 and not info.filename.isascii():
        with contextlib.suppress(UnicodeError):
            return info.filename.encode("cp437").decode()
    return info.filename


def read_zipped(file: IO[bytes], at: int, size: int, password: bytes | None) -> bytes:
    """A member's bytes, from its local header at `at` alone: workers need not hold the list of half a million names.

    Raises `OSError` that says why: damaged, another password, an encryption or compression that Python has not.
    """
    file.seek(at)
    header = file.read(30)
    if header[:4] != b"PK\3\4":
        raise OSError(0, f"no member of the zip archive at byte {at:,}")
    flags, method, date_time = (int.from_bytes(header[i : i + 2], "little") for i in (6, 8, 10))
    info = zipfile.ZipInfo(f"member at byte {at:,}")
    info.flag_bits, info.compress_type, info.file_size = flags, method, size
    info.compress_size = int.from_bytes(header[18:22], "little")
    if flags & 8 or info.compress_size == 0xFFFFFFFF:
        # The sizes and the CRC stand behind the data or in an extra field; a deflated stream ends by itself.
        info.compress_size = size + 12 * (flags & 1) if method == zipfile.ZIP_STORED else 1 << 62
    if not flags & 8:
        info.CRC = int.from_bytes(header[14:18], "little")
    info._raw_time = date_time  # type: ignore[attr-defined] (its high byte tells a wrong password)
    file.seek(at + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"))
    try:
        with zipfile.ZipExtFile(file, "r", info, password if flags & 1 else None) as member:  # type: ignore[call-overload]
            data = member.read(size)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, EOFError) as e:
        raise OSError(0, str(e)) from e
    if len(data) < size:
        raise OSError(0, "the zip archive ends inside this member")
    return data
