"""COCO's instances file: which images there are, and the objects of each with box, mask and class.

A class is on an image if it has any instance there, a crowd region (`iscrowd`) included, as in the official loader of
COCO-AB: a crowd of people shows people. Boxes and masks keep the flag, so that an evaluation may leave crowds out.
"""

from __future__ import annotations

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
from luab_jax.data.storage import Place
from luab_jax.errors import DataError
from luab_jax.progress import watched

_EXPECTED = "COCO's object with `images`, `annotations` and `categories`"


class Entry(NamedTuple):
    """One image as the file describes it."""

    file_name: str
    size: Size


@dataclass(slots=True)
class Instances:
    """The file without its objects, of which only the places are held."""

    entries: dict[int, Entry] = field(default_factory=dict)
    objects: Spans = field(default_factory=Spans)
    problems: list[Skipped] = field(default_factory=list)


def read_instances(path: Place, classes: ClassList) -> Instances:
    """One pass over the file; raises `DataError` if it is no instances file or its categories are not COCO's."""
    found = Instances()
    categories: dict[int, str] = {}
    names: set[str] = set()
    for element in watched(object_elements(path, _EXPECTED), f"read {path.name}", unit="records"):
        if element.key == "images":
            _add_entry(found, names, element, path)
        elif element.key == "annotations":
            image_id = json_id(element.value.get("image_id")) if isinstance(element.value, dict) else None
            if image_id is None:
                found.problems.append(_problem(path, element, Reason.OBJECT_UNREADABLE, "no image_id"))
            else:
                found.objects.add(image_id, element)
        elif element.key == "categories":
            _add_category(categories, element, path)
    found.objects.sort()
    if not found.entries or not categories:
        raise DataError(f"{path}: lists no images or no categories; expected {_EXPECTED}")
    _check_categories(categories, classes, path)
    for image_id, count in found.objects.counts().items():
        if image_id not in found.entries:
            detail = f"{count} instance(s)"
            found.problems.append(Skipped(file=shown(image_id), reason=Reason.OBJECT_WITHOUT_IMAGE, detail=detail))
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
    image_id, name = json_id(value.get("id")), value.get("file_name")
    width, height = json_count(value.get("width")), json_count(value.get("height"))
    if isinstance(name, str):
        name = name.encode("utf-8", "replace").decode()  # no file has lone surrogates in its name
    if image_id is None or not isinstance(name, str) or not name or not width or not height:
        detail = "id, file_name, width or height is missing or invalid"
        found.problems.append(_problem(path, element, Reason.IMAGE_ENTRY, detail))
    elif image_id in found.entries or name in names:
        found.problems.append(_problem(path, element, Reason.IMAGE_ENTRY, f"id {image_id} or {name!r} stands twice"))
    else:
        names.add(name)
        found.entries[image_id] = Entry(name, Size(width, height))


def _add_category(categories: dict[int, str], element: Element, path: Place) -> None:
    value = element.value if isinstance(element.value, dict) else {}
    category_id, name = json_id(value.get("id")), value.get("name")
    if category_id is None or not isinstance(name, str):
        raise DataError(f"{path}: a category without id or name, at byte {element.offset:,}")
    categories[category_id] = name


def _check_categories(categories: Mapping[int, str], classes: ClassList, path: Place) -> None:
    """Category ids make labels, so that they must mean what COCO's mean."""
    for category_id, name in categories.items():
        if CATEGORY_IDS.get(name) != category_id:
            raise DataError(f"{path}: category {category_id} is {name!r} there, which is not so in COCO")
    strangers = [name for name in classes.ids if name not in CATEGORY_IDS]
    if strangers:
        raise DataError(f"--classes: {strangers[0]!r} is no category of COCO; ids of this list are COCO's names")


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
    edges = _edges(value.get("bbox"), stated)
    if edges is None:
        problems.add(Reason.BOX, f"bbox {value.get('bbox')!r} in {stated.width} x {stated.height}")
        return label, None
    x_min, y_min, x_max, y_max = edges
    crowd = value.get("iscrowd") in (1, True)
    mask = _mask(value.get("segmentation"), stated, problems)
    return label, Box(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max, label=label, is_crowd=crowd, mask=mask)


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
