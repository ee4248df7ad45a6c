"""Points and boxes under the affine maps of augmentation.

An `Affine` maps fractions of one image to fractions of another: p' = matrix · p + offset, with p = (x, y). The image
transforms in `luab_jax.data.transforms` move the pixels by the very same numbers, so a point stays on its pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True, eq=False)
class Affines:
    """A map for each of many images."""

    matrix: Float[np.ndarray, "n 2 2"]
    offset: Float[np.ndarray, "n 2"]

    def __getitem__(self, index: int) -> Affine:
        return Affine(self.matrix[index], self.offset[index])

    def points(self, xy: Float[np.ndarray, "n k 2"]) -> Float[np.ndarray, "n k 2"]:
        """As `Affine.points`, k of each image."""
        return self._moved(xy).astype(np.float32)

    def boxes(self, boxes: Float[np.ndarray, "n k 4"]) -> Float[np.ndarray, "n k 4"]:
        """As `Affine.boxes`, k of each image."""
        images, count, _ = boxes.shape
        corners = boxes[..., [0, 1, 2, 1, 0, 3, 2, 3]].reshape(images, count * 4, 2)
        moved = self._moved(corners).reshape(images, count, 4, 2)
        return np.concatenate([moved.min(axis=2), moved.max(axis=2)], axis=-1).astype(np.float32)

    def _moved(self, xy: Float[np.ndarray, "n m 2"]) -> Float[np.ndarray, "n m 2"]:
        return xy @ self.matrix.transpose(0, 2, 1) + self.offset[:, None]

    @staticmethod
    def of(views: Sequence[Affine]) -> Affines:
        return Affines(np.stack([view.matrix for view in views]), np.stack([view.offset for view in views]))


def identity() -> Affine:
    return Affine(np.eye(2), np.zeros(2))


def flip_horizontal() -> Affine:
    return Affine(np.diag([-1.0, 1.0]), np.array([1.0, 0.0]))


def crop(x_min: float, y_min: float, x_max: float, y_max: float) -> Affine:
    """The map from fractions of the whole image to fractions of its crop."""
    width, height = x_max - x_min, y_max - y_min
    return Affine(np.diag([1 / width, 1 / height]), np.array([-x_min / width, -y_min / height]))


def inside(xy: Float[np.ndarray, "*n 2"]) -> Bool[np.ndarray, " *n"]:
    """Whether points lie on the image, borders included; NaN does not."""
    return np.all((xy >= 0) & (xy <= 1), axis=-1)


def clip_boxes(boxes: Float[np.ndarray, "*n 4"]) -> tuple[Float[np.ndarray, "*n 4"], Bool[np.ndarray, " *n"]]:
    """Boxes cut to the image, and whether anything of them is left."""
    clipped = np.clip(boxes, 0, 1)
    visible = (clipped[..., 2] > clipped[..., 0]) & (clipped[..., 3] > clipped[..., 1])
    return clipped, visible
