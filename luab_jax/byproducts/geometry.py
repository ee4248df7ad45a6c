"""Points and boxes under the affine maps of augmentation.

An `Affine` maps fractions of one image to fractions of another: p' = matrix · p + offset, with p = (x, y). The image
transforms in `luab_jax.data.transforms` move the pixels by the very same numbers, so a point stays on its pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """p' = matrix · p + offset."""

    matrix: Float[np.ndarray, "2 2"]
    offset: Float[np.ndarray, " 2"]

    def points(self, xy: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Moves points; those that leave the image get coordinates outside [0, 1]."""
        return (xy @ self.matrix.T + self.offset).astype(np.float32)

    def boxes(self, boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
        """Moves boxes (x_min, y_min, x_max, y_max) to the box around their four moved corners, not clipped."""
        corners = boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2)
        moved = corners @ self.matrix.T + self.offset
        return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=-1).astype(np.float32)

    def then(self, other: Affine) -> Affine:
        """First this map, then `other`."""
        return Affine(other.matrix @ self.matrix, other.matrix @ self.offset + other.offset)

    def inverse(self) -> Affine:
        matrix = np.linalg.inv(self.matrix)
        return Affine(matrix, -matrix @ self.offset)


def identity() -> Affine:
    return Affine(np.eye(2), np.zeros(2))


def flip_horizontal() -> Affine:
    return Affine(np.diag([-1.0, 1.0]), np.array([1.0, 0.0]))


def crop(x_min: float, y_min: float, x_max: float, y_max: float) -> Affine:
    """The map from fractions of the whole image to fractions of its crop."""
    width, height = x_max - x_min, y_max - y_min
    return Affine(np.diag([1 / width, 1 / height]), np.array([-x_min / width, -y_min / height]))


def inside(xy: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Whether points lie on the image, borders included; NaN does not."""
    return np.all((xy >= 0) & (xy <= 1), axis=-1)


def clip_boxes(boxes: Float[np.ndarray, "n 4"]) -> tuple[Float[np.ndarray, "n 4"], Bool[np.ndarray, " n"]]:
    """Boxes cut to the image, and whether anything of them is left."""
    clipped = np.clip(boxes, 0, 1)
    visible = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    return clipped, visible
