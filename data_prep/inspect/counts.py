"""What annotators left behind, counted record by record for people to read; the counts of shards add up.

Nothing here grows with the number of images, but with that of annotators and classes: what has a distribution goes into
histograms with bins 2 % wide, so that medians and deciles are off by at most 1 %.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from luab_jax.byproducts.icons import IconRule, action_columns, class_points
from luab_jax.byproducts.records import ActionKind, Box, Hover, ImageRecord, Showing, Size, TimedPoint
from luab_jax.byproducts.responses import time_to_click
from luab_jax.data.masks import rasterise

_BIN = math.log(1.02)


@dataclass(slots=True)
class Histogram:
    """A distribution of numbers that are not negative."""

    bins: Counter[int | None] = field(default_factory=Counter)
    """By floor(log value / log 1.02); `None` holds the zeros."""

    def add(self, value: float) -> None:
        self.bins[math.floor(math.log(value) / _BIN + 1e-9) if value > 0 else None] += 1

    def merge(self, other: Histogram) -> None:
        self.bins += other.bins

    def __len__(self) -> int:
        return self.bins.total()

    def quantile(self, share: float) -> float:
        """The value below which this share lies; NaN without any."""
        seen = 0
        for number in sorted(self.bins, key=lambda b: -math.inf if b is None else b):
            seen += self.bins[number]
            if seen >= share * len(self):
                return 0.0 if number is None else math.exp((number + 0.5) * _BIN)
        return math.nan


@dataclass(slots=True)
class Annotator:
    """What one annotator did."""

    showings: int = 0
    time_to_click: Histogram = field(default_factory=Histogram)
    """ms."""
    time_spent: Histogram = field(default_factory=Histogram)
    """ms."""
    trace_length: Histogram = field(default_factory=Histogram)
    """Diagonals of the image."""

    def merge(self, other: Annotator) -> None:
        self.showings += other.showings
        for name in ("time_to_click", "time_spent", "trace_length"):
            getattr(self, name).merge(getattr(other, name))


@dataclass(slots=True)
class Statistics:
    """Sums over records."""

    facts: Counter[str] = field(default_factory=Counter)
    clicks_per_image: Counter[int] = field(default_factory=Counter)
    images_per_label: Counter[int] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    trace_samples: Histogram = field(default_factory=Histogram)
    trace_ms: Histogram = field(default_factory=Histogram)
    annotators: defaultdict[str, Annotator] = field(default_factory=lambda: defaultdict(Annotator))

    def add(self, record: ImageRecord) -> None:
        selected = [showing for showing in record.showings if showing.selected]
        size = Size(record.width, record.height)
        self.images_per_label.update(record.labels if record.label < 0 else [record.label])
        self.clicks_per_image[sum(len(showing.clicks) for showing in selected)] += 1
        self.facts.update(
            records=1,
            image_bytes=len(record.image),
            with_label=bool(record.label >= 0 or record.labels),
            with_showing=bool(record.showings),
            with_selected=bool(selected),
            with_several_showings=len(record.showings) > 1,
            with_box=bool(record.boxes),
            boxes=len(record.boxes),
            masks=sum(bool(box.mask) for box in record.boxes) + len(record.foreground_masks),
        )
        for showing in selected:
            self._add_click(showing, record.boxes, size)
        for showing in record.showings:
            self._add_showing(showing, size)
        if any(showing.actions for showing in record.showings):
            self._add_icons(record, size)

    def _add_click(self, showing: Showing, boxes: Sequence[Box], size: Size) -> None:
        self.facts["selected_with_click"] += bool(showing.clicks)
        self.facts["toggled"] += len(showing.clicks) > 1
        self.facts["extra_clicks"] += max(len(showing.clicks) - 1, 0)
        if showing.clicks:
            self._add_place("clicks", showing.clicks[-1].x, showing.clicks[-1].y, boxes, size)

    def _add_place(self, name: str, x: float, y: float, boxes: Sequence[Box], size: Size) -> None:
        """A point against the boxes of its class, and against their masks if there are any."""
        self.facts[f"{name}_outside_image"] += not (0 <= x <= 1 and 0 <= y <= 1)
        if boxes:
            self.facts[f"{name}_with_box"] += 1
            self.facts[f"{name}_in_box"] += any(_inside(x, y, box) for box in boxes)
        if texts := [box.mask for box in boxes if box.mask]:
            self.facts[f"{name}_with_mask"] += 1
            self.facts[f"{name}_in_mask"] += any(_on_mask(x, y, text, size) for text in texts)

    def _add_showing(self, showing: Showing, size: Size) -> None:
        self.facts["showings"] += 1
        self.facts["taken_back"] += bool(showing.clicks) and not showing.selected
        self.facts["hovers"] += sum(hover.entered for hover in showing.hovers)
        self.actions.update(action.kind.value for action in showing.actions)
        self.facts["category_views"] += len(showing.category_views)
        annotator = self.annotators[showing.worker_id] if showing.worker_id else Annotator()
        annotator.showings += 1
        if showing.time_spent_ms is not None:
            annotator.time_spent.add(showing.time_spent_ms)
        if (waited := time_to_answer(showing)) is not None:
            annotator.time_to_click.add(waited)
        if showing.trace:
            annotator.trace_length.add(trace_length(showing.trace, size))
            self.trace_samples.add(len(showing.trace))
            times = [point.time_ms for point in showing.trace if point.time_ms is not None]
            if times:
                self.trace_ms.add(max(times) - min(times))

    def _add_icons(self, record: ImageRecord, size: Size) -> None:
        """Icons of present classes: those that each record leaves, and those that the official rule takes."""
        for showing in record.showings:
            self._add_points("final_icons", record, class_points(*_icons(IconRule.FINAL, [showing], record)), size)
        self._add_points("added_icons", record, class_points(*_icons(IconRule.ADDED, record.showings, record)), size)

    def _add_points(self, name: str, record: ImageRecord, points: np.ndarray, size: Size) -> None:
        for label in record.labels:
            x, y = points[label].tolist()
            if x == x:
                self.facts[name] += 1
                self._add_place(name, x, y, [box for box in record.boxes if box.label == label], size)

    def merge(self, other: Statistics) -> None:
        for name in ("facts", "clicks_per_image", "images_per_label", "actions"):
            getattr(self, name).update(getattr(other, name))
        self.trace_samples.merge(other.trace_samples)
        self.trace_ms.merge(other.trace_ms)
        for worker, annotator in other.annotators.items():
            self.annotators[worker].merge(annotator)


def _icons(rule: IconRule, showings: Sequence[Showing], record: ImageRecord) -> tuple:
    columns = action_columns(showings)
    return rule, columns, max([*record.labels, *columns.label.tolist()], default=-1) + 1


def _inside(x: float, y: float, box: Box) -> bool:
    return box.x_min <= x <= box.x_max and box.y_min <= y <= box.y_max


def _on_mask(x: float, y: float, mask: str, size: Size) -> bool:
    """Whether the pixel under the point is on the mask."""
    column, row = int(np.clip(x * size.width, 0, size.width - 1)), int(np.clip(y * size.height, 0, size.height - 1))
    return bool(rasterise(mask, size)[row, column])


def time_to_answer(showing: Showing) -> int | None:
    """`responses.time_to_click` in ms; where icons are put on the image, from the page's opening to the first added."""
    if showing.actions:
        return next((a.time_ms for a in showing.actions if a.kind is ActionKind.ADD and a.time_ms is not None), None)
    entries = [hover for hover in showing.hovers if hover.entered]
    return time_to_click(_times(showing.clicks), _times(entries), lambda: _times(showing.trace))


def _times(moments: Sequence[TimedPoint] | Sequence[Hover]) -> list[int]:
    """-1 where not recorded."""
    return [-1 if moment.time_ms is None else moment.time_ms for moment in moments]


def trace_length(trace: Sequence[TimedPoint], size: Size) -> float:
    """The way of the pointer, in diagonals of the image."""
    way = sum(math.hypot((b.x - a.x) * size.width, (b.y - a.y) * size.height) for a, b in itertools.pairwise(trace))
    return way / math.hypot(size.width, size.height)
