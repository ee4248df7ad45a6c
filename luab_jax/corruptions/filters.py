"""Filters that several corruptions share: Gaussian, zoom, motion; and values to bytes and back.

A Gaussian with its border rule is a matrix along each axis, made once by numpy in double precision; a product of
224 x 224 costs less than a convolution with a wide kernel.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

Border = Literal["edge", "symmetric", "reflect"]
"""numpy.pad's names. scipy.ndimage calls them nearest, reflect and mirror, OpenCV replicate, reflect, reflect_101."""


_ROUNDING = 2.0**-11
"""Above the error of single precision at 255, below one in a thousand of a level."""


def to_unit(image: UInt8[Array, "h w c"]) -> Float[Array, "h w c"]:
    """Values in [0, 1]."""
    return image.astype(jnp.float32) / 255


def to_uint8(image: Float[Array, "h w c"]) -> UInt8[Array, "h w c"]:
    """Values in [0, 1], cut to that range and then, as the official files are, cut off to whole numbers.

    Many values are whole by their formula; the least error of rounding below them must not cost a level.
    """
    return jnp.floor(jnp.clip(image, 0, 1) * 255 + _ROUNDING).astype(jnp.uint8)


def along_both_axes(
    rows: Float[np.ndarray, "h2 h"], image: Float[Array, "h w c"], columns: Float[np.ndarray, "w2 w"]
) -> Float[Array, "h2 w2 c"]:
    """One matrix over the rows, one over the columns. At full precision: accelerators halve it unless told not to."""
    return jnp.einsum(
        "ih,hwc,jw->ijc",
        rows.astype(np.float32),
        image,
        columns.astype(np.float32),
        precision=jax.lax.Precision.HIGHEST,
    )


@functools.cache
def gaussian_matrix(length: int, sigma: float, border: Border, truncate: float) -> Float[np.ndarray, "length length"]:
    """scipy.ndimage.gaussian_filter1d: the kernel ends at `truncate` standard deviations."""
    radius = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    source = np.pad(np.arange(length), radius, mode=border)
    matrix = np.zeros((length, length))
    for k, weight in enumerate(weights):
        np.add.at(matrix, (np.arange(length), source[k : k + length]), weight)
    return matrix


def gaussian_blur(
    image: Float[Array, "h w c"], sigma: float, border: Border = "edge", truncate: float = 4.0
) -> Float[Array, "h w c"]:
    """scikit-image's `gaussian` with its defaults."""
    height, width = image.shape[:2]
    rows = gaussian_matrix(height, sigma, border, truncate)
    return along_both_axes(rows, image, gaussian_matrix(width, sigma, border, truncate))


def clipped_zoom(
    image: Float[Array, "h w c"], factor: float, height: int, width: int
) -> Float[Array, "height width c"]:
    """A centre crop enlarged linearly to at least height x width, as scipy.ndimage.zoom does it, and cut to that.

    image: the crop, of `zoom_crop(height, factor)[1]` rows and as many columns by the same rule.
    """
    for axis, length in enumerate((height, width)):
        source = image.shape[axis]
        zoomed = round(source * factor)
        if zoomed < length:
            raise ValueError(f"zooming {source} pixels by {factor} does not fill {length}")
        trim = (zoomed - length) // 2
        at = np.arange(trim, trim + length) * ((source - 1) / (zoomed - 1))
        low = np.minimum(at.astype(int), source - 2)
        share = np.expand_dims((at - low).astype(np.float32), [a for a in range(3) if a != axis])
        image = jnp.take(image, low, axis=axis) * (1 - share) + jnp.take(image, low + 1, axis=axis) * share
    return image


def zoom_crop(length: int, factor: float) -> tuple[int, int]:
    """First pixel and number of pixels of the centre crop that is zoomed to `length`."""
    source = math.ceil(length / factor)
    return (length - source) // 2, source


def motion_blur(
    image: Float[Array, "h w c"], radius: int, sigma: float, angle: Float[Array, ""]
) -> Float[Array, "h w c"]:
    """One-sided Gaussian trail along `angle` degrees, in whole pixels, the border repeated: ImageMagick's algorithm.

    In float as the package `imagecorruptions` has it; ImageMagick rounds to its own depth, then to 8 bits.
    """
    length = 2 * radius + 1
    weights = np.exp(-(np.arange(length) ** 2) / (2 * sigma**2))
    weights = jnp.asarray(weights / weights.sum(), jnp.float32)
    height, width, channels = image.shape
    padded = jnp.pad(image, ((length, length), (length, length), (0, 0)), mode="edge")
    direction = jnp.stack([jnp.sin(jnp.deg2rad(angle)), jnp.cos(jnp.deg2rad(angle))])

    def add(i: Array, total: Array) -> Array:
        down, right = length + jnp.ceil(i * direction - 0.5).astype(jnp.int32)
        return total + weights[i] * jax.lax.dynamic_slice(padded, (down, right, 0), (height, width, channels))

    return jax.lax.fori_loop(0, length, add, jnp.zeros_like(image))
