"""From the log of a page to its showings: a pure function, so that a later rule can be applied to old logs again.

The rules are those of the published pages (collection.md §1), so that data compare, without their faults:

* A trace holds what the mouse or pen did on a picture while it was not selected, at most one sample in 1000/60 ms.
* `clicks` holds every select that has a point. A deselect takes nothing back, as in the release. A select that undoes a
  deselect adds no click: the picture's last click stands again.
* Time on a picture counts while the pointer is on it and it is not selected, from the first movement on.
* Fingers and keys do not hover: they leave neither trace nor hover, but their clicks count.

Events come in the order of merge.py. Two devices may have two clocks; all times are by that of the first event.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from data_prep.collect.merge import StoredBatch, ordered

TRACE_INTERVAL_MS = 1000 / 60
"""Least distance of two samples of a trace: the published page throttles to it (collection.md §1.1)."""

FOLD_VERSION = 2
"""Raise it when a rule changes: exports and stored summaries state the one that made them. 2: tabs are merged by the
server's time, not by the clocks of their devices."""

_HOVERING = ("mouse", "pen")


class Point(NamedTuple):
    """Where and when, in ratios of the displayed picture and in ms since 1970 by the annotator's clock."""

    t: float
    x: float
    y: float


class Hover(NamedTuple):
    entered: bool
    t: float


class Rect(NamedTuple):
    """CSS px of the document."""

    left: float
    top: float
    width: float
    height: float


@dataclass(slots=True)
class Picture:
    """All that happened to one picture of a page."""

    index: int
    selected: bool = False
    clicks: list[Point] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    """Of each click: mouse, pen, touch or keyboard."""
    deselects: list[Point | float] = field(default_factory=list)
    """A point, or the time alone of one that has none."""
    select_count: int = 0
    hovers: list[Hover] = field(default_factory=list)
    trace: list[Point] = field(default_factory=list)
    time_ms: float = 0.0
    rect: Rect | None = None
    """Where the picture was, and how large, at the first event on it."""
    natural: tuple[int, int] | None = None
    """Width and height as the browser says, EXIF applied."""
    state: str = "unseen"
    """`loaded`, `failed`, `replaced` or `unseen` (the page never said)."""

    @property
    def hovered_count(self) -> int:
        return sum(hover.entered for hover in self.hovers)


class Action(NamedTuple):
    """One act with an icon, in the words of the release."""

    kind: str
    icon: str
    start: tuple[float, float] | None
    end: tuple[float, float] | None
    t: float
    why: str
    """Of a remove: outside, click, key or undo."""


class SetView(NamedTuple):
    index: int
    keyboard: bool
    t: float


@dataclass(slots=True)
class Page:
    """The fold of a page's log."""

    pictures: dict[int, Picture] = field(default_factory=dict)
    replaced: dict[int, int] = field(default_factory=dict)
    """Picture to the reserve picture that took its place."""
    actions: list[Action] = field(default_factory=list)
    icons: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Class to the place of its icon now."""
    sets: list[SetView] = field(default_factory=list)
    drag_paths: list[tuple[str, list[Point]]] = field(default_factory=list)
    start_ms: float | None = None
    end_ms: float | None = None
    submit: dict[str, Any] | None = None
    hidden_ms: float = 0.0
    num_events: int = 0
    lost_events: int = 0
    """Reported by the page: events that the server refused."""

    @property
    def selected(self) -> list[int]:
        return sorted(i for i, picture in self.pictures.items() if picture.selected)

    @property
    def duration_ms(self) -> float | None:
        return None if self.start_ms is None or self.end_ms is None else max(self.end_ms - self.start_ms, 0.0)

    def state(self) -> dict[str, Any]:
        """What a page needs to show this state, as in docs/collect-protocol.md §6."""
        return {
            "selected": [
                {"index": i, "x": picture.clicks[-1].x, "y": picture.clicks[-1].y}
                if (picture := self.pictures[i]).clicks
                else {"index": i, "x": None, "y": None}
                for i in self.selected
            ],
            "icons": [{"c": c, "x": x, "y": y} for c, (x, y) in self.icons.items()],
            "set": self.sets[-1].index if self.sets else 0,
        }


def fold(batches: Iterable[StoredBatch], *, until_submit: bool = True) -> Page:
    """Folds the log of one page. What follows its `submit` is not counted.

    A submit that says something else than the log was sent back to its tab to be looked at again
    (docs/collect-protocol.md §6), so that a later one counts.
    """
    page = Page()
    folding = _Folding(page)
    for event, behind in ordered(batches):
        folding.take(event, behind)
        if until_submit and event["k"] == "submit" and not differs_from_submit(page):
            break
    folding.finish()
    return page


class _Over(NamedTuple):
    """Since when the pointer moves over a picture that is not selected."""

    index: int
    since: float


class _Folding:
    def __init__(self, page: Page):
        self._page = page
        self._on: set[int] = set()
        self._over: _Over | None = None
        self._last_sample: dict[int, float] = {}
        self._hidden_since: float | None = None

    def take(self, event: dict[str, Any], behind: int) -> None:
        page, t = self._page, event["t"] + behind
        page.num_events += 1
        if page.start_ms is None:
            page.start_ms = t
        page.end_ms = t
        if "i" in event:
            self._see(event)
        act = getattr(self, f"_on_{event['k']}", None)
        if act is not None:
            act(event, t)

    def finish(self) -> None:
        if self._page.end_ms is not None:
            self._stop(self._page.end_ms)

    def _picture(self, index: int) -> Picture:
        if index not in self._page.pictures:
            self._page.pictures[index] = Picture(index)
        return self._page.pictures[index]

    def _see(self, event: dict[str, Any]) -> None:
        picture = self._picture(event["i"])
        if "r" in event and (
            picture.rect is None or (event["k"] == "enter" and not picture.hovers and not picture.clicks)
        ):
            picture.rect = Rect(*event["r"])

    # Both pages

    def _on_image_loaded(self, event: dict[str, Any], t: float) -> None:
        picture = self._picture(event["i"])
        picture.natural, picture.state = (event["nw"], event["nh"]), "loaded"

    def _on_image_failed(self, event: dict[str, Any], t: float) -> None:
        picture = self._picture(event["i"])
        if picture.state != "loaded":
            picture.state = "failed"

    def _on_replace(self, event: dict[str, Any], t: float) -> None:
        picture = self._picture(event["i"])
        picture.state, picture.selected = "replaced", False
        self._page.replaced[event["i"]] = event["by"]

    def _on_lost(self, event: dict[str, Any], t: float) -> None:
        self._page.lost_events += event["count"]

    def _on_hidden(self, event: dict[str, Any], t: float) -> None:
        self._stop(t)
        self._hidden_since = t

    def _on_visible(self, event: dict[str, Any], t: float) -> None:
        if self._hidden_since is not None:
            self._page.hidden_ms += max(t - self._hidden_since, 0.0)
            self._hidden_since = None

    def _on_submit(self, event: dict[str, Any], t: float) -> None:
        self._page.submit = event

    def _on_enter(self, event: dict[str, Any], t: float) -> None:
        if event["in"] in _HOVERING:
            self._stop(t)
            self._on.add(event["i"])
            self._picture(event["i"]).hovers.append(Hover(True, t))

    def _on_leave(self, event: dict[str, Any], t: float) -> None:
        if event["in"] in _HOVERING:
            self._stop(t)
            self._on.discard(event["i"])
            self._picture(event["i"]).hovers.append(Hover(False, t))

    def _on_move(self, event: dict[str, Any], t: float) -> None:
        if event["in"] not in _HOVERING:
            return
        picture = self._picture(event["i"])
        for dt, x, y in event["p"]:
            t += dt
            if picture.selected:
                continue
            if self._over is None or self._over.index != picture.index:
                self._stop(t)
                self._over = _Over(picture.index, t)
            if t - self._last_sample.get(picture.index, -1e9) >= TRACE_INTERVAL_MS:
                picture.trace.append(Point(t, x, y))
                self._last_sample[picture.index] = t
        self._page.end_ms = max(self._page.end_ms or t, t)

    def _stop(self, t: float) -> None:
        """Ends the time on the picture that the pointer is over."""
        if self._over is not None:
            self._picture(self._over.index).time_ms += max(t - self._over.since, 0.0)
            self._over = None

    # ImageNet

    def _on_select(self, event: dict[str, Any], t: float) -> None:
        picture = self._picture(event["i"])
        if self._over is not None and self._over.index == picture.index:
            self._stop(t)
        if not picture.selected and not event.get("undo"):
            picture.select_count += 1
            if "x" in event:
                picture.clicks.append(Point(t, event["x"], event["y"]))
                picture.inputs.append(event["in"])
        picture.selected = True

    def _on_deselect(self, event: dict[str, Any], t: float) -> None:
        picture = self._picture(event["i"])
        if picture.selected:
            picture.deselects.append(Point(t, event["x"], event["y"]) if "x" in event else t)
        picture.selected = False

    # COCO

    def _on_set_shown(self, event: dict[str, Any], t: float) -> None:
        self._page.sets.append(SetView(event["s"], event["kb"], t))

    def _on_drag_start(self, event: dict[str, Any], t: float) -> None:
        self._stop(t)
        self._page.drag_paths.append((event["c"], [Point(t, event["x"], event["y"])]))

    def _on_drag_move(self, event: dict[str, Any], t: float) -> None:
        if self._page.drag_paths and self._page.drag_paths[-1][0] == event["c"]:
            path = self._page.drag_paths[-1][1]
            for dt, x, y in event["p"]:
                t += dt
                path.append(Point(t, x, y))

    def _on_add(self, event: dict[str, Any], t: float) -> None:
        self._put(Action("add", event["c"], None, (event["x"], event["y"]), t, ""))

    def _on_move_icon(self, event: dict[str, Any], t: float) -> None:
        end = (event["x"], event["y"])
        self._put(Action("move", event["c"], (event["fx"], event["fy"]), end, t, ""))

    def _put(self, action: Action) -> None:
        """Two tabs may both have added an icon: the second add is a move then, as one class has one icon."""
        there = self._page.icons.get(action.icon)
        if action.kind == "add" and there is not None:
            action = action._replace(kind="move", start=there)
        elif action.kind == "move" and there is None:
            action = action._replace(kind="add", start=None)
        assert action.end is not None
        self._page.icons[action.icon] = action.end
        self._page.actions.append(action)

    def _on_remove(self, event: dict[str, Any], t: float) -> None:
        if self._page.icons.pop(event["c"], None) is not None:
            self._page.actions.append(Action("remove", event["c"], (event["fx"], event["fy"]), None, t, event["why"]))


def missing_numbers(numbers: Iterable[int], last: int) -> list[list[int]]:
    """Inclusive ranges of 0..last that are not among `numbers`; what a page is asked for again."""
    there = set(numbers)
    gaps: list[list[int]] = []
    start = 0
    for number in sorted(n for n in there if n <= last):
        if number > start:
            gaps.append([start, number - 1])
        start = number + 1
    if start <= last:
        gaps.append([start, last])
    return gaps


def differs_from_submit(page: Page) -> bool:
    """Whether the log gives another state than the annotator's tab showed when it was submitted."""
    if page.submit is None:
        return True
    if "selected" in page.submit:
        return page.submit["selected"] != page.selected
    shown = {icon["c"]: (icon["x"], icon["y"]) for icon in page.submit["icons"]}
    return shown.keys() != page.icons.keys() or any(
        abs(x - page.icons[c][0]) > 1e-6 or abs(y - page.icons[c][1]) > 1e-6 for c, (x, y) in shown.items()
    )
