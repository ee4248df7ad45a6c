"""Where the annotators of COCO-AB left the icon of each class: their actions replayed.

Several records of one image count in the order of the file. Points of two annotators are not averaged: each marks one
instance of the class, and between two instances there may be neither.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from luab_jax.byproducts.columns import ACTION_KINDS, Actions
from luab_jax.byproducts.records import ActionKind, Showing

_ADD, _REMOVE = ACTION_KINDS.index(ActionKind.ADD), ACTION_KINDS.index(ActionKind.REMOVE)


class IconRule(enum.Enum):
    """Which point stands for a class."""

    FINAL = "final"
    """Where the icon lies after all adds, moves and removes of a record; of several records that have the class, the
    last one's. A move of an icon that was never added puts it there."""
    ADDED = "added"
    """The official loader's (naver-ai/NeglectedFreeLunch, coco_dataloader.ipynb): the last `add` of the class in the
    last record; so removed icons stay, and moved ones lie where they were first dropped."""


def class_points(rule: IconRule, actions: Actions, num_classes: int) -> Float[np.ndarray, "classes 2"]:
    """The point of each class in fractions of the image, NaN where a class has none."""
    points = np.full((num_classes, 2), np.nan, np.float32)
    showings = sorted(set(actions.showing.tolist()))
    if rule is IconRule.ADDED:
        showings = showings[-1:]
    for showing in showings:
        of_record = np.full_like(points, np.nan)
        for row in np.flatnonzero(actions.showing == showing):
            kind, label = actions.kind[row], actions.label[row]
            if label < 0 or (rule is IconRule.ADDED and kind != _ADD):
                continue
            of_record[label] = np.nan if kind == _REMOVE else actions.to_xy[row]
        points = np.where(np.isnan(of_record), points, of_record)
    return points


def action_columns(showings: Sequence[Showing]) -> Actions:
    """The actions of records as the columns that `class_points` reads."""
    rows = [(index, action) for index, showing in enumerate(showings) for action in showing.actions]
    to_xy = [(np.nan, np.nan) if action.point_to is None else action.point_to for _, action in rows]
    return Actions(
        showing=np.asarray([index for index, _ in rows], np.int64),
        kind=np.asarray([ACTION_KINDS.index(action.kind) for _, action in rows], np.int64),
        label=np.asarray([action.label for _, action in rows], np.int64),
        to_xy=np.asarray(to_xy, np.float32).reshape(-1, 2),
    )
