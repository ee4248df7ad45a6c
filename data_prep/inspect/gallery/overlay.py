"""What lies over a picture of the gallery, as SVG: masks, boxes, traces coloured by time, clicks, icons.

Everything has a dark or a light rim, so that it shows on any picture. Each kind is a group with a class of its own, by
which the page hides it.
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping
from html import escape

import numpy as np
from PIL import Image

from luab_jax.byproducts.records import Action, ActionKind, Box, ImageRecord, Point, Showing, Size
from luab_jax.data.decoding import decode_mask
from luab_jax.data.masks import rasterise
from luab_jax.errors import DataError

_TIME_COLOURS = ((13, 8, 135), (106, 0, 168), (177, 42, 144), (225, 100, 98), (252, 166, 54), (240, 249, 33))
"""Matplotlib's plasma at equal steps: dark is early, and it reads in grey and to the colour-blind."""
_STEPS = 24
_GOLDEN_ANGLE = 137.508


def time_colour(share: float) -> str:
    """The colour of a moment: 0 is the first, 1 the last."""
    position = min(max(share, 0.0), 1.0) * (len(_TIME_COLOURS) - 1)
    index = min(int(position), len(_TIME_COLOURS) - 2)
    first, second = np.asarray(_TIME_COLOURS[index]), np.asarray(_TIME_COLOURS[index + 1])
    red, green, blue = (first + (second - first) * (position - index)).round().astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def overlay(record: ImageRecord, size: Size, names: Mapping[int, str]) -> str:
    """All groups, those that cover most at the bottom; `size` is that of the picture on the page."""
    shown = {
        "masks": _masks(record, size),
        "boxes": (_box(box, size, record) for box in record.boxes),
        "trace": itertools.chain.from_iterable(_trace(showing, size) for showing in record.showings),
        "icons": itertools.chain.from_iterable(_icons(showing, size, names) for showing in record.showings),
        "clicks": itertools.chain.from_iterable(_clicks(showing, size) for showing in record.showings),
    }
    parts = {name: "".join(elements) for name, elements in shown.items()}
    return "".join(f'<g class="{name}">{part}</g>' for name, part in parts.items() if part)


def _colour(label: int) -> str:
    """Neighbouring labels get colours that lie far apart."""
    return f"hsl({(label * _GOLDEN_ANGLE + 190) % 360:.0f} 90% 62%)" if label >= 0 else "hsl(190 90% 62%)"


def _box(box: Box, size: Size, record: ImageRecord) -> str:
    x, y = box.x_min * size.width, box.y_min * size.height
    width, height = (box.x_max - box.x_min) * size.width, (box.y_max - box.y_min) * size.height
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    colour = _colour(box.label if record.label < 0 else -1)
    crowd = ' stroke-dasharray="5 4"' if box.is_crowd else ""
    return f'<rect class="rim" {place}/><rect {place} stroke="{colour}"{crowd}/>'


def _masks(record: ImageRecord, size: Size) -> Iterator[str]:
    scale = np.asarray([size.width / record.width, size.height / record.height])
    for box in record.boxes:
        with contextlib.suppress(DataError, ValueError, TypeError):  # no mask; `verify` lists it
            yield from _mask(box, Size(record.width, record.height), scale, size)
    for png in record.foreground_masks:
        with contextlib.suppress(DataError):
            yield _pixels(decode_mask(png), size)


def _mask(box: Box, of_image: Size, scale: np.ndarray, size: Size) -> Iterator[str]:
    if not box.mask:
        return
    segmentation = json.loads(box.mask)
    if isinstance(segmentation, dict):
        yield _pixels(rasterise(box.mask, of_image), size)
        return
    for polygon in segmentation:
        corners = np.asarray(polygon, float).reshape(-1, 2) * scale
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z"
        yield f'<path d="{path}" fill="{_colour(box.label)}" stroke="{_colour(box.label)}"/>'


def _pixels(mask: np.ndarray, size: Size) -> str:
    """Pixels as a light veil with a rim, at the size of the page."""
    small = np.asarray(Image.fromarray(mask).resize(size)) > 0
    padded = np.pad(small, 1, mode="edge")
    inner = small & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    rgba = np.zeros((*small.shape, 4), np.uint8)
    rgba[small] = (60, 220, 255, 70)
    rgba[small & ~inner] = (60, 220, 255, 255)
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "PNG", optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f'<image href="data:image/png;base64,{encoded}" width="{size.width}" height="{size.height}"/>'


def _trace(showing: Showing, size: Size) -> Iterator[str]:
    """One line below for the rim, and pieces above it by time."""
    points = [(p.x * size.width, p.y * size.height) for p in showing.trace]
    if len(points) < 2:
        yield from (f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
        return
    faint = "" if showing.selected or showing.actions else ' opacity="0.55"'
    yield f'<polyline class="rim" points="{_path(points)}"{faint}/>'
    steps = [min(int(share * _STEPS), _STEPS - 1) for share in _shares([p.time_ms for p in showing.trace])]
    start = 0
    for end in range(1, len(points)):
        if end == len(points) - 1 or steps[end] != steps[start]:
            colour = time_colour(steps[start] / (_STEPS - 1))
            yield f'<polyline points="{_path(points[start : end + 1])}" stroke="{colour}"{faint}/>'
            start = end


def _shares(times: list[int | None]) -> list[float]:
    """Moments as shares of the time that passed; by their order where a time is missing."""
    known = [time for time in times if time is not None]
    if len(known) < len(times) or max(known) == min(known):
        return [index / max(len(times) - 1, 1) for index in range(len(times))]
    first, last = min(known), max(known)
    return [(time - first) / (last - first) for time in known]


def _path(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _clicks(showing: Showing, size: Size) -> Iterator[str]:
    """The first is a ring, the last a disc, those between are small; of one click there is only the last."""
    places = [(click.x * size.width, click.y * size.height) for click in showing.clicks]
    faint = "" if showing.selected else ' opacity="0.5"'
    for number, (x, y) in enumerate(places):
        kind = "last" if number == len(places) - 1 else "first" if number == 0 else "between"
        yield f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}"{faint}/>'


def _icons(showing: Showing, size: Size, names: Mapping[int, str]) -> Iterator[str]:
    """The way of every icon from where it was first put to where it lies, or a cross where it was removed."""
    ways: dict[tuple[int, str], list[Action]] = {}
    for action in showing.actions:
        ways.setdefault((action.label, action.icon), []).append(action)
    for (label, icon), actions in ways.items():
        colour, name = _colour(label), names.get(label, icon)
        stops = [stop for action in actions if (stop := _stop(action)) is not None]
        places = [(point.x * size.width, point.y * size.height) for point in stops]
        if not places:
            continue
        if len(places) > 1:
            yield f'<polyline class="rim" points="{_path(places)}"/>'
            yield f'<polyline class="way" points="{_path(places)}" stroke="{colour}"/>'
            yield from (f'<circle class="was" cx="{x:.1f}" cy="{y:.1f}" stroke="{colour}"/>' for x, y in places[:-1])
        x, y = places[-1]
        if actions[-1].kind is ActionKind.REMOVE:
            yield f'<path class="gone" d="M{x - 5:.1f} {y - 5:.1f}l10 10m0-10l-10 10" stroke="{colour}"/>'
        else:
            yield f'<circle class="icon" cx="{x:.1f}" cy="{y:.1f}" fill="{colour}"/>'
        side = "end" if x > 0.7 * size.width else "start"
        shift = -9 if side == "end" else 9
        yield f'<text x="{x + shift:.1f}" y="{y + 4:.1f}" text-anchor="{side}">{escape(name)}</text>'


def _stop(action: Action) -> Point | None:
    """Where the icon is after an action; where it was taken from if that removed it."""
    return action.point_to or action.point_from
