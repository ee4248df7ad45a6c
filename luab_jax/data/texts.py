"""Small text files that people write and save: the encodings that editors leave behind, and no more than a limit.

Notepad and Excel put a byte order mark before UTF-8, PowerShell's `>` writes UTF-16. Read as plain UTF-8 the first is
part of the first name, which then matches nothing.
"""

from __future__ import annotations

import codecs
import os

from etils import epath

from luab_jax.io import storage

MAX_TEXT_BYTES = 256 << 20
"""The boxes of 1.28 million images take 60 MB, the largest manifest (10,000 problems of each kind) about 30."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MARK_BYTES = 4
"""As many first bytes tell the encoding."""


def encoding_of(head: bytes) -> str:
    """By the byte order mark; UTF-8 without one."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")


def decode_text(data: bytes) -> str:
    """Raises `ValueError` for what is no text."""
    encoding = encoding_of(data[:MARK_BYTES])
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as e:
        raise ValueError(f"not a text in {encoding.upper()}: byte {e.start:,}") from e
    if "\0" in text[:1000]:
        raise ValueError("not a text, or UTF-16 without its mark; save it as UTF-8")
    return text


def read_text(path: epath.PathLike, *, limit: int = MAX_TEXT_BYTES) -> str:
    """A whole file. Raises `ValueError` for what is no text or larger than `limit` bytes, `OSError`, `StorageError`."""
    facts = storage.facts(path)
    if facts is not None and not facts.is_folder and facts.size > limit:
        raise ValueError(f"{facts.size:,} bytes, at most {limit:,} are read of {os.path.basename(os.fspath(path))}")
    return decode_text(storage.read_all(path))
