"""Changes of single values: brightness, contrast, saturate."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Key, UInt8

from luab_jax.corruptions import parameters
from luab_jax.corruptions.filters import to_uint8, to_unit

Image = UInt8[Array, "h w 3"]


def brightness(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Raises the value of hue, saturation, value. Deterministic; the key is not used.

    At a fixed hue and saturation, red, green and blue are in proportion to the value; black becomes grey.
    """
    unit = to_unit(image)
    value = unit.max(-1, keepdims=True)
    raised = jnp.minimum(value + parameters.BRIGHTNESS[severity - 1], 1)
    return to_uint8(jnp.where(value > 0, unit * (raised / jnp.where(value > 0, value, 1)), raised))


def contrast(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Draws every value nearer to its channel's mean. Deterministic; the key is not used."""
    unit = to_unit(image)
    # Whole numbers have the same sum in any order, so the mean does not depend on the device.
    sums = image.astype(jnp.uint32).sum((0, 1))
    means = sums.astype(jnp.float32) / (255 * image.shape[0] * image.shape[1])
    return to_uint8((unit - means) * parameters.CONTRAST[severity - 1] + means)


def saturate(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Changes the saturation of hue, saturation, value. Deterministic; the key is not used.

    At a fixed hue and value, what a channel lacks to the value is in proportion to the saturation. Grey has the hue of
    red, as in scikit-image: at the severities that add to the saturation it turns reddish.
    """
    factor, addend = parameters.SATURATE[severity - 1]
    # In whole numbers, as the compiler may leave a rounding between equal channels of the quotients by 255.
    levels = image.astype(jnp.int32)
    brightest = levels.max(-1, keepdims=True)
    lack = brightest - levels
    span = lack.max(-1, keepdims=True)
    saturation = span / jnp.where(brightest > 0, brightest, 1)
    changed = jnp.clip(saturation * factor + addend, 0, 1)
    share = jnp.where(span > 0, lack / jnp.where(span > 0, span, 1), jnp.asarray([0.0, 1.0, 1.0]))
    value = brightest / 255
    return to_uint8(value - value * changed * share)
