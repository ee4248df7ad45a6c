"""What the D numbers of a target are, how many, and how they move with the crop.

Losses and metrics follow from the kind too; they stand in `luab_jax/training/step.py`, since this room needs no jax.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from luab_jax.byproducts.geometry import Affines, clip_boxes, inside
from luab_jax.byproducts.statistics import TargetStatistics


class RandomPoint(enum.Enum):
    """How often the point of the control `random` is drawn."""

    PER_IMAGE = "per_image"
    """One place in the crop for all crops of an image."""
    PER_CROP = "per_crop"
    """Another place in every crop."""


class TargetKind(enum.Enum):
    """What the D numbers are; from it follow how they move, the loss and the metric."""

    POINT = "point"
    """x, y in fractions of the crop; smooth-L1."""
    CONTROL_POINT = "control_point"
    """Four numbers: a point of the crop that no annotator chose, then the annotator's, which decides whether it counts.
    The head predicts the first two; smooth-L1."""
    BOX = "box"
    """x_min, y_min, x_max, y_max in fractions of the crop; smooth-L1."""
    NUMBER = "number"
    """One number, standardised, without a place; smooth-L1."""
    DISTRIBUTION = "distribution"
    """Shares of the cells of a grid on the crop, with sum 1; Kullback-Leibler divergence of the head's softmax."""
    CLASS = "class"
    """The number of a class, without a place; softmax cross-entropy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSettings:
    """What a target needs to know beside the image."""

    heat_map_side: int = 7
    """G, cells along each side."""
    statistics: TargetStatistics = field(default_factory=TargetStatistics)
    """Of the training split."""
    random_point: RandomPoint = RandomPoint.PER_IMAGE


DEFAULT_SETTINGS = TargetSettings()
"""Enough for targets without statistics."""


class TargetValues(NamedTuple):
    """Z of one image, or of each of many; rows that are not valid hold zeros."""

    values: Float[np.ndarray, "*n k d"]
    valid: Bool[np.ndarray, " *n k"]


def width(kind: TargetKind, settings: TargetSettings) -> int:
    """D of a target; a class is one number, of which the head predicts a logit for every class."""
    match kind:
        case TargetKind.POINT:
            return 2
        case TargetKind.BOX | TargetKind.CONTROL_POINT:
            return 4
        case TargetKind.DISTRIBUTION:
            return settings.heat_map_side**2
        case TargetKind.NUMBER | TargetKind.CLASS:
            return 1


def moved(kind: TargetKind, rows: Float[np.ndarray, "n k d"], views: Affines) -> TargetValues:
    """Rows of many images as the views show them; NaN, and what a view does not show, is not valid."""
    if kind is TargetKind.POINT:
        shown = views.points(rows)
        valid: np.ndarray = inside(shown)
    elif kind is TargetKind.CONTROL_POINT:
        clicks = views.points(rows[..., 2:])
        shown, valid = np.concatenate([rows[..., :2], clicks], axis=-1), inside(clicks)
    elif kind is TargetKind.BOX:
        shown, valid = clip_boxes(views.boxes(rows))
    else:  # without a place, or made in the view
        shown, valid = rows, np.all(~np.isnan(rows), axis=-1)
    return TargetValues(np.where(valid[..., None], shown, 0).astype(np.float32), valid)
