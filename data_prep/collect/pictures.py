"""The pictures of a project, read where they lie: a folder, a tar of tars, a zip, a bucket."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from data_prep.collect.tasks import Source as Picture
from data_prep.images import BadImage, check_image, check_length
from data_prep.sources import archives
from data_prep.sources.archive_tree import Archive, ArchiveReader, open_source
from data_prep.sources.tree import Reader, Source, Span
from luab_jax.errors import DataError
from luab_jax.io import storage

_PNG = b"\x89PNG\r\n\x1a\n"
_FACTS_KEPT = 200_000


class PictureGoneError(DataError):
    """A picture that was planned and cannot be shown."""


class PictureSize(NamedTuple):
    """Pixels as a browser shows the picture: EXIF applied."""

    width: int
    height: int


def describe(source: Source) -> str:
    """Where pictures are read from, as JSON that `Pictures` reads, without listing an archive again."""
    if not isinstance(source, Archive):
        return json.dumps({"kind": "folder", "root": source.places[0]})
    paths = [{"path": place, "facts": _facts(place)} for place in source.places]
    return json.dumps({"kind": "archive", "paths": paths})


def _facts(place: str) -> list[object] | None:
    found = storage.facts(storage.place(place))
    return None if found is None else [found.size, found.version]


class Pictures:
    """Reads planned pictures; may be called from any thread."""

    def __init__(self, description: str, scratch: Path):
        facts = json.loads(description)
        if facts["kind"] == "folder":
            self._read: Reader = open_source(facts["root"], "the project's images", scratch=scratch).reader
        else:
            for entry in facts["paths"]:
                if _facts(entry["path"]) != entry["facts"]:
                    raise DataError(
                        f"{entry['path']}: is not the archive that was planned (gone, or written anew); put it back, or"
                        " make a new project"
                    )
            paths = tuple(storage.place(entry["path"]) for entry in facts["paths"])
            self._read = ArchiveReader(paths, zipped=archives.is_zip(paths[0]))
        self._sizes: OrderedDict[str, PictureSize] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, picture: Picture) -> bytes:
        """The file as it lies there; raises `PictureGoneError` if it cannot be read or is another one."""
        try:
            check_length(picture.size)
            data = self._read(picture.path, Span(picture.size, picture.at))
        except (OSError, BadImage) as e:
            raise PictureGoneError(f"{picture.path}: {getattr(e, 'strerror', None) or e}") from e
        if len(data) != picture.size:
            raise PictureGoneError(f"{picture.path}: changed since it was planned")
        return data

    def size(self, picture: Picture) -> PictureSize:
        """From the header; raises `PictureGoneError` for what is no image, or ends too early, too.

        It is not decoded: the browser does that, and reports what it cannot show.
        """
        with self._lock:
            if picture.path in self._sizes:
                return self._sizes[picture.path]
        try:
            header = check_image(self.read(picture), decode=False)  # 96 pictures a page: the browser decodes them
        except BadImage as e:
            raise PictureGoneError(f"{picture.path}: {e}") from e
        width, height = header.size
        found = PictureSize(height, width) if header.orientation >= 5 else PictureSize(width, height)
        with self._lock:
            self._sizes[picture.path] = found
            while len(self._sizes) > _FACTS_KEPT:
                self._sizes.popitem(last=False)
        return found


def content_type(data: bytes) -> str:
    """By the first bytes; planned pictures are JPEG or PNG."""
    return "image/png" if data.startswith(_PNG) else "image/jpeg"
