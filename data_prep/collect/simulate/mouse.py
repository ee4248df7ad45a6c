"""The hand of a simulated annotator: input that is sent to a page with its time, and the ledger of what was meant.

Events go through the browser's own input pipeline (DevTools' Input domain), which takes a time with each of them, so
the ledger knows to a fraction of a millisecond when something happened, however busy the machine is.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

STEP_S = 0.02
"""Between two movements: longer than a frame at 60 Hz, so that the browser merges none."""
PARKED = (3.0, 300.0)
"""Where the pointer rests while the page scrolls: beside the pictures, so that none slides under it."""
_KEY_CODES = {"KeyZ": 90, "ArrowRight": 39, "ArrowLeft": 37}

Rect = tuple[float, float, float, float]
"""Left, top, width, height in CSS px of the viewport."""


class Sent(NamedTuple):
    """One meant event of the ledger; `t` in ms since 1970, points in fractions of the picture."""

    k: str
    t: float
    facts: dict[str, Any]


@dataclass
class Ledger:
    """What was meant on one page."""

    assignment: str
    task: str
    events: list[Sent] = field(default_factory=list)
    submitted: bool = False

    def add(self, kind: str, t: float, **facts: Any) -> None:
        self.events.append(Sent(kind, t, facts))

    def line(self) -> str:
        """As one line of JSON."""
        events = [{"k": kind, "t": round(t, 3), **facts} for kind, t, facts in self.events]
        return json.dumps(
            {"assignment": self.assignment, "task": self.task, "submitted": self.submitted, "events": events}
        )


class Hand:
    """A mouse that knows which picture it is over, and writes down what it does.

    The picture's rectangle is measured before each action; enter and leave follow from it alone.
    """

    def __init__(self, page: Any, ledger: Ledger, pictures: Callable[[], dict[int, Rect]]):
        self.page, self.ledger = page, ledger
        self._client = page.context.new_cdp_session(page)
        self._measure = pictures
        self._rects: dict[int, Rect] = {}
        self._over: int | None = None
        self._last = 0.0
        self.at = PARKED
        self.dragging = False

    def look(self) -> dict[int, Rect]:
        """Measures the pictures again, after a scroll or a change of the page."""
        self._rects = self._measure()
        return self._rects

    def _now(self) -> float:
        """Seconds since 1970, rising."""
        self._last = max(time.time(), self._last + 0.001)
        return self._last

    def _send(self, kind: str, t: float, **more: Any) -> None:
        x, y = self.at
        self._client.send("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "timestamp": t, **more})

    def ratio(self, index: int) -> tuple[float, float]:
        left, top, width, height = self._rects[index]
        return (self.at[0] - left) / width, (self.at[1] - top) / height

    def move(self, x: float, y: float) -> None:
        """One movement to a point of the viewport."""
        pause = self._last + STEP_S - time.time()
        if pause > 0:
            time.sleep(pause)
        t = self._now()
        # The browser keeps 32-bit floats.
        self.at = (round(x, 3), round(y, 3))
        self._send("mouseMoved", t, **({"button": "left", "buttons": 1} if self.dragging else {}))
        if not self.dragging:
            self._note_move(t * 1000)

    def _note_move(self, ms: float) -> None:
        x, y = self.at
        over = next(
            (i for i, (left, top, w, h) in self._rects.items() if left <= x < left + w and top <= y < top + h), None
        )
        if over != self._over:
            if self._over is not None:
                self.ledger.add("leave", ms, i=self._over)
            if over is not None:
                self.ledger.add("enter", ms, i=over)
            self._over = over
        if over is not None:
            rx, ry = self.ratio(over)
            self.ledger.add("move", ms, i=over, x=rx, y=ry)

    def path(self, x: float, y: float, rng: random.Random, *, steps: int) -> None:
        """To a point by a bowed path, slower towards its end."""
        (x0, y0), bow = self.at, rng.uniform(-0.15, 0.15)
        for k in range(1, steps + 1):
            s = math.sin(k / steps * math.pi / 2)
            off = bow * math.sin(s * math.pi)
            self.move(x0 + (x - x0) * s - (y - y0) * off, y0 + (y - y0) * s + (x - x0) * off)

    def press(self) -> float:
        t = self._now()
        self._send("mousePressed", t, button="left", buttons=1, clickCount=1)
        return t * 1000

    def release(self) -> float:
        t = self._now() + 0.03
        self._last = t
        self._send("mouseReleased", t, button="left", buttons=0, clickCount=1)
        return t * 1000

    def key(self, key: str, code: str, *, ctrl: bool = False) -> float:
        """A key, pressed and let go; returns the time in ms."""
        t = self._now()
        self._last = t
        keys = {"key": key, "code": code, "modifiers": 2 if ctrl else 0, "windowsVirtualKeyCode": _KEY_CODES[code]}
        self._client.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "timestamp": t, **keys})
        self._client.send("Input.dispatchKeyEvent", {"type": "keyUp", "timestamp": t, **keys})
        return t * 1000

    def park(self) -> None:
        if self.at != PARKED:
            self.move(*PARKED)


_IMAGENET_RECTS = """() => [...document.querySelectorAll('button.photo img')].map(image => {
  const r = image.getBoundingClientRect();
  return [Number(image.parentElement.dataset.index), r.left, r.top, r.width, r.height];
})"""
_COCO_RECTS = """() => {
  const r = document.querySelector('img.scene').getBoundingClientRect();
  return [[0, r.left, r.top, r.width, r.height]];
}"""


def rects_of(page: Any, task: str) -> Callable[[], dict[int, Rect]]:
    """Where the pictures are now."""
    script = _IMAGENET_RECTS if task == "imagenet" else _COCO_RECTS
    return lambda: {int(row[0]): tuple(row[1:]) for row in page.evaluate(script)}
