"""COCO-AB JSON: one list, one record for each submitted page (collection.md §2.2)."""

from __future__ import annotations

import contextlib
import json
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from data_prep.annotations.coco_ab import read_record
from data_prep.collect.classes import ClassInfo, sets_of
from data_prep.collect.export_imagenet import inside
from data_prep.collect.fold import Action, Page
from data_prep.collect.showing import LeftOut, Showing, oddity
from data_prep.collect.tasks import Task
from data_prep.problems import Problems
from luab_jax.data.coco_classes import CATEGORY_IDS
from luab_jax.io.atomic import atomic_file


class Writer:
    """The list, written record by record."""

    def __init__(self, folder: Path, counts: Counter[str], classes: Sequence[ClassInfo], left_out: LeftOut):
        self._path, self._counts, self._left_out = folder / "coco_ab.json", counts, left_out
        self._label_of = {info.id: label for label, info in enumerate(classes)}
        self._sets = [name for name, _ in sets_of(classes)]
        self._stack = contextlib.ExitStack()
        self._votes: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (closed by discard_votes)
        weakref.finalize(self, self._votes.close)  # of an export that fails, too
        self._file: IO[str] | None = None

    def __enter__(self) -> Writer:
        temporary = self._stack.enter_context(atomic_file(self._path))
        self._file = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
        self._file.write("[")
        return self

    def __exit__(self, *error: Any) -> None:
        assert self._file is not None
        self._file.write("\n]\n")
        self._stack.__exit__(*error)

    def add(self, task: Task, showings: list[Showing]) -> None:
        """Writes what was submitted of one picture; a page whose picture did not load is no record.

        One with a class that is none of the project's (any more), or a point far outside of the picture, is left out.
        """
        assert self._file is not None
        source = task.pictures[0].source
        votes: Counter[str] = Counter()
        written = 0
        for showing in showings:
            if 0 not in showing.page.pictures or showing.page.pictures[0].state != "loaded":
                continue
            record = record_of(task, showing, self._sets)
            if why := _odd(record, self._label_of, showing.page):
                self._left_out.add(showing, source.path, why)
                continue
            written += 1
            self._file.write(",\n" if self._counts["records"] else "\n")
            self._file.write(json.dumps(record, ensure_ascii=False))
            self._counts["records"] += 1
            self._counts["actions"] += len(record["actionHistories"])
            self._counts["icons_in_the_end"] += len(showing.page.icons)
            votes.update(showing.page.icons.keys())
        majority = [name for name, number in votes.items() if 2 * number >= written]
        if majority:
            self._votes.write(json.dumps([source.image_id, sorted(majority)], ensure_ascii=False) + "\n")

    def labels(self) -> Iterator[tuple[int, str]]:
        """Image id and class of every label by majority; may be read once."""
        self._votes.seek(0)
        for line in self._votes:
            image_id, names = json.loads(line)
            for name in names:
                yield image_id, name

    def discard_votes(self) -> None:
        """Closes the scratch file of the labels."""
        self._votes.close()


def category_ids(classes: Iterable[ClassInfo]) -> dict[str, int]:
    """COCO's ids for COCO's classes; for own ones the place in the list, from 1."""
    infos = list(classes)
    if all(info.id in CATEGORY_IDS for info in infos):
        return {info.id: CATEGORY_IDS[info.id] for info in infos}
    return {info.id: number for number, info in enumerate(infos, 1)}


def record_of(task: Task, showing: Showing, sets: Sequence[str]) -> dict[str, Any]:
    """One record; times are ms since the page was opened."""
    page, picture = showing.page, showing.page.pictures[0]
    start = page.start_ms or 0.0

    def since(t: float) -> int:
        return max(round(t - start), 0)

    record: dict[str, Any] = {"image_id": task.pictures[0].source.image_id}
    if picture.natural is not None:
        record |= {"originalImageHeight": picture.natural[1], "originalImageWidth": picture.natural[0]}
    if picture.rect is not None:
        record |= {"imageHeight": round(picture.rect.height), "imageWidth": round(picture.rect.width)}
    return record | {
        "timeSpent": since(page.end_ms or start),
        "page_id": task.place,
        "hit_id": task.group,
        "worker_id": showing.worker,
        "actionHistories": [
            {
                "actionType": action.kind,
                "iconType": action.icon,
                "pointFrom": _point(action.start),
                "pointTo": _point(action.end),
                "timeAt": since(action.t),
            }
            for action in page.actions
        ],
        "categoryHistories": [
            {
                "categoryIndex": view.index,
                "categoryName": sets[view.index] if view.index < len(sets) else "",
                "timeAt": since(view.t),
                "usingKeyboard": view.keyboard,
            }
            for view in page.sets
        ],
        "mouseTracking": [{"timeAt": since(p.t), "x": p.x, "y": p.y} for p in inside(picture.trace)],
    }


def _point(point: tuple[float, float] | None) -> dict[str, float] | None:
    return None if point is None else {"x": float(point[0]), "y": float(point[1])}


def _odd(record: dict[str, Any], label_of: dict[str, int], page: Page) -> str:
    """Reads the record as `data_prep` will; what is odd about it if that is not what was folded, else nothing."""
    problems = Problems()
    read = read_record(json.loads(json.dumps(record)), label_of, problems)
    same = read is not None and [(a.kind.value, a.icon) for a in read.actions] == [
        (action.kind, action.icon) for action in page.actions
    ]
    if read is not None and same:
        same = all(map(_is_same, read.actions, page.actions))
    return "" if same else oddity(problems)


def _is_same(read: Any, action: Action) -> bool:
    end = None if read.point_to is None else (read.point_to.x, read.point_to.y)
    return end == (None if action.end is None else (float(action.end[0]), float(action.end[1])))
