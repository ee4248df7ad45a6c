"""The elements of a large JSON file, one at a time, with the bytes each of them stands in.

The standard decoder works on a window of the file that holds at least one whole element, so memory is bounded by the
largest element (at most `MAX_ELEMENT_BYTES`), not by the file. Bytes are decoded as Latin-1, in which every byte is one
character: JSON's own signs are ASCII, so positions are byte offsets, and a reader that needs the texts parses the
`raw` bytes again. ijson tells no offsets and refuses the `NaN` and `Infinity` that Python's json writes, which would
cost a whole file for one bad number; here they come as floats, and the reader of the element judges them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, NoReturn

from luab_jax.data import texts
from luab_jax.errors import DataError
from luab_jax.io import storage
from luab_jax.io.storage import Place

CHUNK_BYTES = 1 << 20
MAX_ELEMENT_BYTES = 16 << 20
"""A record of COCO-AB has about 5 kB, the largest mask of COCO about 0.2 MB."""

_BOM = "\xef\xbb\xbf"
_SPACE = " \t\n\r"


class Element(NamedTuple):
    """An element of the top-level list, or of a list that is a member of the top-level object."""

    key: str
    """Of the member; empty in a top-level list."""
    value: Any
    """Parsed; numbers and ASCII texts are right, other texts are only in `raw`."""
    offset: int
    """Of its first byte in the file."""
    raw: bytes


def parse(raw: bytes) -> Any:
    """One element with its texts; raises `DataError` if these are not UTF-8."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise DataError(f"not readable as JSON ({_reason(e)})") from e


def list_elements(path: Place, expected: str) -> Iterator[Element]:
    """Elements of a file that is one list; raises `DataError` naming the file and what was `expected` in it."""
    with _open(path) as file:
        reader = _Reader(file, path)
        reader.begin("[", expected)
        yield from reader.list_of("")
        reader.end()


def object_elements(path: Place, expected: str, lists: set[str] | None = None) -> Iterator[Element]:
    """Elements of all lists that are members of a file that is one object; other members are passed over.

    The names of these lists, empty ones too, are added to `lists`.
    """
    with _open(path) as file:
        reader = _Reader(file, path)
        reader.begin("{", expected)
        while not reader.closes("}"):
            key = reader.value().value
            if not isinstance(key, str):
                reader.fail("expected a name in quotes")
            reader.take(":")
            if reader.peek() == "[":
                reader.take("[")
                if lists is not None:
                    lists.add(key)
                yield from reader.list_of(key)
            else:
                reader.value()
        reader.end()


def _open(path: Place) -> IO[bytes]:
    try:
        return storage.open_forwards(path)
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from e


class _Reader:
    """A window of the file, and a position in it."""

    def __init__(self, file: IO[bytes], path: Place):
        self._file, self._path = file, path
        self._text, self._at, self._start = "", 0, 0
        self._at_end = False
        self._first = True
        self._decode = json.JSONDecoder().raw_decode

    def begin(self, bracket: str, expected: str) -> None:
        self._fill(CHUNK_BYTES)
        encoding = texts.encoding_of(self._text[: texts.MARK_BYTES].encode("latin-1"))
        if encoding not in ("utf-8", "utf-8-sig") or "\0" in self._text[: texts.MARK_BYTES]:
            raise DataError(f"{self._path}: is not UTF-8, as JSON should be, but UTF-16 or UTF-32; save it as UTF-8")
        if self._text.startswith(_BOM):
            self._at = len(_BOM)
        found = self.peek()
        if not found:
            raise DataError(f"{self._path}: is empty; expected {expected}")
        if found != bracket:
            kind = {"{": "an object", "[": "a list"}.get(found, f"{found!r}")
            raise DataError(f"{self._path}: begins with {kind}; expected {expected}")
        self.take(bracket)

    def end(self) -> None:
        if self.peek():
            self.fail("more text follows after the end")

    def list_of(self, key: str) -> Iterator[Element]:
        """The elements of a list whose bracket is taken."""
        while not self.closes("]"):
            yield self.value()._replace(key=key)

    def closes(self, bracket: str) -> bool:
        """Takes what stands between two elements; true at the end of list or object."""
        if self.peek() == bracket:
            self.take(bracket)
            return True
        if not self._first:
            self.take(",")
        self._first = False
        return False

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if self._at_end:
                return ""
            self._fill(CHUNK_BYTES)

    def take(self, expected: str) -> None:
        if self.peek() != expected:
            self.fail(f"expected {expected!r}")
        self._at += 1
        self._first = expected in "[{"

    def value(self) -> Element:
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError) as e:
                held = len(self._text) - self._at
                if self._at_end or held > MAX_ELEMENT_BYTES or isinstance(e, RecursionError):
                    self.fail(_reason(e))
                self._fill(max(CHUNK_BYTES, held))
                continue
            # A number at the edge of the window may go on behind it.
            whole = self._text[end - 1] in '}]"' or self._text[end : end + 1] not in ("", ".", "e", "E")
            if whole or self._at_end:
                break
            self._fill(CHUNK_BYTES)
        raw = self._text[self._at : end].encode("latin-1")
        element = Element("", value, self._start + self._at, raw)
        self._at = end
        self._first = False
        return element

    def fail(self, reason: str) -> NoReturn:
        where = self._start + self._at
        what = "is cut off or damaged" if self._at_end else "is not valid JSON"
        raise DataError(f"{self._path}: {what} in what begins at byte {where:,}: {reason}")

    def _fill(self, size: int) -> None:
        try:
            chunk = self._file.read(size)
        except OSError as e:
            raise DataError(f"{self._path}: cannot be read ({e.strerror or e})") from e
        self._at_end = not chunk
        self._text = self._text[self._at :] + chunk.decode("latin-1")
        self._start += self._at
        self._at = 0


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)
