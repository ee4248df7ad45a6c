"""The byproducts of one image as arrays: what a target function reads.

Training never needs the records as objects, and building them for every image of every epoch would cost more than the
crop; so a shard stores columns, and a target reads the few that it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Points(NamedTuple):
    """Clicks or trace samples of all showings of one image, in recorded order."""

    showing: Int[np.ndarray, " n"]
    """Which showing a point belongs to."""
    time_ms: Int[np.ndarray, " n"]
    """-1 where not recorded."""
    xy: Float[np.ndarray, "n 2"]
    """Fractions of the image."""


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
