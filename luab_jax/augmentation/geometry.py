"""Shear, shift and rotation of square images, and of what has a place on them, by one affine map per image.

As in `luab_jax.byproducts.geometry`: x to the right, y down, fractions of the image. A `Sampling` says for every place
of the new image where in the old one it comes from; points go the other way, by its inverse.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from luab_jax.augmentation import products
from luab_jax.augmentation.colour import Images
from luab_jax.byproducts.kinds import TargetKind

_ROUNDING = 2.0**-11
"""A mean of equal levels must not fall below them."""


class Sampling(NamedTuple):
    """old = matrix · new + offset, one map per image."""

    matrix: Float[Array, "b 2 2"]
    offset: Float[Array, "b 2"]

    def at(self, x: Float[Array, "#b n"], y: Float[Array, "#b n"]) -> tuple[Float[Array, "b n"], Float[Array, "b n"]]:
        """Where in the old image places of the new one come from."""
        (a, b), (c, d) = (self.matrix[:, row, :, None].swapaxes(0, 1) for row in (0, 1))
        return a * x + b * y + self.offset[:, :1], c * x + d * y + self.offset[:, 1:]

    def points(self, xy: Float[Array, "b n 2"]) -> Float[Array, "b n 2"]:
        """Where in the new image points of the old one are."""
        a, b = self.matrix[:, 0, 0], self.matrix[:, 0, 1]
        c, d = self.matrix[:, 1, 0], self.matrix[:, 1, 1]
        adjugate = jnp.stack([jnp.stack([d, -b], -1), jnp.stack([-c, a], -1)], -2)
        return _product(adjugate / (a * d - b * c)[:, None, None], xy - self.offset[:, None])


def _product(matrix: Float[Array, "b 2 2"], xy: Float[Array, "b n 2"]) -> Float[Array, "b n 2"]:
    """Written out: a matrix product would be rounded to bfloat16 on accelerators."""
    return jnp.sum(matrix[:, None] * xy[:, :, None, :], axis=-1)


def shear(x: Float[Array, " b"], y: Float[Array, " b"]) -> Sampling:
    """old_x = new_x + x · new_y and old_y = new_y + y · new_x, from the upper left corner, as PIL's and timm's."""
    one = jnp.ones_like(x)
    return Sampling(_matrix(one, x, y, one), jnp.zeros((len(x), 2)))


def shift(x: Float[Array, " b"], y: Float[Array, " b"]) -> Sampling:
    """old = new + (x, y)."""
    one, zero = jnp.ones_like(x), jnp.zeros_like(x)
    return Sampling(_matrix(one, zero, zero, one), jnp.stack([x, y], -1))


def rotation(degrees: Float[Array, " b"]) -> Sampling:
    """Turns the image counter-clockwise about its centre."""
    angle = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    matrix = _matrix(cos, -sin, sin, cos)
    return Sampling(matrix, 0.5 - jnp.sum(matrix * 0.5, axis=-1))


def _matrix(a: Array, b: Array, c: Array, d: Array) -> Float[Array, "b 2 2"]:
    return jnp.stack([jnp.stack([a, b], -1), jnp.stack([c, d], -1)], -2)


def selected(samplings: list[Sampling], which: Array) -> Sampling:
    """For each image the sampling of its number; the identity where the number is none of theirs."""
    result = shear(jnp.zeros(len(which)), jnp.zeros(len(which)))
    for number, sampling in enumerate(samplings):
        mine = (which == number)[:, None]
        result = Sampling(
            jnp.where(mine[..., None], sampling.matrix, result.matrix), jnp.where(mine, sampling.offset, result.offset)
        )
    return result


def inside(xy: Float[Array, "*n 2"]) -> Bool[Array, "*n"]:
    """Whether places lie on the image, borders included; NaN does not."""
    return jnp.all((xy >= 0) & (xy <= 1), axis=-1)


_Pair = tuple[Int[Array, "b n"], Int[Array, "b n"]]


class _Sources(NamedTuple):
    """Where the pixels of a new image come from, [b, side²] each: left upper of four neighbours in the old one."""

    shown: Bool[Array, "b n"]
    """False where what lies there has left the image before."""
    column: Float[Array, "b n"]
    """Whole; -1 left of the first."""
    row: Float[Array, "b n"]
    right: Float[Array, "b n"]
    """Share of the neighbours to the right."""
    below: Float[Array, "b n"]

    def shares(self) -> list[Float[Array, "b n"]]:
        """Of the four neighbours, row by row."""
        in_row, in_column = (1 - self.below, self.below), (1 - self.right, self.right)
        return [along * down for down in in_row for along in in_column]

    def rows(self, side: int) -> _Pair:
        """Of the upper and the lower neighbours; the border repeats."""
        above, below = (jnp.clip(self.row + down, 0, side - 1).astype(jnp.int32) for down in (0, 1))
        return above, below

    def columns(self, side: int) -> _Pair:
        left, right = (jnp.clip(self.column + along, 0, side - 1).astype(jnp.int32) for along in (0, 1))
        return left, right

    def positions(self, side: int) -> list[Int[Array, "b n"]]:
        """Of the four neighbours, row by row."""
        return [row * side + column for row in self.rows(side) for column in self.columns(side)]


def _sources(samplings: list[Sampling], side: int) -> _Sources:
    """Of the last sampling back to the first: a place off the image on the way has nothing to show."""
    at = (jnp.arange(side, dtype=jnp.float32) + 0.5) / side
    x, y = jnp.tile(at, side)[None], jnp.repeat(at, side)[None]
    shown = jnp.ones((1, side * side), bool)
    for sampling in reversed(samplings):
        x, y = sampling.at(x, y)
        shown = shown & (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    x, y = x * side - 0.5, y * side - 0.5
    column, row = jnp.floor(x), jnp.floor(y)
    return _Sources(shown, column, row, x - column, y - row)


def resample(images: Images, samplings: list[Sampling], fill: tuple[float, ...]) -> Images:
    """The images after all samplings, the first of them first, at the cost of one.

    images: whole levels. Bilinear, repeating the border for half a pixel, as PIL's Image.transform; cut off to whole
    levels. What one sampling moves off the image does not come back by the next.
    samplings: |∂/∂x| + |∂/∂y| of either old coordinate, by all of them together, must not exceed `products.STEEPEST`,
    or a TPU reads wrong pixels (`products.packed_at`). No two operations of RandAugment do.
    """
    side = images.shape[1]
    if images.shape[2] != side:
        raise ValueError(f"images of {images.shape[2]} x {side} pixels are not square")
    sources = _sources(samplings, side)
    colours = jax.lax.platform_dependent(
        images, sources.rows(side), sources.columns(side), tpu=products.packed_at, default=packed_at
    )
    corners = list(zip(sources.shares(), colours, strict=True))
    channels = []
    for channel, level in enumerate(fill):
        total = sum(share * ((colour >> (8 * channel)) & 255).astype(jnp.float32) for share, colour in corners)
        channels.append(jnp.where(sources.shown, jnp.floor(total + _ROUNDING), level))
    return jnp.stack(channels, -1).reshape(images.shape)


def packed_at(images: Images, rows: _Pair, columns: _Pair) -> list[UInt32[Array, "b n"]]:
    """Pixels at each row and column, three bytes in a number: one gather in place of three."""
    side, levels = images.shape[1], images.astype(jnp.uint32)
    packed = (levels[..., 0] | (levels[..., 1] << 8) | (levels[..., 2] << 16)).reshape(len(images), -1)
    return [jnp.take_along_axis(packed, row * side + column, axis=1) for row in rows for column in columns]


def moved(
    kind: TargetKind | None, values: Float[Array, "b k d"], samplings: list[Sampling]
) -> tuple[Float[Array, "b k d"], Bool[Array, "b k"]]:
    """Targets after all samplings, and which of them are still on the image; 0 where not.

    What has no place stays. A box is cut to the image, and valid while any of it is left. Of a heat map the density is
    resampled at the centres of its cells, bilinearly, and what is left of it has sum 1 again.
    """
    if kind is TargetKind.DISTRIBUTION:
        return _moved_maps(values, samplings)
    shown = jnp.ones(values.shape[:2], bool)
    for sampling in samplings:
        if kind is TargetKind.POINT:
            values = sampling.points(values)
            shown &= inside(values)
        elif kind is TargetKind.BOX:
            values = jnp.clip(_moved_boxes(values, sampling), 0.0, 1.0)
            shown &= jnp.all(values[..., 2:] > values[..., :2], axis=-1)
    return jnp.where(shown[..., None], values, 0.0), shown


def _moved_boxes(boxes: Float[Array, "b k 4"], sampling: Sampling) -> Float[Array, "b k 4"]:
    """The box around the four moved corners."""
    corners = boxes[..., jnp.asarray([0, 1, 2, 1, 0, 3, 2, 3])].reshape(len(boxes), -1, 2)
    corners = sampling.points(corners).reshape(*boxes.shape[:2], 4, 2)
    return jnp.concatenate([corners.min(axis=-2), corners.max(axis=-2)], axis=-1)


def _moved_maps(
    maps: Float[Array, "b k d"], samplings: list[Sampling]
) -> tuple[Float[Array, "b k d"], Bool[Array, "b k"]]:
    side = round(maps.shape[-1] ** 0.5)
    sources = _sources(samplings, side)
    total = sum(
        share[:, None] * jnp.take_along_axis(maps, at[:, None], axis=-1)
        for share, at in zip(sources.shares(), sources.positions(side), strict=True)
    )
    total = jnp.where(sources.shown[:, None], total, 0.0)
    return normalised(total)


def normalised(maps: Float[Array, "b k d"]) -> tuple[Float[Array, "b k d"], Bool[Array, "b k"]]:
    """Maps with sum 1, and whether there was anything; 0 where not."""
    mass = jnp.sum(maps, axis=-1)
    present = mass > 1e-6
    return jnp.where(present[..., None], maps / jnp.where(present, mass, 1.0)[..., None], 0.0), present
