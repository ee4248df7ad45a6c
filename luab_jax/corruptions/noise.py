"""Noise: gaussian, shot, impulse, speckle."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, UInt8

from luab_jax.corruptions import parameters
from luab_jax.corruptions.filters import to_uint8, to_unit

Image = UInt8[Array, "h w 3"]


def gaussian_noise(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Adds independent normal noise to every value."""
    std = parameters.GAUSSIAN_NOISE[severity - 1]
    return to_uint8(to_unit(image) + std * jax.random.normal(key, image.shape))


def shot_noise(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Counts photons: Poisson with a rate in proportion to the value.

    Drawn by inversion, up to the count that is white; jax.random.poisson cannot be told where to end, and its loop of
    rejections lasts until the last pixel is accepted.
    """
    photons = parameters.SHOT_NOISE[severity - 1]
    rate = to_unit(image) * photons
    drawn = jax.random.uniform(key, image.shape)
    probability = jnp.exp(-rate)
    at_most = probability
    count = jnp.zeros_like(rate)
    for k in range(1, photons + 1):
        count += drawn >= at_most
        probability *= rate / k
        at_most += probability
    return to_uint8(count / photons)


def impulse_noise(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Salt and pepper, half and half, on each channel alone: scikit-image's random_noise(mode="s&p")."""
    amount = parameters.IMPULSE_NOISE[severity - 1]
    for_hit, for_salt = jax.random.split(key)
    hit = jax.random.uniform(for_hit, image.shape) <= amount
    salt = jax.random.uniform(for_salt, image.shape) <= 0.5
    return jnp.where(hit, jnp.where(salt, 255, 0), image).astype(jnp.uint8)


def speckle_noise(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Normal noise in proportion to the value."""
    std = parameters.SPECKLE_NOISE[severity - 1]
    unit = to_unit(image)
    return to_uint8(unit + unit * (std * jax.random.normal(key, image.shape)))
