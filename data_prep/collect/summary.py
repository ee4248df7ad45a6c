"""A submitted page in a few numbers, stored beside it so that the owner's page need not fold every log again."""

from __future__ import annotations

import statistics
from typing import Any

from data_prep.collect.fold import FOLD_VERSION, Page
from data_prep.collect.tasks import Shown, Task

EXPECTED = {"positive": True, "negative": False}
"""Role of a control to the answer that is right."""


def was_shown(shown: Shown, page: Page, index: int) -> bool:
    """Whether the annotator saw the picture and could judge it. One that failed is never "not selected"."""
    picture = page.pictures.get(index)
    return picture is not None and picture.state == "loaded"


def summarise(task: Task, page: Page) -> dict[str, Any]:
    """JSON; counts and the last click of each selected picture."""
    facts: dict[str, Any] = {
        "v": FOLD_VERSION,
        "events": page.num_events,
        "lost": page.lost_events,
        "hidden_ms": round(page.hidden_ms),
        "failed": sorted(i for i, picture in page.pictures.items() if picture.state == "failed"),
    }
    if not task.class_id:
        picture = page.pictures.get(0)
        icons = {c: [x, y] for c, (x, y) in page.icons.items()}
        known = {c: point for c, point in icons.items() if task.gold.get(c)}
        outside = sum(not is_inside(task.gold[c], x, y) for c, (x, y) in known.items())
        absent = sum(c not in task.gold for c in icons)
        boxes = [outside + absent, len(known) + absent] if task.gold else [0, 0]
        shown = [0] if picture is not None and picture.state == "loaded" else []
        return facts | {"icons": icons, "actions": len(page.actions), "shown": shown, "outside": boxes}
    shown = [index for index, picture in task.all() if was_shown(picture, page, index)]
    right = total = 0
    for index in shown:
        expected = EXPECTED.get(_role(task, index))
        if expected is not None:
            total += 1
            right += page.pictures[index].selected == expected
    selected = [index for index in page.selected if index in set(shown)]
    clicks = {
        str(i): [page.pictures[i].clicks[-1].x, page.pictures[i].clicks[-1].y]
        for i in selected
        if page.pictures[i].clicks
    }
    touched = sum(bool(page.pictures[i].hovers or page.pictures[i].select_count) for i in shown)
    times = [page.pictures[i].time_ms for i in shown if page.pictures[i].hovers]
    return facts | {
        "shown": shown,
        "selected": selected,
        "clicks": clicks,
        "controls": [right, total],
        "touched": touched,
        "no_point": len(selected) - len(clicks),
        "median_ms": round(statistics.median(times)) if times else None,
    }


def is_inside(boxes: list[list[float]], x: float, y: float) -> bool:
    """Whether a point is in one of the boxes: x_min, y_min, x_max, y_max."""
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in boxes)


def _role(task: Task, index: int) -> str:
    shown = task.shown(index)
    return shown.role if shown is not None else ""
