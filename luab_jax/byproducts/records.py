"""The types of annotation byproducts, kept whole from the raw file to the shard.

All coordinates are fractions of the image as it is decoded (EXIF orientation not applied): x to the right, y down,
(x, y) order. They may lie slightly outside [0, 1], since a mouse can leave the picture by a pixel. Times are
milliseconds, since 1970 in ImageNet-AB and since the page was opened in COCO-AB; `None` is "not recorded".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class Point(NamedTuple):
    """A place on the image, in fractions of its width and height."""

    x: float
    y: float


class TimedPoint(NamedTuple):
    """A click, or one sample of a mouse trace."""

    x: float
    y: float
    time_ms: int | None


class Hover(NamedTuple):
    """The mouse entered or left the image."""

    entered: bool
    time_ms: int | None


class ActionKind(enum.Enum):
    """What an annotator did with an icon (COCO-AB `actionType`)."""

    ADD = "add"
    MOVE = "move"
    REMOVE = "remove"


class Action(NamedTuple):
    """One move of a class icon on the image (COCO-AB `actionHistories`)."""

    kind: ActionKind
    icon: str
    point_from: Point | None
    point_to: Point | None
    time_ms: int | None
    label: int = -1
    """What the icon means: an index into the class list, -1 for none of its classes."""


class CategoryView(NamedTuple):
    """The annotator turned to a page of class icons (COCO-AB `categoryHistories`)."""

    index: int
    name: str
    used_keyboard: bool
    time_ms: int | None


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


class PagePosition(NamedTuple):
    """Where on the annotation page the image stood, in pixels from the top left."""

    x: int
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """One showing of the image to one annotator, and all that he or she left behind.

    `selected` is the annotator's final answer to "does the image show the class". A click is recorded when the image
    is selected and not when it is deselected, so an annotator who toggled leaves several `clicks`, the last of which
    is the final choice.
    """

    selected: bool = False
    clicks: tuple[TimedPoint, ...] = ()
    trace: tuple[TimedPoint, ...] = ()
    hovers: tuple[Hover, ...] = ()
    actions: tuple[Action, ...] = ()
    category_views: tuple[CategoryView, ...] = ()
    time_spent_ms: int | None = None
    submit_time_s: int | None = None
    selected_count: int | None = None
    hovered_count: int | None = None
    worker_id: str = ""
    assignment_id: str = ""
    hit_id: str = ""
    source_hit_id: str = ""
    page_index: int | None = None
    image_index: int | None = None
    position_on_page: PagePosition | None = None
    display_size: Size | None = None
    original_size: Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A ground-truth box in fractions of the image; `label` is an index into the class list, -1 if unknown."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    label: int = -1
    is_crowd: bool = False
    mask: str = ""
    """COCO's `segmentation` as JSON, in pixels of the image: a list of polygons [x, y, x, y, ...], or run lengths
    {"counts": ..., "size": [height, width]}; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One prepared image: its bytes as they came, its labels, and every byproduct of every annotator.

    `file_name` is unique in a split and names the record in every message. `label` is -1 where the image has no single
    label; `labels` is the set of all correct labels where one is known (ReaL, COCO). `group` names the condition an
    evaluation image was made under, such as `gaussian_noise,severity=3`. `foreground_masks` are PNG images of one bit
    a pixel, of the size of the image (Backgrounds Challenge); masks of objects are those of their boxes.
    """

    file_name: str
    image: bytes
    height: int
    width: int
    label: int = -1
    labels: tuple[int, ...] = ()
    group: str = ""
    boxes: tuple[Box, ...] = ()
    showings: tuple[Showing, ...] = ()
    foreground_masks: tuple[bytes, ...] = ()
