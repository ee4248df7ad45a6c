"""The byproducts of one image as arrays: what a target function reads.

Training never needs the records as objects, and building them for every image of every epoch would cost more than the
crop; so a shard stores columns, and a target reads the few that it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from luab_jax.byproducts.records import ActionKind

ACTION_KINDS = tuple(ActionKind)
"""A kind of action is stored as its position here."""


class Points(NamedTuple):
    """Clicks or trace samples of all showings of one image, in recorded order."""

    showing: Int[np.ndarray, " n"]
    """Which showing a point belongs to."""
    time_ms: Int[np.ndarray, " n"]
    """-1 where not recorded."""
    xy: Float[np.ndarray, "n 2"]
    """Fractions of the image."""


class Hovers(NamedTuple):
    """When the pointer came onto the image and left it, in recorded order."""

    showing: Int[np.ndarray, " n"]
    time_ms: Int[np.ndarray, " n"]
    """-1 where not recorded."""
    entered: Bool[np.ndarray, " n"]


class Actions(NamedTuple):
    """What was done with class icons, in recorded order."""

    showing: Int[np.ndarray, " n"]
    kind: Int[np.ndarray, " n"]
    """Index into `ACTION_KINDS`."""
    label: Int[np.ndarray, " n"]
    """The icon's class, -1 for none."""
    to_xy: Float[np.ndarray, "n 2"]
    """Where the icon was put, in fractions of the image; NaN where it was removed."""


def no_actions() -> Actions:
    none = np.zeros(0, np.int64)
    return Actions(none, none, none, np.zeros((0, 2), np.float32))


def no_hovers() -> Hovers:
    none = np.zeros(0, np.int64)
    return Hovers(none, none, np.zeros(0, bool))


@dataclass(frozen=True, slots=True)
class ByproductColumns:
    """Byproducts and boxes of one image; every array may be empty."""

    file_name: str
    """Names the image; the seed of its random target."""
    selected: Bool[np.ndarray, " showings"]
    clicks: Points
    trace: Points
    boxes: Float[np.ndarray, "boxes 4"]
    """x_min, y_min, x_max, y_max in fractions of the image."""
    box_labels: Int[np.ndarray, " boxes"]
    label: int
    """The image's class, -1 if it has no single one."""
    labels: Int[np.ndarray, " classes"] = field(default_factory=lambda: np.zeros(0, np.int64))
    """All classes on the image, where that is known."""
    actions: Actions = field(default_factory=no_actions)
    hovers: Hovers = field(default_factory=no_hovers)
    worker_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.object_))
    """The annotator of each showing as `str`, empty where not recorded; no rows where none is."""

    @staticmethod
    def read_by(**readers: Callable[[], Any]) -> ByproductColumns:
        """Columns that are each read when first asked for: most targets look at two or three, few at the trace."""
        columns = object.__new__(_LazyColumns)
        object.__setattr__(columns, "_readers", readers)
        return columns


class _LazyColumns(ByproductColumns):
    """Its fields are unset slots until they are asked for."""

    __slots__ = ("_readers",)
    _readers: dict[str, Callable[[], Any]]

    def __getattr__(self, name: str) -> Any:
        if name == "_readers" or name not in self._readers:
            raise AttributeError(name)
        value = self._readers[name]()
        object.__setattr__(self, name, value)
        return value
