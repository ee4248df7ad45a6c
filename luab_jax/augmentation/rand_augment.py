"""RandAugment (Cubuk et al. 2020) as timm's `rand-m9-mstd0.5-inc1`: two operations of fifteen, each with probability ½.

Source of the list, the ranges and the noise: timm/data/auto_augment.py (`_RAND_INCREASING_TRANSFORMS`). Operations on
colours are PIL's, to the level (but for the last digit of a quotient). All geometric operations are one affine map:
both layers' are one resampling, in its place between the layers' colours. Two differences to timm as DeiT calls it: two
geometric operations in a row are interpolated once and not twice, and the interpolation is bilinear, where DeiT asks
for bicubic, whose 16 neighbours cost four times as much.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from luab_jax.augmentation import geometry, tones
from luab_jax.augmentation.colour import Images
from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.augmentation.geometry import Sampling

OPERATIONS = (
    "autocontrast",
    "equalize",
    "invert",
    "posterize",
    "solarize",
    "solarize_add",
    "saturate",
    "contrast",
    "brighten",
    "sharpen",
    "rotate",
    "shear_x",
    "shear_y",
    "shift_x",
    "shift_y",
)
_NUMBER = {name: number for number, name in enumerate(OPERATIONS)}
NOTHING = len(OPERATIONS)
"""The number of an operation that is not carried out."""

_MAX_LEVEL = 10.0


class Layer(NamedTuple):
    """One operation for each image."""

    operation: Int[Array, " b"]
    level: Float[Array, " b"]
    """0 to 1, of the operation's range."""
    sign: Float[Array, " b"]
    """-1 or 1, of operations with a direction."""


def draw_layer(key: Key[Array, ""], config: AugmentationConfig) -> Any:
    """The numbers of one image's layer; vectorised over keys it gives a `Layer`."""
    kinds, applied, noise, sign = jax.random.split(key, 4)
    operation = jax.random.randint(kinds, (), 0, len(OPERATIONS))
    carried_out = jax.random.uniform(applied) < config.rand_augment_probability
    magnitude = config.rand_augment_magnitude + config.rand_augment_std * jax.random.normal(noise)
    level = jnp.clip(magnitude, 0.0, _MAX_LEVEL) / _MAX_LEVEL
    direction = jnp.where(jax.random.uniform(sign) < 0.5, -1.0, 1.0)
    return Layer(jnp.where(carried_out, operation, NOTHING), level, direction)


def recolour(images: Images, layer: Layer) -> Images:
    """The layer's operation where it is one on colours; whole levels in, whole levels out."""
    level = layer.level
    factor = jnp.maximum(0.1, 1.0 + 0.9 * layer.sign * level)
    results = {
        "autocontrast": tones.autocontrast(images),
        "equalize": tones.equalize(images),
        "invert": tones.invert(images),
        "posterize": tones.posterize(images, 4.0 - jnp.floor(4.0 * level)),
        "solarize": tones.solarize(images, 256.0 - jnp.floor(256.0 * level)),
        "solarize_add": tones.solarize_add(images, jnp.floor(110.0 * level)),
        "saturate": tones.saturate(images, factor),
        "contrast": tones.contrast(images, factor),
        "brighten": tones.brighten(images, factor),
        "sharpen": tones.sharpen(images, factor),
    }
    changed = images
    for name, result in results.items():
        changed = jnp.where((layer.operation == _NUMBER[name])[:, None, None, None], result, changed)
    return changed


def sampling(layer: Layer) -> Sampling:
    """The layer's affine map; the identity where its operation is one on colours."""
    amount = layer.sign * layer.level
    zero = jnp.zeros_like(amount)
    maps = {
        "rotate": geometry.rotation(30.0 * amount),
        "shear_x": geometry.shear(0.3 * amount, zero),
        "shear_y": geometry.shear(zero, 0.3 * amount),
        "shift_x": geometry.shift(0.45 * amount, zero),
        "shift_y": geometry.shift(zero, 0.45 * amount),
    }
    return geometry.selected(list(maps.values()), layer.operation - _NUMBER["rotate"])


def rand_augment(images: Images, layers: tuple[Layer, Layer], fill: tuple[float, ...]) -> tuple[Images, list[Sampling]]:
    """Images of whole levels after both layers, and what moved them.

    fill: levels of the pixels that come from outside. A layer is either colour or geometry, so colours before the
    resampling and colours after it keep the order of the layers.
    """
    first, second = layers
    samplings = [sampling(first), sampling(second)]
    images = geometry.resample(recolour(images, first), samplings, fill)
    return recolour(images, second), samplings
