"""ImageNet-AB XML, field by field as in the release (collection.md §2.1).

The release has no field for the class that was asked, so that a showing is written only if its picture is a candidate
of the page of its own class. Order of keys: ASCII. An empty list is the text `None`; lists are repeated elements.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from data_prep.annotations.imagenet_ab import read_annotation
from data_prep.annotations.numbers import MAX_OVERSHOOT
from data_prep.collect.fold import Picture, Point
from data_prep.collect.showing import LeftOut, Showing, oddity
from data_prep.collect.tasks import Task
from data_prep.problems import Problems
from luab_jax.byproducts.records import Showing as Read
from luab_jax.errors import DataError
from luab_jax.io.atomic import atomic_file

Fields = dict[str, Any]
Shown = tuple[Picture, Showing]
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Writer:
    """One file a picture, written when its page comes by: a candidate is on one page only."""

    def __init__(self, folder: Path, counts: Counter[str], left_out: LeftOut):
        self._folder, self._counts, self._left_out = folder / "xml", counts, left_out

    def __enter__(self) -> Writer:
        self._folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, task: Task, showings: list[Showing]) -> None:
        """Writes the candidates of one page."""
        for index, shown in enumerate(task.pictures):
            if shown.role != "candidate" or shown.source.class_id != task.class_id:
                continue
            written = [
                (picture, showing)
                for showing in showings
                if (picture := showing.page.pictures.get(index)) is not None and picture.state == "loaded"
            ]
            if written:
                self._write(shown.source.path, task, index, written)

    def _write(self, path: str, task: Task, index: int, written: list[Shown]) -> None:
        key = path.rpartition(".")[0]
        data = _document(key, task, index, written)
        if _odd(data, key, written):
            written = self._without_odd(path, task, index, written)
            if not written:
                return
            data = _document(key, task, index, written)
        with atomic_file(self._folder / f"{key}.xml", make_folder=True, sync=False) as temporary:
            temporary.write_bytes(data)
        self._counts["xml_files"] += 1
        self._counts["showings_in_xml"] += len(written)
        self._counts["showings_selected"] += sum(picture.selected for picture, _ in written)
        self._counts["clicks"] += sum(len(picture.clicks) for picture, _ in written)
        self._counts["selected_without_a_point"] += sum(p.selected and not p.clicks for p, _ in written)
        self._counts["trace_points_outside_the_picture_left_out"] += sum(
            len(p.trace) - len(inside(p.trace)) for p, _ in written
        )

    def _without_odd(self, path: str, task: Task, index: int, written: list[Shown]) -> list[Shown]:
        """Those that can be read back, together: one file has room for 8 MiB."""
        key, kept = path.rpartition(".")[0], []
        for one in written:
            if why := _odd(_document(key, task, index, [*kept, one]), key, [*kept, one]):
                self._left_out.add(one[1], path, why)
            else:
                kept.append(one)
        return kept


def _document(key: str, task: Task, index: int, written: list[Shown]) -> bytes:
    text = document(key, [metadata(key, task, index, picture, showing) for picture, showing in written])
    return text.encode("utf-8", "surrogateescape")


def inside(points: list[Point]) -> list[Point]:
    """Those that the reader takes: at most `MAX_OVERSHOOT` outside the picture."""
    return [p for p in points if all(-MAX_OVERSHOOT <= v <= 1 + MAX_OVERSHOOT for v in (p.x, p.y))]


def metadata(key: str, task: Task, index: int, picture: Picture, showing: Showing) -> Fields:
    """One showing of picture `<class>/<stem>`, keys in order."""
    fields: Fields = {
        "assignment_id": showing.assignment_id,
        "estimateTime": round(picture.time_ms),
        "hit_id": showing.hit_id,
        "hit_submit_time": showing.submitted_ms // 1000,
        "hoveredCount": picture.hovered_count,
        "hoveredRecord": [
            {"action": "enter" if hover.entered else "leave", "time": round(hover.t)} for hover in picture.hovers
        ],
    }
    if picture.rect is not None:
        fields["imageHeight"] = round(picture.rect.height)
    if not _NO_XML.search(key) and "\r" not in key:  # else XML cannot hold it; the file's own name decides then
        fields["imageID"] = key
    if picture.rect is not None:
        fields["imagePosition"] = {"x": max(round(picture.rect.left), 0), "y": max(round(picture.rect.top), 0)}
        fields["imageWidth"] = round(picture.rect.width)
    fields["image_idx"] = index
    fields["imagenet_hit_id"] = task.group
    fields["mouseTracking"] = _points(inside(picture.trace))
    if picture.natural is not None:
        fields["originalImageHeight"], fields["originalImageWidth"] = picture.natural[1], picture.natural[0]
    fields["page_idx"] = task.place
    fields["selected"] = picture.selected
    fields["selectedCount"] = picture.select_count
    fields["selectedRecord"] = _points(inside(picture.clicks))
    fields["worker_id"] = showing.worker
    return fields


def _points(points: list[Point]) -> list[Fields]:
    return [{"time": round(p.t), "x": float(p.x), "y": float(p.y)} for p in points]


def document(key: str, showings: list[Fields]) -> str:
    """The file of one picture."""
    folder, _, name = key.rpartition("/")
    fields = {"folder": folder, "filename": name, "metadata": showings}
    return "\n".join(_lines("annotation", fields)) + "\n"


def _lines(tag: str, value: Any, indent: str = "") -> Iterator[str]:
    if isinstance(value, list) and value:
        for entry in value:
            yield from _lines(tag, entry, indent)
    elif isinstance(value, dict):
        yield f"{indent}<{tag}>"
        for name, inner in value.items():
            yield from _lines(name, inner, indent + "  ")
        yield f"{indent}</{tag}>"
    else:
        text = "None" if value == [] else escape(_NO_XML.sub("?", str(value)))
        yield f"{indent}<{tag}>{text}</{tag}>"


def _odd(data: bytes, key: str, written: list[Shown]) -> str:
    """Reads the file as `data_prep` will; what is odd about it if that is not what was folded, else nothing."""
    problems = Problems()
    try:
        found = read_annotation(data, key, problems).showings
    except DataError as e:
        return str(e)
    same = len(found) == len(written) and all(map(_is_same, found, (picture for picture, _ in written)))
    return "" if same else oddity(problems)


def _is_same(read: Read, picture: Picture) -> bool:
    clicks, trace = inside(picture.clicks), inside(picture.trace)
    return (
        read.selected == picture.selected
        and [(c.x, c.y, c.time_ms) for c in read.clicks] == [(float(p.x), float(p.y), round(p.t)) for p in clicks]
        and [(c.x, c.y, c.time_ms) for c in read.trace] == [(float(p.x), float(p.y), round(p.t)) for p in trace]
        and [(h.entered, h.time_ms) for h in read.hovers] == [(h.entered, round(h.t)) for h in picture.hovers]
    )
