"""Noise: gaussian, shot, impulse, speckle."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from luab_jax.corruptions import parameters
from luab_jax.corruptions.filters import to_uint8, to_unit

Image = UInt8[Array, "h w 3"]


def gaussian_noise(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Adds independent normal noise to every value."""
    std = parameters.GAUSSIAN_NOISE[severity - 1]
    return to_uint8(to_unit(image) + std * jax.random.normal(key, image.shape))


def shot_noise(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Counts photons: Poisson with a rate in proportion to the value."""
    photons = parameters.SHOT_NOISE[severity - 1]
    cumulative = jnp.asarray(_poisson_cumulative(photons), jnp.float32)[image]
    # A sum over k instead of a search: XLA fuses it into one pass.
    drawn = jax.random.uniform(key, (*image.shape, 1))
    return to_uint8((drawn >= cumulative).sum(-1) / photons)


@functools.cache
def _poisson_cumulative(photons: int) -> Float[np.ndarray, "256 photons"]:
    """P(count <= k) for k < photons and each of the 256 rates; what lies above is white, however far.

    jax.random.poisson lacks that knowledge: its loop of rejections lasts until the last pixel is accepted, a hundred
    times as long.
    """
    rate = np.arange(256)[:, None] / 255 * photons
    k = np.arange(photons)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.where(rate > 0, k * np.log(rate) - rate - np.cumsum(np.log(np.maximum(k, 1))), -np.inf)
    log[0, 0] = 0.0
    return np.cumsum(np.exp(log), axis=1)


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
