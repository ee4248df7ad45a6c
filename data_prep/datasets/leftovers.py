"""What lies among the images or the byproducts and is not used: listed, so that nothing goes missing without a word.

Files of one folder and one reason are one line. Files that no one means as data (a README, a list of classes, what
Windows leaves in folders) are only counted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from data_prep.datasets.listing import IMAGE_SUFFIXES, Listing
from data_prep.problems import Reason
from data_prep.sources.tree import File, Source, readable, walk

_OTHER_IMAGES = (
    *(".webp", ".gif", ".bmp", ".tif", ".tiff", ".jpe", ".jfif", ".jp2", ".j2k", ".jxl", ".heic", ".heif", ".avif"),
    *(".ppm", ".pgm", ".svg", ".eps", ".psd", ".dng", ".cr2", ".nef"),
)
_NO_DATA = re.compile(
    r"thumbs\.db|desktop\.ini|(read.?me|licen[cs]e|copying|citation)(\.(txt|md|rst|html|pdf|cff|bib))?|classes\.txt",
    re.IGNORECASE,
)


def images_in(
    listing: Listing, folder: str, files: Iterable[File], used: frozenset[str] = frozenset()
) -> Iterator[File]:
    """The images among files. What else there is, is listed, but for the names and suffixes in `used`."""
    others = []
    for file in files:
        try:
            file.name.encode()
        except UnicodeEncodeError:
            name = readable(f"{folder}/{os.fsencode(file.name)!r}")
            listing.skip(name, Reason.NAME_NOT_UTF8, "rename the file")
            continue
        if file.name.lower().endswith(IMAGE_SUFFIXES):
            yield file
        else:
            others.append(file.name)
    note_files(listing, folder, others, used)


def note_files(listing: Listing, folder: str, names: Iterable[str], used: frozenset[str] = frozenset()) -> None:
    """Lists files of a folder that are not used; images among them lie where none are looked for."""
    by_reason: dict[Reason, list[str]] = {}
    for name in names:
        suffix = PurePath(name).suffix.lower()
        if name in used or suffix in used:
            continue
        listing.counts["other_files_ignored"] += 1
        if _NO_DATA.fullmatch(name):
            continue
        reason = Reason.FILE_UNUSED
        if suffix in IMAGE_SUFFIXES:
            reason = Reason.IMAGE_ELSEWHERE
        elif suffix in _OTHER_IMAGES:
            reason = Reason.IMAGE_OTHER_FORMAT
        by_reason.setdefault(reason, []).append(name)
    for reason, of_reason in by_reason.items():
        detail = f"{len(of_reason):,} such files in this folder" if len(of_reason) > 1 else ""
        listing.skip(readable("/".join(filter(None, (folder, of_reason[0])))), reason, detail)


def note_below(
    listing: Listing, source: Source, folder: str, used: frozenset[str] = frozenset(), *, shown: str = ""
) -> None:
    """Lists all that lies in folders inside `folder`, where only files are looked for. `shown` goes before names."""
    for name in source.folders(folder):
        for place, files in walk(source, "/".join(filter(None, (folder, name)))):
            note_files(listing, "/".join(filter(None, (shown, place))), (file.name for file in files), used)
