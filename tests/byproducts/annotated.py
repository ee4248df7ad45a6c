"""Images as annotators left them, for tests of what is made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from luab_jax.byproducts.columns import ByproductColumns, Hovers, Points
from luab_jax.byproducts.icons import action_columns
from luab_jax.byproducts.records import Action, Hover, Showing, TimedPoint


def showing(
    *,
    selected: bool = True,
    clicks: Sequence[int | None] = (),
    trace: Sequence[tuple[float, float, int | None]] = (),
    entered: Sequence[int | None] = (),
    worker: str = "",
) -> Showing:
    """Clicks by their times, in the middle of the image; a trace by x, y and time."""
    return Showing(
        selected=selected,
        clicks=tuple(TimedPoint(0.5, 0.5, time) for time in clicks),
        trace=tuple(TimedPoint(*sample) for sample in trace),
        hovers=tuple(Hover(entered=True, time_ms=time) for time in entered),
        worker_id=worker,
    )


def columns(*showings: Showing, labels: tuple[int, ...] = (), actions: Sequence[Action] = ()) -> ByproductColumns:
    """The columns that a shard of these showings holds."""
    hovers = [(i, hover) for i, of in enumerate(showings) for hover in of.hovers]
    return ByproductColumns(
        file_name="a.jpg",
        selected=np.array([of.selected for of in showings], bool),
        clicks=_points([(i, click) for i, of in enumerate(showings) for click in of.clicks]),
        trace=_points([(i, sample) for i, of in enumerate(showings) for sample in of.trace]),
        boxes=np.zeros((0, 4), np.float32),
        box_labels=np.zeros(0, np.int64),
        label=-1 if labels else 0,
        labels=np.array(labels, np.int64),
        actions=action_columns([Showing(actions=tuple(actions))]),
        hovers=Hovers(
            np.array([i for i, _ in hovers], np.int64),
            np.array([_time(hover.time_ms) for _, hover in hovers], np.int64),
            np.array([hover.entered for _, hover in hovers], bool),
        ),
        worker_ids=np.array([of.worker_id for of in showings], np.object_),
    )


def _points(rows: Sequence[tuple[int, TimedPoint]]) -> Points:
    return Points(
        np.array([i for i, _ in rows], np.int64),
        np.array([_time(point.time_ms) for _, point in rows], np.int64),
        np.array([(point.x, point.y) for _, point in rows], np.float32).reshape(-1, 2),
    )


def _time(time_ms: int | None) -> int:
    return -1 if time_ms is None else time_ms
