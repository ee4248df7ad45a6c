"""From the pixels that cross the bus to what a network sees."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


def normalise(
    pixels: UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "b h w 3"]:
    """Levels of 0 to 255 to (x / 255 - mean) / std, on the device: as uint8 a quarter of the bytes cross the bus."""
    return (pixels.astype(jnp.float32) / 255.0 - jnp.asarray(mean)) / jnp.asarray(std)
