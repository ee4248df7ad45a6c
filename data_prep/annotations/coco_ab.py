"""One record of the COCO-AB release, read into a showing.

A record is one annotator's work on one image: class icons dropped on it (`actionHistories`: add, move, remove), the
icon pages that were opened (`categoryHistories`), the mouse (`mouseTracking`), `timeSpent` and ids. Points are ratios
of the displayed image; `timeAt` and `timeSpent` are ms, since the page was opened. `imageWidth` repeats `imageHeight`
and both may be 0, so only ratios are usable. `pointFrom` of an add and `pointTo` of a remove are null or absent.

What is wrong inside a record costs only the part that is wrong, and is counted:

* An action of an unknown kind, of an icon that is no class, or without the point it needs (`pointTo` of an add or a
  move; missing, not a number, infinite, or more than `MAX_OVERSHOOT` outside the image) is left out.
* A move of an icon that is not there puts it where the move ends; a remove of such an icon changes nothing.
* A bad time or number becomes `None`; a bad trace point or category view is left out.
* A record that is no object or has no list of actions is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_prep.annotations.numbers import json_count, json_ratio
from data_prep.problems import Problems, Reason
from luab_jax.byproducts.records import Action, ActionKind, CategoryView, Point, Showing, Size, TimedPoint
from luab_jax.data.coco_classes import ICON_NAMES

_KINDS = {kind.value: kind for kind in ActionKind}
_ICONS = frozenset(ICON_NAMES)


def read_record(record: Any, label_of: Mapping[str, int], problems: Problems) -> Showing | None:
    """One record; `None`, with the reason in `problems`, if it is none. `label_of`: icon name to label."""
    if not isinstance(record, dict) or not isinstance(record.get("actionHistories"), list):
        detail = "no list actionHistories" if isinstance(record, dict) else f"not an object: {_shown(record)}"
        problems.add(Reason.RECORD_UNREADABLE, detail)
        return None
    actions = _read_actions(record["actionHistories"], label_of, problems)
    return Showing(
        selected=_anything_stays(actions),
        actions=actions,
        category_views=_read_views(_rows(record, "categoryHistories", Reason.CATEGORY_VIEW, problems), problems),
        trace=_read_trace(_rows(record, "mouseTracking", Reason.TRACE_POINT, problems), problems),
        time_spent_ms=_number(record, "timeSpent", Reason.TIME, problems),
        worker_id=_text(record.get("worker_id")),
        hit_id=_text(record.get("hit_id")),
        page_index=_number(record, "page_id", Reason.NUMBER, problems),
        display_size=_size(record, "imageWidth", "imageHeight", problems),
        original_size=_size(record, "originalImageWidth", "originalImageHeight", problems),
    )


def _anything_stays(actions: tuple[Action, ...]) -> bool:
    """What `selected` means here: the annotator left at least one icon on the image."""
    staying: set[int] = set()
    for action in actions:
        (staying.discard if action.kind is ActionKind.REMOVE else staying.add)(action.label)
    return bool(staying)


def _read_actions(rows: list[Any], label_of: Mapping[str, int], problems: Problems) -> tuple[Action, ...]:
    actions: list[Action] = []
    there: set[int] = set()
    for row in rows:
        action = _read_action(row, label_of, problems)
        if action is None:
            continue
        if action.kind is not ActionKind.ADD and action.label not in there:
            problems.add(Reason.MOVE_WITHOUT_ADD, f"{action.kind.value} of {action.icon!r}")
        (there.discard if action.kind is ActionKind.REMOVE else there.add)(action.label)
        actions.append(action)
    return tuple(actions)


def _read_action(row: Any, label_of: Mapping[str, int], problems: Problems) -> Action | None:
    if not isinstance(row, dict):
        problems.add(Reason.ACTION, f"not an object: {_shown(row)}")
        return None
    kind, icon = _KINDS.get(_text(row.get("actionType"))), _text(row.get("iconType"))
    if kind is None:
        problems.add(Reason.ACTION_KIND, f"actionType {_shown(row.get('actionType'))}")
        return None
    if icon not in label_of:
        known = icon in _ICONS
        problems.add(Reason.ICON_NO_CLASS if known else Reason.ICON_UNKNOWN, f"iconType {_shown(row.get('iconType'))}")
        return None
    point_from, point_to = _point(row.get("pointFrom")), _point(row.get("pointTo"))
    if point_to is None and kind is not ActionKind.REMOVE:
        problems.add(Reason.ACTION_POINT, f"{kind.value} of {icon!r} to {_shown(row.get('pointTo'))}")
        return None
    return Action(kind, icon, point_from, point_to, _time(row, problems), label_of[icon])


def _point(value: Any) -> Point | None:
    if not isinstance(value, dict):
        return None
    x, y = json_ratio(value.get("x")), json_ratio(value.get("y"))
    return None if x is None or y is None else Point(x, y)


def _read_views(rows: list[Any], problems: Problems) -> tuple[CategoryView, ...]:
    views = []
    for row in rows:
        index = json_count(row.get("categoryIndex")) if isinstance(row, dict) else None
        if index is None:
            problems.add(Reason.CATEGORY_VIEW, _shown(row))
        else:
            used_keyboard = row.get("usingKeyboard") is True
            views.append(CategoryView(index, _text(row.get("categoryName")), used_keyboard, _time(row, problems)))
    return tuple(views)


def _read_trace(rows: list[Any], problems: Problems) -> tuple[TimedPoint, ...]:
    trace = []
    for row in rows:
        point = _point(row)
        if point is None:
            problems.add(Reason.TRACE_POINT, _shown(row))
        else:
            trace.append(TimedPoint(point.x, point.y, _time(row, problems)))
    return tuple(trace)


def _rows(record: dict[str, Any], name: str, reason: Reason, problems: Problems) -> list[Any]:
    value = record.get(name)
    if value is not None and not isinstance(value, list):
        problems.add(reason, f"{name} is no list: {_shown(value)}")
    return value if isinstance(value, list) else []


def _time(row: dict[str, Any], problems: Problems) -> int | None:
    return _number(row, "timeAt", Reason.TIME, problems)


def _number(row: dict[str, Any], name: str, reason: Reason, problems: Problems) -> int | None:
    value = row.get(name)
    found = json_count(value)
    if found is None and value is not None:
        problems.add(reason, f"{name} {_shown(value)}")
    return found


def _size(record: dict[str, Any], width: str, height: str, problems: Problems) -> Size | None:
    w, h = _number(record, width, Reason.NUMBER, problems), _number(record, height, Reason.NUMBER, problems)
    return None if w is None or h is None else Size(w, h)


def _text(value: Any) -> str:
    """A text as it came; ids that are numbers become text; lone surrogates, which no file can hold, question marks."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
