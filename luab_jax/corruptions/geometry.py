"""Displaced and coarser pixels: elastic transform, pixelate."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Int, Key, UInt8

from luab_jax.corruptions import filters, parameters
from luab_jax.corruptions.filters import to_uint8, to_unit

Image = UInt8[Array, "h w 3"]


def elastic_transform(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """A random affine map of the image, then a smooth random field of displacements."""
    alpha, sigma, affine = parameters.ELASTIC_TRANSFORM[severity - 1]
    height, width = image.shape[:2]
    for_points, for_field = jax.random.split(key)
    moves = jax.random.uniform(for_points, (3, 2), minval=-affine, maxval=affine)
    y, x = jnp.mgrid[:height, :width].astype(jnp.float32)
    matrix = inverse_affine(height, width, moves)
    at = jnp.tensordot(matrix, jnp.stack([x, y, jnp.ones_like(x)]), axes=1, precision=jax.lax.Precision.HIGHEST)
    mapped = _sample(to_unit(image), at[1], at[0], "mirror")
    field = jax.random.uniform(for_field, (2, height, width), minval=-1, maxval=1).transpose(1, 2, 0)
    smooth = alpha * filters.gaussian_blur(field, sigma, border="symmetric", truncate=3.0)
    return to_uint8(_sample(mapped, y + smooth[..., 1], x + smooth[..., 0], "reflect"))


def inverse_affine(height: int, width: int, moves: Float[Array, "3 2"]) -> Float[Array, "2 3"]:
    """From (x, y, 1) of the result to (x, y) of the source, if three points around the centre move by `moves`."""
    # The official code takes (height, width) for (x, y) here, which is the same for squares.
    centre = np.array([height // 2, width // 2], np.float32)
    size = min(height, width) // 3
    before = centre + size * np.array([[1, 1], [1, -1], [-1, -1]], np.float32)
    after = jnp.concatenate([before + moves, jnp.ones((3, 1))], axis=1)
    return jnp.linalg.solve(after, jnp.asarray(before)).T


def _sample(
    image: Float[Array, "h w c"], y: Float[Array, "h w"], x: Float[Array, "h w"], mode: str
) -> Float[Array, "h w c"]:
    """Between the four nearest pixels."""
    return jax.vmap(lambda channel: map_coordinates(channel, [y, x], order=1, mode=mode), -1, -1)(image)


def pixelate(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Means over boxes, as large as they were. Deterministic; the key is not used."""
    height, width = image.shape[:2]
    share = parameters.PIXELATE[severity - 1]
    small = box_resize(image, int(height * share), int(width * share))
    return box_resize(small, height, width)


def box_resize(image: UInt8[Array, "h w c"], height: int, width: int) -> UInt8[Array, "height width c"]:
    """Pillow's BOX filter to the bit: along the rows first, in whole numbers of 2 ** -22, with 8 bits between."""
    along_x = _box_filter(image.transpose(1, 0, 2), width).transpose(1, 0, 2)
    return _box_filter(along_x, height)


def _box_filter(image: UInt8[Array, "h w c"], length: int) -> UInt8[Array, "length w c"]:
    source, weights = _box_weights(image.shape[0], length)
    total = jnp.full((length, *image.shape[1:]), 1 << 21, jnp.int32)
    for k in range(source.shape[1]):
        total += image[source[:, k]].astype(jnp.int32) * weights[:, k, None, None]
    return jnp.clip(total >> 22, 0, 255).astype(jnp.uint8)


@functools.cache
def _box_weights(source: int, length: int) -> tuple[Int[np.ndarray, "length k"], Int[np.ndarray, "length k"]]:
    """Pixels under each box and their weights (Pillow, src/libImaging/Resample.c: precompute_coeffs)."""
    scale = source / length
    size = max(scale, 1.0)
    centre = (np.arange(length) + 0.5) * scale
    first = np.maximum((centre - size / 2 + 0.5).astype(int), 0)
    last = np.minimum((centre + size / 2 + 0.5).astype(int), source)
    at = first[:, None] + np.arange((last - first).max())
    place = (at - centre[:, None] + 0.5) / size
    weights = ((place > -0.5) & (place <= 0.5) & (at < last[:, None])).astype(float)
    weights /= weights.sum(1, keepdims=True)
    return np.minimum(at, source - 1), (weights * (1 << 22) + 0.5).astype(np.int32)
