"""Drops of water or mud on the lens."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from luab_jax.corruptions import filters, parameters
from luab_jax.corruptions.filters import to_uint8, to_unit

Image = UInt8[Array, "h w 3"]

_CANNY_LOW, _CANNY_HIGH = 50, 150
_FARTHEST = 20
"""Pixels from the rim of a drop beyond which its shade does not change."""

# OpenCV's distanceTransform with a mask of 5 x 5 (Borgefors 1986): costs of the moves.
_MOVES = {
    (down, right): cost
    for cost, steps in ((1.0, (0, 1)), (1.4, (1, 1)), (2.1969, (1, 2)))
    for a, b in {steps, steps[::-1]}
    for down in {a, -a}
    for right in {b, -b}
}
_RELIEF = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))


def spatter(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Water up to severity 3, mud from 4 on."""
    mean, std, sigma, threshold, strength, is_mud = parameters.SPATTER[severity - 1]
    unit = to_unit(image)
    drops = mean + std * jax.random.normal(key, (*image.shape[:2], 1))
    layer = filters.gaussian_blur(drops, sigma)
    layer = jnp.where(layer < threshold, 0, layer)
    if is_mud:
        mud = filters.gaussian_blur((layer > threshold).astype(jnp.float32), strength)
        mud = jnp.where(mud < parameters.MUD_THRESHOLD, 0, mud)
        return to_uint8(unit * (1 - mud) + mud * jnp.asarray(parameters.MUD))
    whole = jnp.floor(layer[..., 0] * 255).astype(jnp.int32)
    water = (whole * shade_of_drops(whole)).astype(jnp.float32)[..., None]
    water = strength * water / jnp.maximum(water.max(), 1)
    return to_uint8(unit + water * jnp.asarray(parameters.WATER))


def shade_of_drops(layer: Int[Array, "h w"]) -> Int[Array, "h w"]:
    """Light on the drops, 0 to 255: a relief of the distance to their rims."""
    distance = jnp.minimum(distance_to(edges(layer)), _FARTHEST)
    height = equalise(jnp.floor(_sum_3x3(distance) / 9).astype(jnp.int32))
    padded = jnp.pad(height, 1, mode="reflect")
    relief = sum(
        weight * _shifted(padded, down - 1, right - 1)
        for down, row in enumerate(_RELIEF)
        for right, weight in enumerate(row)
    )
    return (2 * _sum_3x3(jnp.clip(relief, 0, 255)) + 9) // 18


def _sum_3x3(plane: Array) -> Array:
    padded = jnp.pad(plane, 1, mode="reflect")
    total = jnp.zeros_like(plane)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            total += _shifted(padded, down, right)
    return total


def _shifted(padded: Array, down: int, right: int, margin: int = 1) -> Array:
    """The plane as seen `down` and `right` of each pixel, of one padded by `margin`."""
    height, width = padded.shape[0] - 2 * margin, padded.shape[1] - 2 * margin
    return padded[margin + down : margin + down + height, margin + right : margin + right + width]


def edges(layer: Int[Array, "h w"]) -> Bool[Array, "h w"]:
    """Canny's edges by OpenCV's rules: Sobel 3 x 3, |dx| + |dy|, thresholds 50 and 150."""
    padded = jnp.pad(layer, 1, mode="edge")
    at = functools.partial(_shifted, padded)
    dx = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1)
    dy = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1)
    size = jnp.abs(dx) + jnp.abs(dy)
    near = functools.partial(_shifted, jnp.pad(size, 1))
    horizontal = (size > near(0, -1)) & (size >= near(0, 1))
    vertical = (size > near(-1, 0)) & (size >= near(1, 0))
    falling = (size > near(-1, -1)) & (size > near(1, 1))
    rising = (size > near(-1, 1)) & (size > near(1, -1))
    tangent = round(math.tan(math.pi / 8) * 2**15)
    flat, steep = jnp.abs(dx), jnp.abs(dy) << 15
    is_horizontal = steep < flat * tangent
    is_vertical = steep > flat * (tangent + (1 << 16))
    diagonal = jnp.where((dx < 0) != (dy < 0), rising, falling)
    is_ridge = jnp.where(is_horizontal, horizontal, jnp.where(is_vertical, vertical, diagonal))
    weak = is_ridge & (size > _CANNY_LOW)
    return _grow(weak & (size > _CANNY_HIGH), weak)


def _grow(seeds: Bool[Array, "h w"], within: Bool[Array, "h w"]) -> Bool[Array, "h w"]:
    """All of `within` that touches the seeds, corners included, directly or through others."""

    def spread(state: tuple[Array, Array]) -> tuple[Array, Array]:
        grown, _ = state
        wider = (_sum_3x3(grown.astype(jnp.int32)) > 0) & within
        return wider, (wider != grown).any()

    return jax.lax.while_loop(lambda state: state[1], spread, (seeds, seeds.any()))[0]


def distance_to(mask: Bool[Array, "h w"]) -> Float[Array, "h w"]:
    """Pixels of the cheapest way to the mask; right where it is below 20."""
    far = jnp.float32(_FARTHEST + 3)

    def relax(_: Array, distance: Array) -> Array:
        padded = jnp.pad(distance, 2, constant_values=far)
        for (down, right), cost in _MOVES.items():
            distance = jnp.minimum(distance, _shifted(padded, down, right, margin=2) + cost)
        return distance

    return jax.lax.fori_loop(0, _FARTHEST, relax, jnp.where(mask, 0.0, far))


def equalise(plane: Int[Array, "h w"]) -> Int[Array, "h w"]:
    """Histogram equalisation by OpenCV's rule: the lowest level that occurs becomes 0. Levels 0 to 20."""
    counts = jnp.bincount(plane.reshape(-1), length=_FARTHEST + 1)
    others = plane.size - counts[plane.min()]
    up_to = jnp.cumsum(counts) - counts[plane.min()]
    levels = jnp.round(up_to * (255 / jnp.maximum(others, 1))).astype(jnp.int32)
    return jnp.where(others > 0, levels[plane], plane)
