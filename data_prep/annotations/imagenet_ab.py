"""One XML file of the ImageNet-AB release, read into showings and boxes.

The format, as found in the release: one `metadata` for each time the image was shown to an annotator, perhaps none;
keys in any order; lists as repeated elements, an empty list as the text `None` (sometimes an empty element or none at
all); coordinates as ratios of the displayed image; times in ms since 1970 (`hit_submit_time` in s). `imageWidth`
repeats `imageHeight`, so only ratios are usable. An ILSVRC `object/bndbox` may stand in the same file.

The root may have any name. But a file is an annotation only if its root is called `annotation` or has a child
`metadata`, `object` or `filename`: an HTML error page saved under the name of an annotation has none of them.

What is wrong inside a showing costs only the part that is wrong, and is counted:

* `selected` counts as True or False in any case and with white space around it; otherwise the showing is not selected.
* A point with a missing, unparsable, infinite or far-off coordinate is left out; what remains is kept. A selected
  showing without a usable click stays selected, with no clicks.
* A bad time or number becomes `None`. Traces stay in recorded order, even if their times run backwards.
* A showing whose `imageID` names another image than the file does is not used.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from data_prep.annotations import safe_xml
from data_prep.annotations.numbers import MAX_OVERSHOOT, count, counts, number, ratio, ratios
from data_prep.problems import Problems, Reason
from luab_jax.byproducts.records import Hover, PagePosition, Showing, Size, TimedPoint
from luab_jax.errors import DataError

_EMPTY = Element("missing")
_IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedBox:
    """A box in fractions of `size`, the image size that the file states; `name` is a class id."""

    name: str
    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """All that one file says about its image, on the display of the annotator."""

    showings: tuple[Showing, ...]
    boxes: tuple[NamedBox, ...]
    size: Size | None
    """Of the image the boxes belong to."""
    num_metadata: int


def read_annotation(data: bytes, image_id: str, problems: Problems) -> Annotation:
    """Reads the XML of image `<class>/<stem>`; adds what is wrong to `problems`.

    Raises `DataError`, without naming the file, if it is no annotation as a whole.
    """
    root = safe_xml.parse(data)
    children = _by_tag(root)
    if root.tag != "annotation" and not children.keys() & {"metadata", "object", "filename"}:
        raise DataError(
            f"not an annotation: root <{root.tag[:40]}> without <metadata>, <object> or <filename>"
            + (" (an HTML page)" if root.tag.lower() == "html" else "")
        )
    metadata = children.get("metadata", [])
    showings = (_read_showing(element, image_id, problems) for element in metadata)
    size = _read_size(_by_tag(children.get("size", [_EMPTY])[0]), "width", "height", problems)
    return Annotation(
        showings=tuple(showing for showing in showings if showing is not None),
        boxes=_read_boxes(children.get("object", []), size, problems),
        size=size,
        num_metadata=len(metadata),
    )


def _by_tag(element: Element) -> dict[str, list[Element]]:
    children: dict[str, list[Element]] = {}
    for child in element:
        children.setdefault(child.tag, []).append(child)
    return children


def _text(children: dict[str, list[Element]], tag: str) -> str | None:
    """The text of the first element; `None` where it is absent, empty or the text `None`."""
    if tag not in children:
        return None
    text = (children[tag][0].text or "").strip()
    return None if text in ("", "None") else text


def _rows(children: dict[str, list[Element]], tag: str) -> list[Element]:
    """The elements of a list; an element that holds none but text is the mark of an empty list."""
    elements = children.get(tag, [])
    if len(elements) == 1 and not len(elements[0]):
        return []
    return elements


def _number(
    children: dict[str, list[Element]], tag: str, problems: Problems, reason: Reason = Reason.NUMBER
) -> int | None:
    text = _text(children, tag)
    value = count(text)
    if value is None and text is not None:
        problems.add(reason, f"{tag} {text[:40]!r}")
    return value


def _read_size(children: dict[str, list[Element]], width: str, height: str, problems: Problems) -> Size | None:
    w, h = _number(children, width, problems), _number(children, height, problems)
    return None if w is None or h is None else Size(w, h)


def _read_showing(element: Element, image_id: str, problems: Problems) -> Showing | None:
    """One `metadata`, or `None` if it belongs to another image."""
    fields = _by_tag(element)
    named = _text(fields, "imageID")
    if named is not None and not _same_image(named, image_id):
        problems.add(Reason.XML_OTHER_IMAGE, f"imageID {named[:80]!r}")
        return None
    selected = _read_selected(fields, problems)
    clicks = _read_points(_rows(fields, "selectedRecord"), Reason.CLICK, problems)
    if selected and not clicks:
        problems.add(Reason.NO_CLICK, f"{len(_rows(fields, 'selectedRecord'))} selectedRecord")
    trace = _read_points(_rows(fields, "mouseTracking"), Reason.TRACE_POINT, problems)
    times = [point.time_ms for point in trace if point.time_ms is not None]
    if any(later < earlier for earlier, later in itertools.pairwise(times)):
        problems.add(Reason.TRACE_BACKWARDS)
    position = _read_size(_by_tag(fields.get("imagePosition", [_EMPTY])[0]), "x", "y", problems)
    return Showing(
        selected=selected,
        clicks=clicks,
        trace=trace,
        hovers=_read_hovers(_rows(fields, "hoveredRecord"), problems),
        time_spent_ms=_number(fields, "estimateTime", problems, Reason.TIME),
        submit_time_s=_number(fields, "hit_submit_time", problems, Reason.TIME),
        selected_count=_number(fields, "selectedCount", problems),
        hovered_count=_number(fields, "hoveredCount", problems),
        worker_id=_text(fields, "worker_id") or "",
        assignment_id=_text(fields, "assignment_id") or "",
        hit_id=_text(fields, "hit_id") or "",
        source_hit_id=_text(fields, "imagenet_hit_id") or "",
        page_index=_number(fields, "page_idx", problems),
        image_index=_number(fields, "image_idx", problems),
        position_on_page=None if position is None else PagePosition(*position),
        display_size=_read_size(fields, "imageWidth", "imageHeight", problems),
        original_size=_read_size(fields, "originalImageWidth", "originalImageHeight", problems),
    )


def _same_image(named: str, image_id: str) -> bool:
    """Whether `imageID` (`<class>/<stem>` or `<stem>`, perhaps with a suffix) is this image.

    A stem may end like a suffix itself: that of cat.jpg.jpg is `cat.jpg`.
    """
    own = (image_id if "/" in named else image_id.rpartition("/")[2]).strip()  # as the text of an element is
    while named != own:
        suffix = next((suffix for suffix in _IMAGE_SUFFIXES if named.lower().endswith(suffix)), None)
        if suffix is None:
            return False
        named = named.removesuffix(named[-len(suffix) :])
    return True


def _read_selected(fields: dict[str, list[Element]], problems: Problems) -> bool:
    text = _text(fields, "selected")
    word = (text or "").lower()
    if word not in ("true", "false"):
        problems.add(Reason.SELECTED, "missing" if text is None else repr(text[:40]))
    return word == "true"


def _read_points(elements: list[Element], reason: Reason, problems: Problems) -> tuple[TimedPoint, ...]:
    if elements:
        x, y = (ratios([element.findtext(tag) for element in elements]) for tag in ("x", "y"))
        times = counts([element.findtext("time") for element in elements])
        if x is not None and y is not None and times is not None:
            return tuple(map(TimedPoint, x, y, times))
    points = []
    for element in elements:
        x_text, y_text = element.findtext("x"), element.findtext("y")
        x, y = ratio(x_text), ratio(y_text)
        if x is None or y is None:
            problems.add(reason, f"x {_shown(x_text)}, y {_shown(y_text)}")
        else:
            points.append(TimedPoint(x, y, _read_time(element, problems)))
    return tuple(points)


def _shown(text: str | None) -> str:
    return "missing" if text is None else repr(text[:40])


def _read_time(element: Element, problems: Problems) -> int | None:
    text = element.findtext("time")
    time_ms = count(text)
    if time_ms is None and text is not None:
        problems.add(Reason.TIME, f"{element.tag}/time {text[:40]!r}")
    return time_ms


def _read_hovers(elements: list[Element], problems: Problems) -> tuple[Hover, ...]:
    hovers = []
    for element in elements:
        action = (element.findtext("action") or "").strip()
        if action in ("enter", "leave"):
            hovers.append(Hover(action == "enter", _read_time(element, problems)))
        else:
            problems.add(Reason.HOVER, f"action {action[:40]!r}")
    return tuple(hovers)


def _read_boxes(elements: list[Element], size: Size | None, problems: Problems) -> tuple[NamedBox, ...]:
    """ILSVRC's `bndbox`: pixel edges of `<size>`, of which `xmax` may equal the width."""
    boxes = []
    for element in elements:
        texts = [element.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
        edges = [edge for edge in map(number, texts) if edge is not None]
        box = fractions(edges, size) if size is not None and len(edges) == 4 else None
        if box is None:
            problems.add(Reason.BOX, f"{', '.join(map(_shown, texts))} of {'no <size>' if size is None else size}")
        else:
            x_min, y_min, x_max, y_max = box
            name = (element.findtext("name") or "").strip()
            boxes.append(NamedBox(name=name, x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max))
    return tuple(boxes)


def fractions(edges: list[float], size: Size) -> tuple[float, float, float, float] | None:
    """Pixel edges as fractions of the image, cut to it; `None` for a box that is empty or lies far outside."""
    if size.width < 1 or size.height < 1:
        return None
    values = [edge / side for edge, side in zip(edges, (size.width, size.height) * 2, strict=True)]
    if any(not -MAX_OVERSHOOT <= value <= 1 + MAX_OVERSHOOT for value in values):
        return None
    x_min, y_min, x_max, y_max = (min(max(value, 0.0), 1.0) for value in values)
    # As float32, in which shards keep them: a thinner box would come back as none.
    has_area = np.float32(x_min) < np.float32(x_max) and np.float32(y_min) < np.float32(y_max)
    return (x_min, y_min, x_max, y_max) if has_area else None
