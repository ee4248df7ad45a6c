"""Rectangles of pixels that are erased or pasted, and how much of a target they cover."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from luab_jax.byproducts.kinds import TargetKind

_AREA = (0.02, 1 / 3)
_ASPECT = 0.3
"""Share of the image and least aspect of an erased rectangle: timm/data/random_erasing.py, whose defaults DeiT uses."""
_ATTEMPTS = 10
"""A rectangle that is longer than the image is drawn again, so many times; then nothing is erased."""


class Rectangles(NamedTuple):
    """Pixels from (left, top) to before (right, bottom), one rectangle per image; perhaps empty."""

    left: Int[Array, " b"]
    top: Int[Array, " b"]
    right: Int[Array, " b"]
    bottom: Int[Array, " b"]

    def mask(self, side: int) -> Bool[Array, "b side side"]:
        """Which pixels of square images they hold."""
        at = jnp.arange(side)
        rows = (at >= self.top[:, None]) & (at < self.bottom[:, None])
        columns = (at >= self.left[:, None]) & (at < self.right[:, None])
        return rows[:, :, None] & columns[:, None, :]

    def area(self, side: int) -> Float[Array, " b"]:
        """Share of the image."""
        pixels = (self.right - self.left) * (self.bottom - self.top)
        return pixels.astype(jnp.float32) / side**2


def draw_erased(key: Key[Array, ""], side: int, probability: float) -> Any:
    """The rectangle of one image, empty with 1 - `probability`; vectorised over keys it gives `Rectangles`.

    The area is uniform, the aspect log-uniform, the place uniform among those where all of it lies on the image.
    """
    applied, areas, aspects, places = jax.random.split(key, 4)
    area = jax.random.uniform(areas, (_ATTEMPTS,), minval=_AREA[0], maxval=_AREA[1]) * side**2
    bound = -math.log(_ASPECT)
    aspect = jnp.exp(jax.random.uniform(aspects, (_ATTEMPTS,), minval=-bound, maxval=bound))
    heights = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (heights < side) & (widths < side)
    chosen = jnp.argmax(fits)
    erased = (jax.random.uniform(applied) < probability) & fits[chosen]
    height, width = (jnp.where(erased, lengths[chosen], 0) for lengths in (heights, widths))
    share = jax.random.uniform(places, (2,))
    left, top = (jnp.floor(share[i] * (side - n + 1)).astype(jnp.int32) for i, n in ((0, width), (1, height)))
    return Rectangles(left, top, left + width, top + height)


def draw_pasted(key: Key[Array, ""], side: int, share_kept: Float[Array, ""]) -> Rectangles:
    """Cutmix's rectangle: about 1 - λ of the image, of its aspect, anywhere, cut at the border (timm's `rand_bbox`).

    One rectangle with a first axis of 1, for a whole batch.
    """
    length = jnp.floor(side * jnp.sqrt(1.0 - share_kept)).astype(jnp.int32)
    centre = jax.random.randint(key, (2,), 0, side)
    low, high = jnp.clip(centre - length // 2, 0, side), jnp.clip(centre + length // 2, 0, side)
    return Rectangles(low[:1], low[1:], high[:1], high[1:])


def covered(
    kind: TargetKind | None, values: Float[Array, "b k d"], rectangles: Rectangles, side: int
) -> Float[Array, "b k"]:
    """The share of each target that lies in its image's rectangle: of a point 0 or 1, of a box its area, of a heat map
    its mass. 0 of what has no place."""
    if kind is TargetKind.POINT:
        pixel = jnp.clip(jnp.floor(values * side), 0, side - 1)
        low, high = _corners(rectangles, 1.0)
        return jnp.all((pixel >= low[:, None]) & (pixel < high[:, None]), axis=-1).astype(jnp.float32)
    if kind is TargetKind.BOX:
        low, high = _corners(rectangles, 1.0 / side)
        common = jnp.minimum(values[..., 2:], high[:, None]) - jnp.maximum(values[..., :2], low[:, None])
        area = jnp.prod(values[..., 2:] - values[..., :2], axis=-1)
        share = jnp.prod(jnp.maximum(common, 0.0), axis=-1) / jnp.where(area > 0, area, 1.0)
        return jnp.where(area > 0, jnp.minimum(share, 1.0), 0.0)
    if kind is TargetKind.DISTRIBUTION:
        mass = jnp.sum(values * covered_cells(rectangles, values.shape[-1], side)[:, None], axis=-1)
        return jnp.minimum(mass, 1.0)
    return jnp.zeros(values.shape[:2])


def covered_cells(rectangles: Rectangles, num_cells: int, side: int) -> Float[Array, "b d"]:
    """The share of each cell of a square grid on the image that lies in the rectangle, at most 1.

    By whole numbers of 1 / (side * count): shares that round to more than 1 would leave less than nothing of a map.
    """
    count = round(num_cells**0.5)
    edges = jnp.arange(count + 1) * side
    shares = []
    for low, high in ((rectangles.top, rectangles.bottom), (rectangles.left, rectangles.right)):
        common = jnp.minimum(edges[1:], high[:, None] * count) - jnp.maximum(edges[:-1], low[:, None] * count)
        shares.append(jnp.maximum(common, 0) / side)
    return (shares[0][:, :, None] * shares[1][:, None, :]).reshape(len(rectangles.left), num_cells)


def _corners(rectangles: Rectangles, scale: float) -> tuple[Float[Array, "b 2"], Float[Array, "b 2"]]:
    low = jnp.stack([rectangles.left, rectangles.top], -1).astype(jnp.float32)
    high = jnp.stack([rectangles.right, rectangles.bottom], -1).astype(jnp.float32)
    return low * scale, high * scale
