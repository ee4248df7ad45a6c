"""What a hand does: paths, clicks and the time they take, seeded; as events of the protocol.

Dwell times are spread as those of the release (median of annotators 0.81 s, deciles 0.52 and 1.38 s: collection.md
§3), clicks around the middle with the spread of ImageNet-AB's (0.58 half boxes) in a box of the middle half.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

_MEDIAN_S, _SPREAD = 0.81, 0.38
"""Log-normal: exp(1.28 · 0.38) = 1.63, between 1.38 / 0.81 and 0.81 / 0.52."""
_CLICK_SPREAD = 0.58 * 0.25
_STEP_MS = 17.0
_COLUMNS, _CELL = 3, (324, 340)
_BOARD_HEIGHT = 450
Event = dict[str, Any]


class Hand:
    """One annotator's hand and clock. `now` is in ms since 1970, by the annotator's own clock."""

    def __init__(self, seed: str, now: float, *, accuracy: float = 0.9):
        self.rng = random.Random(seed)
        self.now = now
        self._accuracy = accuracy

    def wait(self, least_ms: float, most_ms: float) -> float:
        self.now += self.rng.uniform(least_ms, most_ms)
        return self.now

    def _path(self, start: tuple[float, float], end: tuple[float, float], ms: float) -> list[list[float]]:
        """A bowed way from start to end, one sample in about 17 ms."""
        count = max(2, min(int(ms / _STEP_MS), 120))
        bow = self.rng.gauss(0, 0.12)
        samples = []
        for k in range(count):
            part = (k / (count - 1)) ** 0.8
            side = bow * math.sin(math.pi * part)
            x = start[0] + part * (end[0] - start[0]) + side * (start[1] - end[1])
            y = start[1] + part * (end[1] - start[1]) + side * (end[0] - start[0])
            dt = 0.0 if k == 0 else self.rng.uniform(0.8, 1.2) * _STEP_MS
            samples.append([round(dt, 3), _clamp(x), _clamp(y)])
        return samples

    def _rim(self) -> tuple[float, float]:
        along = self.rng.random()
        return self.rng.choice(((along, 0.0), (along, 1.0), (0.0, along), (1.0, along)))

    def _target(self) -> tuple[float, float]:
        return tuple(min(max(self.rng.gauss(0.5, _CLICK_SPREAD), 0.02), 0.98) for _ in range(2))  # type: ignore[return-value]

    def _moved(self, kind: str, start: tuple[float, float], end: tuple[float, float], ms: float, **facts: Any) -> Event:
        samples = self._path(start, end, ms)
        event = {"k": kind, "t": self.now, "in": "mouse", "p": samples, **facts}
        self.now += sum(sample[0] for sample in samples)
        return event

    # ImageNet

    def page(self, *, restored: bool) -> Event:
        return {"k": "page", "t": self.now, "vw": 1280, "vh": 900, "dpr": 1, "touch": False, "restored": restored}

    def loaded(self, picture: dict[str, Any], place: int) -> Event:
        """With the rectangle that the published page gives the picture."""
        width, height = picture["width"], picture["height"]
        scale = min(_CELL[0] / width, _CELL[1] / height, 1.0)
        column, row = place % _COLUMNS, place // _COLUMNS
        rect = [28 + 344 * column, 220 + 360 * row, round(width * scale), round(height * scale)]
        return {"k": "image_loaded", "t": self.now, "i": picture["index"], "r": rect, "nw": width, "nh": height}

    def browse(self, index: int, wanted: bool | None) -> Iterator[Event]:
        """Comes over a picture, and clicks on it if it is `wanted` (`None`: by chance); sometimes changes its mind."""
        ms = 1000 * _MEDIAN_S * math.exp(self.rng.gauss(0, _SPREAD))
        start, goal = self._rim(), self._target()
        chosen = self.rng.random() < 0.4 if wanted is None else wanted == (self.rng.random() < self._accuracy)
        yield {"k": "enter", "t": self.now, "i": index, "x": start[0], "y": start[1], "in": "mouse"}
        yield self._moved("move", start, goal, ms, i=index)
        at = goal
        if chosen:
            yield self._act("select", index, goal)
            if self.rng.random() < 0.05:
                self.wait(200, 600)
                yield self._act("deselect", index, goal)
                at = self._target()
                yield self._moved("move", goal, at, 300, i=index)
                yield self._act("select", index, at)
        end = self._rim()
        yield self._moved("move", at, end, 200, i=index)
        yield {"k": "leave", "t": self.now, "i": index, "x": end[0], "y": end[1], "in": "mouse"}
        self.wait(20, 200)

    def _act(self, kind: str, index: int, at: tuple[float, float]) -> Event:
        self.wait(60, 300)
        return {"k": kind, "t": self.now, "i": index, "x": at[0], "y": at[1], "in": "mouse"}

    # COCO

    def board(self, picture: dict[str, Any]) -> Event:
        scale = _BOARD_HEIGHT / picture["height"]
        rect = [40, 120, round(picture["width"] * scale), _BOARD_HEIGHT]
        facts = {"r": rect, "nw": picture["width"], "nh": picture["height"]}
        return {"k": "image_loaded", "t": self.now, "i": 0, **facts}

    def look_through(self, sets: list[dict[str, Any]], wanted: set[str] | None) -> Iterator[Event]:
        """Opens every set, and drops the icons of the classes that are `wanted` (`None`: a few by chance)."""
        for number, one in enumerate(sets):
            self.wait(200, 900)
            yield {"k": "set_shown", "t": self.now, "s": number, "kb": number > 0 and self.rng.random() < 0.5}
            for entry in one["classes"]:
                name = entry["c"]
                if self.rng.random() < 0.04 if wanted is None else name in wanted:
                    yield from self._drag_in(name)

    def _drag_in(self, name: str) -> Iterator[Event]:
        goal = self._target()
        start = (self.rng.uniform(0, 1), 1.25)
        yield {
            "k": "drag_start",
            "t": self.now,
            "c": name,
            "in": "mouse",
            "from": "panel",
            "x": start[0],
            "y": start[1],
        }
        yield self._moved("drag_move", start, goal, 700, c=name)
        yield {"k": "drop", "t": self.now, "c": name, "in": "mouse", "x": goal[0], "y": goal[1], "inside": True}
        yield {"k": "add", "t": self.now, "c": name, "in": "mouse", "x": goal[0], "y": goal[1]}
        self.wait(100, 500)
        chance = self.rng.random()
        place = {"fx": goal[0], "fy": goal[1]}
        if chance < 0.15:  # a correction
            end = self._target()
            yield {
                "k": "drag_start",
                "t": self.now,
                "c": name,
                "in": "mouse",
                "from": "board",
                "x": goal[0],
                "y": goal[1],
            }
            yield self._moved("drag_move", goal, end, 300, c=name)
            yield {"k": "drop", "t": self.now, "c": name, "in": "mouse", "x": end[0], "y": end[1], "inside": True}
            yield {"k": "move_icon", "t": self.now, "c": name, "in": "mouse", **place, "x": end[0], "y": end[1]}
        elif chance < 0.2:
            yield {"k": "remove", "t": self.now, "c": name, "in": "mouse", **place, "why": "click"}
        self.wait(50, 300)


def _clamp(value: float) -> float:
    return min(max(round(value, 7), -0.05), 1.05)
