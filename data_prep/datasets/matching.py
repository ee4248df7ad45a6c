"""Rows of a table joined to images by name, where neither side need name the same folders.

A row's name is that of an image if they are equal, or if one of them is the end of the other (`val2/0/7.jpeg` and
`0/7.jpeg`; `7.jpeg` and `0/7.jpeg`). Names alone are compared, without their folders, only where all rows name one and
the same folder, or none: rows of several folders mean these folders. A row that could be of two images is of none, and
so are two rows with different names that could be of the same image. Everything that finds no partner is reported.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Matches:
    """What belongs together."""

    of_image: dict[str, str] = field(default_factory=dict)
    """Image to the name of its row."""
    ambiguous: dict[str, str] = field(default_factory=dict)
    """Row to why it was not used."""
    unmatched: tuple[str, ...] = ()
    """Rows without an image."""


def composed(name: str) -> str:
    """Accents as macOS writes them (a letter, then its accent) and as others do (one sign) made alike."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def match(rows: Iterable[str], images: Sequence[str]) -> Matches:
    """Joins names of rows to names of images, both with `/` between folders. Time and memory are linear."""
    tails = _Tails(images)
    rows = list(dict.fromkeys(rows))
    one_folder = len({row.rpartition("/")[0] for row in rows}) <= 1
    found: dict[str, list[str]] = {}
    unmatched: list[str] = []
    ambiguous: dict[str, str] = {}
    for row in rows:
        candidates = tails.of(row, by_name=one_folder)
        if not candidates:
            unmatched.append(row)
        elif len(candidates) > 1:
            ambiguous[row] = f"{len(candidates)} images, such as {candidates[0]} and {candidates[1]}"
        else:
            found.setdefault(candidates[0], []).append(row)
    of_image: dict[str, str] = {}
    for image, named_by in found.items():
        exact = [row for row in named_by if row == image]
        if len(named_by) == 1 or exact:
            of_image[image] = (exact or named_by)[0]
        for row in named_by:
            if len(named_by) > 1 and row not in exact:
                other = exact[0] if exact else next(name for name in named_by if name != row)
                ambiguous[row] = f"{image}, which {other} names too"
    return Matches(of_image, ambiguous, tuple(unmatched))


class _Tails:
    """Images by every end of their names: about 0.2 kB an image in one folder."""

    def __init__(self, images: Sequence[str]) -> None:
        self._by_tail: dict[str, str | tuple[str, str]] = {}
        for image in images:
            tail = composed(image)
            while tail:
                before = self._by_tail.setdefault(tail, image)
                if isinstance(before, str) and before != image:
                    self._by_tail[tail] = (before, image)
                elif not isinstance(before, str) and tail == image:  # two are as many as too many, but not without it
                    self._by_tail[tail] = (image, before[0])
                tail = tail.partition("/")[2]

    def of(self, row: str, *, by_name: bool) -> list[str]:
        """The images that a row may mean, at most two of them."""
        tail = composed(row)
        if found := self._images(tail):
            return [row] if row in found else found
        while "/" in tail:
            tail = tail.partition("/")[2]
            found = [image for image in self._images(tail) if by_name or composed(image) == tail]
            if found:
                return found
        return []

    def _images(self, tail: str) -> list[str]:
        found = self._by_tail.get(tail, ())
        return [found] if isinstance(found, str) else list(found)
