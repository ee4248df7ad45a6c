"""RandAugment's operations on colours: PIL's ImageOps and ImageEnhance, on whole levels from 0 to 255 as float32.

They are cheap but for `equalize`, which counts values and looks them up: by a scatter and a gather, on a TPU by
products.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from luab_jax.augmentation import products
from luab_jax.augmentation.colour import Images, blend, grey

_ROUNDING = 2.0**-11
"""Above the error of float32 at 255, below 1 / 255, the least part of a level that a quotient of bytes can have."""


def whole(images: Images) -> Images:
    """Cut off to whole levels, as PIL stores what it computed."""
    return jnp.floor(images + _ROUNDING)


def invert(images: Images) -> Images:
    return 255.0 - images


def posterize(images: Images, bits: Float[Array, " b"]) -> Images:
    """Keeps the highest bits, 0 to 8, of every value."""
    step = jnp.exp2(8.0 - bits)[:, None, None, None]
    return jnp.floor(images / step) * step


def solarize(images: Images, threshold: Float[Array, " b"]) -> Images:
    """Inverts what is at or above the threshold."""
    return jnp.where(images < threshold[:, None, None, None], images, 255.0 - images)


def solarize_add(images: Images, addend: Float[Array, " b"]) -> Images:
    """Adds to what is below 128."""
    return jnp.where(images < 128.0, jnp.minimum(255.0, images + addend[:, None, None, None]), images)


def autocontrast(images: Images) -> Images:
    """Stretches every channel from its least to its greatest value over 0 ... 255."""
    low = jnp.min(images, axis=(1, 2), keepdims=True)
    span = jnp.max(images, axis=(1, 2), keepdims=True) - low
    return jnp.where(span > 0, whole((images - low) * 255.0 / jnp.where(span > 0, span, 1.0)), images)


def equalize(images: Images) -> Images:
    """Makes the histogram of every channel as even as a table of its values can."""
    values = images.astype(jnp.int32).reshape(len(images), -1, 3)
    counts = jax.lax.platform_dependent(values, tpu=products.histograms, default=histograms)
    before = jnp.cumsum(counts, axis=-1) - counts
    of_highest = jnp.take_along_axis(counts, jnp.max(values, axis=1)[..., None], axis=-1)
    step = (values.shape[1] - of_highest) // 255
    table = jnp.clip((before + step // 2) // jnp.maximum(step, 1), 0, 255)
    table = jnp.where(step > 0, table, jnp.arange(256))
    result = jax.lax.platform_dependent(values, table, tpu=products.looked_up, default=looked_up)
    return result.reshape(images.shape)


def histograms(values: Int[Array, "b n 3"]) -> Int[Array, "b 3 256"]:
    """How often each byte occurs in each channel."""
    batch = values.shape[0]
    flat = jnp.zeros(batch * 3 * 256, jnp.int32).at[_places(values)].add(1, mode="promise_in_bounds")
    return flat.reshape(batch, 3, 256)


def looked_up(values: Int[Array, "b n 3"], table: Int[Array, "b 3 256"]) -> Float[Array, "b n 3"]:
    """table[value] of each image and channel."""
    return table.ravel().at[_places(values)].get(mode="promise_in_bounds").astype(jnp.float32)


def _places(values: Int[Array, "b n 3"]) -> Int[Array, "b n 3"]:
    images, channels = jnp.arange(values.shape[0])[:, None, None], jnp.arange(3)
    return (images * 3 + channels) * 256 + values


def smooth(images: Images) -> Images:
    """PIL's filter SMOOTH: 3x3 with 5 in the centre and 1 around it, over 13; the border stays."""
    height, width = images.shape[1:3]
    around = sum(
        images[:, y : height - 2 + y, x : width - 2 + x] for y in range(3) for x in range(3) if (y, x) != (1, 1)
    )
    inner = jnp.floor((5.0 * images[:, 1:-1, 1:-1] + around) / 13.0 + 0.5)
    return jnp.pad(inner, ((0, 0), (1, 1), (1, 1), (0, 0))) + jnp.where(_border(height, width), images, 0.0)


def _border(height: int, width: int) -> Array:
    y, x = jnp.arange(height)[:, None, None], jnp.arange(width)[:, None]
    return (y == 0) | (y == height - 1) | (x == 0) | (x == width - 1)


def saturate(images: Images, factors: Float[Array, " b"]) -> Images:
    """PIL's Color: away from the luma, or towards it."""
    return whole(blend(images, jnp.floor(grey(images) + 0.5), factors))


def contrast(images: Images, factors: Float[Array, " b"]) -> Images:
    """Away from the mean of the luma, a whole level."""
    mean = jnp.mean(jnp.floor(grey(images) + 0.5), axis=(1, 2), keepdims=True)
    return whole(blend(images, jnp.floor(mean + 0.5), factors))


def brighten(images: Images, factors: Float[Array, " b"]) -> Images:
    return whole(blend(images, jnp.zeros((1, 1, 1, 1)), factors))


def sharpen(images: Images, factors: Float[Array, " b"]) -> Images:
    return whole(blend(images, smooth(images), factors))
