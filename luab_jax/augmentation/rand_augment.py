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
from jaxtyping import Array, Bool, Float, Int, Key

from luab_jax.augmentation import geometry, tones
from luab_jax.augmentation.chosen import for_chosen
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

_NUM_MOVES = len(OPERATIONS) - _NUMBER["rotate"]
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


def recolour(images: Images, layer: Layer, chance: float = 1.0, devices: int = 1) -> Images:
    """The layer's operation where it is one on colours; whole levels in, whole levels out.

    Operations that cost little are computed for all images. chance and devices: see `for_chosen`, of one operation.
    """
    level = layer.level
    factor = jnp.maximum(0.1, 1.0 + 0.9 * layer.sign * level)

    def chosen(name: str) -> Bool[Array, " b"]:
        return layer.operation == _NUMBER[name]

    images = for_chosen(images, chosen("equalize"), tones.equalize, chance=chance, devices=devices, gathers=True)
    images = for_chosen(images, chosen("sharpen"), tones.sharpen, (factor,), chance=chance, devices=devices)
    results = {
        "autocontrast": tones.autocontrast(images),
        "invert": tones.invert(images),
        "posterize": tones.posterize(images, 4.0 - jnp.floor(4.0 * level)),
        "solarize": tones.solarize(images, 256.0 - jnp.floor(256.0 * level)),
        "solarize_add": tones.solarize_add(images, jnp.floor(110.0 * level)),
        "saturate": tones.saturate(images, factor),
        "contrast": tones.contrast(images, factor),
        "brighten": tones.brighten(images, factor),
    }
    changed = images
    for name, result in results.items():
        changed = jnp.where(chosen(name)[:, None, None, None], result, changed)
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


def moves(layer: Layer) -> Bool[Array, " b"]:
    """Whether the layer's operation is a geometric one."""
    return (layer.operation >= _NUMBER["rotate"]) & (layer.operation < NOTHING)


@jax.named_scope("rand_augment")
def rand_augment(
    images: Images,
    layers: tuple[Layer, Layer],
    fill: tuple[float, ...],
    *,
    probability: float = 0.5,
    devices: int = 1,
) -> Images:
    """Images of whole levels after both layers; where neither moves an image, its pixels stay where they are.

    fill: levels of the pixels that come from outside. A layer is either colour or geometry, so colours before the
    resampling and colours after it keep the order of the layers.
    probability: of `draw_layer`; devices: that take a share of the batch.
    """
    first, second = layers
    of_one = probability / len(OPERATIONS)
    of_moves = 1.0 - (1.0 - _NUM_MOVES * of_one) ** 2
    images = recolour(images, first, of_one, devices)

    def resample(images: Images, *samplings: Sampling) -> Images:
        return geometry.resample(images, list(samplings), fill)

    maps = (sampling(first), sampling(second))
    images = for_chosen(images, moves(first) | moves(second), resample, maps, chance=of_moves, devices=devices)
    return recolour(images, second, of_one, devices)
