"""What COCO's instances file knows of the pictures: their ids, how many classes each shows, and the boxes of one."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_prep.annotations.json_stream import object_elements, parse
from data_prep.annotations.numbers import json_id, json_number
from luab_jax.data.class_lists import ClassList
from luab_jax.errors import DataError
from luab_jax.io import storage

Boxes = dict[str, list[list[float]]]
"""Class to boxes: x_min, y_min, x_max, y_max as fractions of the stored picture."""


@dataclass(slots=True)
class Gold:
    """What is held of the file."""

    image_ids: dict[str, int] = field(default_factory=dict)
    """File name to COCO's id."""
    boxes: dict[int, Boxes] = field(default_factory=dict)
    """Image id to the boxes of its classes. COCO's files have no EXIF orientation, so that these are as displayed."""


_EXPECTED = "COCO's object with `images`, `annotations` and `categories`"


def read_gold(path: str, classes: ClassList) -> Gold:
    """One pass, which holds every box.

    Raises `DataError` for a file that is no instances file, and for one that has an id or a name twice.
    """
    gold, sizes, names = Gold(), {}, {}
    name_of: dict[int, str] = {}
    found: list[tuple[int, int, list[float]]] = []
    for element in object_elements(storage.place(path), _EXPECTED):
        value = element.value if isinstance(element.value, dict) else {}
        if element.key == "images":
            value = parse(element.raw)
            image_id, name = json_id(value.get("id")), value.get("file_name")
            if image_id is not None and isinstance(name, str):
                name = name.encode("utf-8", "replace").decode()  # no file has lone surrogates in its name
                _check_new(gold, name_of, image_id, name, path)
                gold.image_ids[name], name_of[image_id] = image_id, name
                sizes[image_id] = (json_number(value.get("width")) or 0.0, json_number(value.get("height")) or 0.0)
        elif element.key == "annotations":
            image_id, category = json_id(value.get("image_id")), json_id(value.get("category_id"))
            bbox = value.get("bbox")
            edges = [json_number(edge) for edge in bbox] if isinstance(bbox, list) else []
            if image_id is not None and category is not None:
                found.append((image_id, category, [edge for edge in edges if edge is not None]))
        elif element.key == "categories" and (category := json_id(value.get("id"))) is not None:
            names[category] = value.get("name")
    if not gold.image_ids:
        raise DataError(f"{path}: lists no images; expected {_EXPECTED}")
    wanted = set(classes.ids)
    for image_id, category, edges in found:
        width, height = sizes.get(image_id, (0.0, 0.0))
        if names.get(category) not in wanted or min(width, height) <= 0:
            continue
        of_class = gold.boxes.setdefault(image_id, {}).setdefault(names[category], [])
        if len(edges) == 4:
            x, y, w, h = edges
            box = (x / width, y / height, (x + w) / width, (y + h) / height)
            of_class.append([round(edge, 5) for edge in box])
    return gold


def _check_new(gold: Gold, name_of: dict[int, str], image_id: int, name: str, path: str) -> None:
    """Raises `DataError` for an id or a name of an earlier image: clicks of both would come back as those of one."""
    remedy = "give each image its own entry and id"
    if name in gold.image_ids:
        ids = f"{gold.image_ids[name]} and {image_id}"
        raise DataError(f"{path}: `images`: {name!r} stands twice, with the ids {ids}; {remedy}")
    if image_id in name_of:
        raise DataError(f"{path}: `images`: id {image_id} is that of {name_of[image_id]!r} and of {name!r}; {remedy}")
