"""COCO's instances file: which images there are, and the objects of each with box, mask and class.

A class is on an image if it has any instance there, a crowd region (`iscrowd`) included, as in the official loader of
COCO-AB: a crowd of people shows people. Boxes and masks keep the flag, so that an evaluation may leave crowds out.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from data_prep.annotations.imagenet_ab import fractions
from data_prep.annotations.json_stream import Element, object_elements, parse
from data_prep.annotations.numbers import json_count, json_id, json_number
from data_prep.annotations.spans import Spans
from data_prep.images import MAX_PIXELS
from data_prep.problems import Problems, Reason
from luab_jax.byproducts.records import Box, Size
from luab_jax.data.class_lists import ClassList
from luab_jax.data.coco_classes import CATEGORY_IDS
from luab_jax.data.dataset import Skipped
from luab_jax.data.masks import rasterise
from luab_jax.errors import DataError
from luab_jax.io.console import watched
from luab_jax.io.storage import Place

_EXPECTED = "COCO's object with `images`, `annotations` and `categories`"


class Entry(NamedTuple):
    """One image as the file describes it."""

    file_name: str
    size: Size | None
    """None where the file states none: that of the image file then holds."""


@dataclass(slots=True)
class ImageIds:
    """Ids of images as numbers: COCO's own as they are, texts (file names, in other tools' JSON) as negative ones."""

    _texts: dict[str, int] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)

    def of(self, value: Any) -> int | None:
        """The number of an id from `Element.value`; None for what is no id."""
        found = json_id(value)
        if found is not None or not isinstance(value, str) or not value:
            return found
        with contextlib.suppress(UnicodeError):
            value = value.encode("latin-1").decode()  # texts of `Element.value` are bytes
        if value not in self._texts:
            self._names.append(value)
            self._texts[value] = -len(self._names)
        return self._texts[value]

    def aliases(self, entries: Mapping[int, Entry]) -> dict[int, int]:
        """Ids that are the file name of an image, with or without folder or suffix, to the id of its entry."""
        by_name: dict[str, set[int]] = {}
        for image_id, entry in entries.items() if self._texts else ():
            name = entry.file_name.rpartition("/")[2]
            for known in {entry.file_name, name, name.rpartition(".")[0]}:
                by_name.setdefault(known, set()).add(image_id)
        found = {}
        for text, number in self._texts.items():
            meant = by_name.get(text) or by_name.get(text.replace("\\", "/").rpartition("/")[2]) or set()
            if number not in entries and len(meant) == 1:
                found[number] = next(iter(meant))
        return found

    def shown(self, image_id: int) -> str:
        """How an image without file name is named in lists of problems."""
        return shown(image_id) if image_id >= 0 else f"image_id {self._names[-1 - image_id]!r}"


@dataclass(slots=True)
class Instances:
    """The file without its objects, of which only the places are held."""

    entries: dict[int, Entry] = field(default_factory=dict)
    objects: Spans = field(default_factory=Spans)
    categories: dict[int, str] = field(default_factory=dict)
    """Category id to name."""
    problems: list[Skipped] = field(default_factory=list)
    ids: ImageIds = field(default_factory=ImageIds)


def read_instances(path: Place, classes: ClassList, *, min_match: float = 0.5) -> Instances:
    """One pass over the file.

    Raises `DataError` if it is no instances file, if its categories are not COCO's, or if less than `min_match` of its
    objects are of one of its images.
    """
    found = Instances()
    categories = found.categories
    names: set[str] = set()
    lists: set[str] = set()
    num_listed, num_objects = 0, 0
    for element in watched(object_elements(path, _EXPECTED, lists), f"read {path.name}", unit="records"):
        if element.key == "images":
            num_listed += 1
            _add_entry(found, names, element, path)
        elif element.key == "annotations":
            num_objects += 1
            image_id = found.ids.of(element.value.get("image_id")) if isinstance(element.value, dict) else None
            if image_id is None:
                found.problems.append(_problem(path, element, Reason.OBJECT_UNREADABLE, "no image_id"))
            else:
                found.objects.add(image_id, element)
        elif element.key == "categories":
            _add_category(categories, element, path)
    if missing := [key for key in ("images", "annotations", "categories") if key not in lists]:
        raise DataError(f"{path}: has no list `{'` and no list `'.join(missing)}`; expected {_EXPECTED}")
    if not found.entries or not categories or not num_objects:
        empty = "images" if not found.entries else "annotations" if categories else "categories"
        first = next(
            (f"; the first: {p.file}: {p.detail}" for p in found.problems if num_listed and not found.entries), ""
        )
        raise DataError(f"{path}: its list `{empty}` holds nothing usable{first}; expected {_EXPECTED}")
    found.objects.rename(found.ids.aliases(found.entries))
    found.objects.sort()
    _check_categories(categories, classes, path)
    num_of_images = 0
    for image_id, count in found.objects.counts().items():
        if image_id in found.entries:
            num_of_images += count
        else:
            detail = f"{count} instance(s)"
            file = found.ids.shown(image_id)
            found.problems.append(Skipped(file=file, reason=Reason.OBJECT_WITHOUT_IMAGE, detail=detail))
    if not num_of_images or num_of_images < min_match * num_objects:
        raise DataError(
            f"{path}: {num_of_images} of its {num_objects} `annotations` have the `image_id` of one of its `images`"
            f" (at least {min_match:.0%} wanted, and one); {found.problems[-1].file} has none"
        )
    return found


def shown(image_id: int) -> str:
    """How an image without file name is named in lists of problems."""
    return f"image_id {image_id}"


def _problem(path: Place, element: Element, reason: Reason, detail: str) -> Skipped:
    return Skipped(file=f"{path.name}, byte {element.offset}", reason=reason, detail=detail)


def _add_entry(found: Instances, names: set[str], element: Element, path: Place) -> None:
    try:
        value = parse(element.raw)
    except DataError as e:
        found.problems.append(_problem(path, element, Reason.IMAGE_ENTRY, str(e)))
        return
    value = value if isinstance(value, dict) else {}
    name = value.get("file_name")
    image_id = found.ids.of(element.value.get("id")) if isinstance(element.value, dict) else None
    if isinstance(name, str):
        name = name.encode("utf-8", "replace").decode()  # no file has lone surrogates in its name
    if image_id is None or not isinstance(name, str) or not name:
        detail = "id or file_name is missing or invalid"
        found.problems.append(_problem(path, element, Reason.IMAGE_ENTRY, detail))
    elif image_id in found.entries or name in names:
        shown_id = value.get("id")
        found.problems.append(_problem(path, element, Reason.IMAGE_ENTRY, f"id {shown_id} or {name!r} stands twice"))
    else:
        names.add(name)
        found.entries[image_id] = Entry(name, _size(found, value, element, path))


def _size(found: Instances, value: Mapping[str, Any], element: Element, path: Place) -> Size | None:
    """What the entry states; left-out, null and zero sizes are simply unknown, anything else is a problem."""
    given = value.get("width"), value.get("height")
    width, height = map(json_count, given)
    if width and height:
        return Size(width, height)
    if any(side not in (None, 0) for side in given):
        detail = f"width {given[0]!r:.40}, height {given[1]!r:.40}: the size of the file is taken"
        found.problems.append(_problem(path, element, Reason.NUMBER, detail))
    return None


def _add_category(categories: dict[int, str], element: Element, path: Place) -> None:
    value = element.value if isinstance(element.value, dict) else {}
    category_id, name = json_id(value.get("id")), value.get("name")
    if category_id is None or not isinstance(name, str):
        raise DataError(f"{path}: a category without id or name, at byte {element.offset:,}")
    categories[category_id] = name


def _check_categories(categories: Mapping[int, str], classes: ClassList, path: Place) -> None:
    """Category ids make labels, so that they must mean what COCO's mean.

    Where the class list has names that are not COCO's, the file's own names decide, and all of the list must be there.
    """
    if not set(classes.ids) <= CATEGORY_IDS.keys():
        missing = [name for name in classes.ids if name not in categories.values()]
        if missing:
            raise DataError(
                f"--classes: {missing[0]!r} is no category of COCO, and none of {path}; ids of this list are names of"
                " categories"
            )
        if len(set(categories.values())) < len(categories):
            raise DataError(f"{path}: two categories have the same name")
        return
    for category_id, name in categories.items():
        if CATEGORY_IDS.get(name) != category_id:
            raise DataError(f"{path}: category {category_id} is {name!r} there, which is not so in COCO")


def read_object(raw: bytes, stated: Size, label_of: Mapping[int, int], problems: Problems) -> tuple[int, Box | None]:
    """One instance as its label (-1: none) and its box with mask (None: no usable box). `label_of`: category id."""
    try:
        value = parse(raw)
    except DataError as e:
        problems.add(Reason.OBJECT_UNREADABLE, str(e))
        return -1, None
    if not isinstance(value, dict):
        problems.add(Reason.OBJECT_UNREADABLE, f"not an object: {value!r:.60}")
        return -1, None
    category_id = json_id(value.get("category_id"))
    if category_id is None or category_id not in label_of:
        problems.add(Reason.OBJECT_NO_CLASS, f"category_id {value.get('category_id')!r}")
        return -1, None
    label = label_of[category_id]
    if value.get("bbox") is None:  # an entry that says only that the class is there
        return label, None
    edges = _edges(value.get("bbox"), stated)
    if edges is None:
        problems.add(Reason.BOX, f"bbox {value.get('bbox')!r} in {stated.width} x {stated.height}")
        return label, None
    x_min, y_min, x_max, y_max = edges
    crowd = _is_crowd(value.get("iscrowd"), problems)
    mask = _mask(value.get("segmentation"), stated, problems)
    return label, Box(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max, label=label, is_crowd=crowd, mask=mask)


def _is_crowd(value: Any, problems: Problems) -> bool:
    """0 or 1, as number, text or truth value; absent in files of other tools, which have no crowds."""
    number = float(value) if isinstance(value, bool) else json_number(value)
    if value is not None and number not in (0, 1):
        problems.add(Reason.CROWD, f"iscrowd {value!r:.40}")
    return number == 1


def _edges(bbox: Any, size: Size) -> tuple[float, float, float, float] | None:
    """COCO's x, y, width, height in pixels as edges in fractions."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    numbers = [number for number in map(json_number, bbox) if number is not None]
    if len(numbers) != 4:
        return None
    x, y, width, height = numbers
    return fractions([x, y, x + width, y + height], size)


def _mask(segmentation: Any, size: Size, problems: Problems) -> str:
    """The text of a valid segmentation, without loss; empty where there is none."""
    if segmentation in (None, []):
        return ""
    if isinstance(segmentation, dict):
        valid = _are_run_lengths(segmentation, size)
    else:
        valid = isinstance(segmentation, list) and all(map(_is_polygon, segmentation))
    if not valid:
        problems.add(Reason.OBJECT_MASK, repr(segmentation)[:60])
        return ""
    return json.dumps(segmentation, separators=(",", ":"))


def _are_run_lengths(value: dict[str, Any], size: Size) -> bool:
    """Runs of pixels down the columns, as numbers or in pycocotools' compressed text."""
    counts = value.get("counts")
    if value.get("size") != [size.height, size.width]:
        return False
    if isinstance(counts, str):
        return _is_compressed(value, size)
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        return False
    return sum(counts) == size.width * size.height


def _is_compressed(value: dict[str, Any], size: Size) -> bool:
    """Whether pycocotools, which alone knows the text, finds runs in it that stay in the image."""
    if not value["counts"] or size.width * size.height > MAX_PIXELS:
        return False
    try:
        rasterise(json.dumps(value), size)
    except DataError:
        return False
    return True


def _is_polygon(value: Any) -> bool:
    """At least three corners."""
    if not isinstance(value, list) or len(value) < 6 or len(value) % 2:
        return False
    return not any(isinstance(edge, str) or json_number(edge) is None for edge in value)
