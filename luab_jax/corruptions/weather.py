"""Weather: snow, frost, fog."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from luab_jax.corruptions import filters, parameters
from luab_jax.corruptions.filters import to_uint8, to_unit
from luab_jax.corruptions.frost_photos import FrostPhotos, packaged_photos

Image = UInt8[Array, "h w 3"]
_GREY = (0.299, 0.587, 0.114)


def snow(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Blown flakes, once upright and once turned by half, over a whitened image."""
    mean, std, zoom, threshold, motion, weight = parameters.SNOW[severity - 1]
    for_flakes, for_angle = jax.random.split(key)
    (_, height), (_, width) = (filters.zoom_crop(side, zoom) for side in image.shape[:2])
    flakes = mean + std * jax.random.normal(for_flakes, (height, width, 1))
    layer = filters.clipped_zoom(flakes, zoom, *image.shape[:2])
    layer = jnp.where(layer < threshold, 0, jnp.clip(layer, 0, 1))
    low, high = parameters.SNOW_ANGLES
    angle = jax.random.uniform(for_angle, (), minval=low, maxval=high)
    layer = jnp.round(filters.motion_blur(layer, *motion, angle) * 255) / 255
    unit = to_unit(image)
    grey = (unit * jnp.asarray(_GREY)).sum(-1, keepdims=True)
    whitened = weight * unit + (1 - weight) * jnp.maximum(unit, grey * 1.5 + 0.5)
    return to_uint8(whitened + layer + layer[::-1, ::-1])


def frost(image: Image, severity: int, key: Key[Array, ""], photos: FrostPhotos | None = None) -> Image:
    """A random crop of one of the photos of frost, added.

    photos: those of the installed package `imagecorruptions` where none are given; raises `DataError` without it.
    """
    of_image, of_frost = parameters.FROST[severity - 1]
    photos = packaged_photos() if photos is None else photos
    photos.check_fit(*image.shape[:2])
    drawn = jax.random.uniform(key, (3,))
    which = (drawn[0] * len(photos.sizes)).astype(jnp.int32)
    places = jnp.asarray(photos.sizes)[which] - jnp.asarray(image.shape[:2])
    row, column = (drawn[1:] * places).astype(jnp.int32)
    crop = jax.lax.dynamic_slice(jnp.asarray(photos.pixels), (which, row, column, 0), (1, *image.shape))[0]
    return to_uint8((of_image * image.astype(jnp.float32) + of_frost * crop.astype(jnp.float32)) / 255)


def fog(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """A fractal haze, the brightest value kept."""
    weight, decay = parameters.FOG[severity - 1]
    height, width = image.shape[:2]
    unit = to_unit(image)
    haze = plasma_fractal(key, (max(height, width) - 1).bit_length(), decay)[:height, :width, None]
    brightest = unit.max()
    return to_uint8((unit + weight * haze) * brightest / (brightest + weight))


def plasma_fractal(key: Key[Array, ""], doublings: int, decay: float) -> Float[Array, "side side"]:
    """The diamond-square algorithm on a torus of side 2 ** doublings; values in [0, 1].

    Each doubling puts new points in the middle of the squares of old ones, then in the middle of the diamonds of both:
    the mean of the four neighbours and a random shift, whose range falls with the square of `decay`.
    """
    # All at once: compiling a generator for each of the levels takes seconds.
    drawn = jax.random.uniform(key, (4**doublings,), minval=-1, maxval=1)
    corners = jnp.zeros((1, 1))
    wibble = 100.0
    for _ in range(doublings):
        new, drawn = jnp.split(drawn, [3 * corners.size])
        shift = wibble**2 * new.reshape(3, *corners.shape)
        vertical = corners + jnp.roll(corners, -1, axis=0)
        centres = (vertical + jnp.roll(vertical, -1, axis=1)) / 4 + shift[0]
        horizontal = corners + jnp.roll(corners, -1, axis=1)
        tops = (horizontal + centres + jnp.roll(centres, 1, axis=0)) / 4 + shift[1]
        lefts = (vertical + centres + jnp.roll(centres, 1, axis=1)) / 4 + shift[2]
        even_rows = jnp.stack([corners, tops], axis=-1).reshape(len(corners), -1)
        odd_rows = jnp.stack([lefts, centres], axis=-1).reshape(len(corners), -1)
        corners = jnp.stack([even_rows, odd_rows], axis=1).reshape(2 * len(corners), -1)
        wibble /= decay
    corners -= corners.min()
    return corners / corners.max()
