"""The kinds of events, and the check of a batch before it is stored: strict, since a page of ours wrote it or nobody.

The table below is §5 of docs/collect-protocol.md. Unknown keys, missing keys, numbers that are not finite or out of
range, and sizes beyond the limits are refused with the path of the field. Nothing is repaired. What is taken can be
exported: icons are of the project's classes, and their points are ones that the reader of the release takes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from data_prep.annotations.numbers import MAX_OVERSHOOT
from luab_jax.errors import DataError

VERSION = 1
MAX_BATCH_BYTES = 256 << 10
MAX_BATCH_EVENTS = 1000
MAX_BATCH_SAMPLES = 5000
INPUTS = ("mouse", "pen", "touch", "keyboard")
SAMPLED = ("move", "drag_move")
"""Kinds that hold samples of a path; all others are acts and are kept when a page's samples are at their limit."""

_FIRST_MS, _LAST_MS = 946_684_800_000.0, 4_102_444_800_000.0  # 2000 and 2100
_MAX_COUNT = 1 << 31


class BadBatch(DataError):  # noqa: N818 (it describes the batch)
    """A batch that is refused; `at` is the path of the field."""

    def __init__(self, at: str, message: str):
        at, message = printable(at), printable(message)
        super().__init__(f"{at}: {message}" if at else message)
        self.at = at


def printable(text: str) -> str:
    """With escapes for what a log, a terminal or PostgreSQL (the character 0) does not hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


Check = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _within(least: float, most: float) -> Check:
    return lambda value: _is_number(value) and least <= value <= most


def _whole(most: int) -> Check:
    return lambda value: type(value) is int and 0 <= value <= most


def _one_of(*words: str) -> Check:
    return lambda value: isinstance(value, str) and value in words


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(most: int) -> Check:
    return lambda value: isinstance(value, str) and 0 < len(value) <= most


def _is_rect(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(map(_within(-1e6, 1e7), value[:2]))
        and all(map(_within(0, 1e6), value[2:]))
    )


def _samples(limit: float) -> Check:
    def check(value: Any) -> bool:
        if not isinstance(value, list) or not value:
            return False
        for sample in value:
            if type(sample) is not list or len(sample) != 3:
                return False
            dt, x, y = sample
            if not (_is_number(dt) and _is_number(x) and _is_number(y)):
                return False
            if not (0 <= dt <= 1e9 and -limit <= x <= limit and -limit <= y <= limit):
                return False
        return True

    return check


def _are_indices(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) <= 1000 and all(map(_whole(9999), value)) and value == sorted(set(value))
    )


def _are_icons(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 1000
        and all(
            isinstance(icon, dict)
            and icon.keys() == {"c", "x", "y"}
            and _CLASS(icon["c"])
            and _ON_PICTURE(icon["x"])
            and _ON_PICTURE(icon["y"])
            for icon in value
        )
        and len({icon["c"] for icon in value}) == len(value)
    )


_POINT, _FAR, _PIXEL, _SIZE = _within(-0.5, 1.5), _within(-100, 100), _within(-1e6, 1e7), _within(0, 1e6)
_ON_PICTURE = _within(-MAX_OVERSHOOT, 1 + MAX_OVERSHOOT)
"""Of an icon: an act whose point lies further off is left out by the reader of the release."""
_INDEX, _CLASS, _INPUT = _whole(9999), _is_text(10_000), _one_of(*INPUTS)
_IMAGE = {"i": _INDEX}
_AT = {"x": _POINT, "y": _POINT}
_PLACE = {"px": _PIXEL, "py": _PIXEL, "r": _is_rect}
_VIEW = {"vw": _SIZE, "vh": _SIZE, "dpr": _within(0.01, 100)}
_UNDO = {"undo": _is_bool}


@dataclass(frozen=True, slots=True)
class _Kind:
    required: dict[str, Check]
    optional: dict[str, Check]


_BOTH: dict[str, tuple[dict[str, Check], dict[str, Check]]] = {
    "page": ({**_VIEW, "touch": _is_bool, "restored": _is_bool}, {"scale": _within(0.01, 100)}),
    "image_loaded": ({**_IMAGE, "r": _is_rect, "nw": _whole(_MAX_COUNT), "nh": _whole(_MAX_COUNT)}, {}),
    "image_failed": ({**_IMAGE, "tries": _whole(1000)}, {}),
    "replace": ({**_IMAGE, "by": _INDEX}, {}),
    "enter": ({**_IMAGE, **_AT, "in": _INPUT}, _PLACE),
    "leave": ({**_IMAGE, **_AT, "in": _INPUT}, _PLACE),
    "move": ({**_IMAGE, "in": _INPUT, "p": _samples(1.5)}, {}),
    "scroll": ({"sx": _PIXEL, "sy": _PIXEL}, {}),
    "resize": (_VIEW, {"scale": _within(0.01, 100)}),
    "hidden": ({}, {}),
    "visible": ({}, {}),
    "key": ({"key": _is_text(40)}, {}),
    "heartbeat": ({}, {}),
    "lost": ({"count": _whole(_MAX_COUNT), "why": _is_text(500)}, {}),
}
_SELECT = ({**_IMAGE, "in": _INPUT}, {**_AT, **_PLACE, **_UNDO})
_IMAGENET = {"select": _SELECT, "deselect": _SELECT, "submit": ({"selected": _are_indices}, {})}
_DRAG = {"c": _CLASS, "in": _INPUT}
_FAR_AT, _TO = {"x": _FAR, "y": _FAR}, {"x": _ON_PICTURE, "y": _ON_PICTURE}
_FROM = {"fx": _ON_PICTURE, "fy": _ON_PICTURE}
_COCO = {
    "set_shown": ({"s": _whole(9999), "kb": _is_bool}, {}),
    "drag_start": ({**_DRAG, **_FAR_AT, "from": _one_of("panel", "board")}, {}),
    "drag_move": ({**_DRAG, "p": _samples(100)}, {}),
    "drop": ({**_DRAG, **_FAR_AT, "inside": _is_bool}, {}),
    "drag_cancel": (_DRAG, {}),
    "add": ({**_DRAG, **_TO}, _UNDO),
    "move_icon": ({**_DRAG, **_FROM, **_TO}, _UNDO),
    "remove": ({**_DRAG, **_FROM, "why": _one_of("outside", "click", "key", "undo")}, {}),
    "submit": ({"icons": _are_icons}, {}),
}
KINDS: dict[str, dict[str, _Kind]] = {
    task: {name: _Kind(*fields) for name, fields in (_BOTH | own).items()}
    for task, own in (("imagenet", _IMAGENET), ("coco", _COCO))
}
"""Of each page: kind to the fields that it has beside `k` and `t`."""

_TIME = _within(_FIRST_MS, _LAST_MS)
_HEX32, _HEX16 = re.compile(r"[0-9a-f]{32}", re.ASCII), re.compile(r"[0-9a-f]{16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was accepted."""

    assignment: str
    tab: str
    number: int
    wrote_ms: int
    events: list[dict[str, Any]]
    num_samples: int
    num_acts: int
    """Events that are no samples."""


def is_assignment(value: Any) -> bool:
    return isinstance(value, str) and _HEX32.fullmatch(value) is not None


def is_tab(value: Any) -> bool:
    return isinstance(value, str) and _HEX16.fullmatch(value) is not None


def parse_json(body: bytes) -> Any:
    """JSON as RFC 8259 has it, so that every reader finds the same in it; raises `BadBatch`.

    Python's own reader also takes UTF-16 and UTF-32, NaN and Infinity, a key twice, and lone surrogates, which no text
    file and no database can hold.
    """
    try:
        text = body.decode("utf-8")  # with a byte order mark it is no JSON
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once_each)
        if "\\u" in text:  # only an escape can make a lone surrogate
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as e:
        raise BadBatch("", "not JSON (a text holds a lone surrogate)") from e
    except (ValueError, RecursionError) as e:  # UnicodeDecodeError is a ValueError, as is an integer of 5,000 digits
        raise BadBatch("", f"not JSON ({str(e)[:200]})") from e
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def read_batch(body: bytes, task: str, classes: Collection[str] = ()) -> Batch:
    """Parses and checks a batch of the page of `task`, whose icons are of `classes`; raises `BadBatch`."""
    if len(body) > MAX_BATCH_BYTES:
        raise BadBatch("", f"{len(body):,} bytes, at most {MAX_BATCH_BYTES:,}")
    value = parse_json(body)
    if not isinstance(value, dict):
        raise BadBatch("", "expected an object")
    if value.keys() != {"v", "assignment", "tab", "n", "wrote_ms", "events"}:
        odd = sorted(value.keys() ^ {"v", "assignment", "tab", "n", "wrote_ms", "events"})[0]
        raise BadBatch(str(odd)[:40], "unknown key" if odd in value else "missing")
    checks: dict[str, Check] = {
        "v": lambda v: type(v) is int and v == VERSION,
        "assignment": is_assignment,
        "tab": is_tab,
        "n": _whole(_MAX_COUNT),
        "wrote_ms": lambda v: type(v) in (int, float) and _TIME(v),
        "events": lambda v: isinstance(v, list) and len(v) <= MAX_BATCH_EVENTS,
    }
    for name, check in checks.items():
        if not check(value[name]):
            raise BadBatch(name, f"{_shown(value[name])} is not allowed")
    samples = acts = 0
    for number, event in enumerate(value["events"]):
        path = _check_points(event, KINDS[task], f"events[{number}]")
        _check_classes(event, classes, f"events[{number}]")
        samples += path
        acts += not path
        if samples > MAX_BATCH_SAMPLES:
            raise BadBatch(f"events[{number}].p", f"more than {MAX_BATCH_SAMPLES:,} samples in one batch")
    return Batch(value["assignment"], value["tab"], value["n"], int(value["wrote_ms"]), value["events"], samples, acts)


def _check_points(event: Any, kinds: dict[str, _Kind], at: str) -> int:
    """Checks one event; returns the number of its samples."""
    if not isinstance(event, dict):
        raise BadBatch(at, "expected an object")
    name = event.get("k")
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise BadBatch(f"{at}.k", f"{_shown(name)} is no kind of event of this page")
    if not _TIME(event.get("t")):
        raise BadBatch(f"{at}.t", f"{_shown(event.get('t'))} is no time in ms")
    for field, check in kind.required.items():
        if field not in event:
            raise BadBatch(f"{at}.{field}", "missing")
        if not check(event[field]):
            raise BadBatch(f"{at}.{field}", f"{_shown(event[field])} is not allowed")
    if len(event) > len(kind.required) + 2:
        for field, value in event.items():
            if field in kind.required or field in ("k", "t"):
                continue
            if field not in kind.optional:
                raise BadBatch(f"{at}.{str(field)[:40]}", "unknown key")
            if not kind.optional[field](value):
                raise BadBatch(f"{at}.{field}", f"{_shown(value)} is not allowed")
    if ("x" in event) != ("y" in event):
        raise BadBatch(at, "x and y come together")
    return len(event["p"]) if name in SAMPLED else 0


def _check_classes(event: dict[str, Any], classes: Collection[str], at: str) -> None:
    if "c" in event and event["c"] not in classes:
        raise BadBatch(f"{at}.c", f"{_shown(event['c'])} is no class of this project")
    for icon in event.get("icons", ()):
        if icon["c"] not in classes:
            raise BadBatch(f"{at}.icons", f"{_shown(icon['c'])} is no class of this project")


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
