"""A plan carried out on pixels: from the uint8 images that the host sent to what the network sees.

In the order of the recipes: colour jitter or RandAugment on pixels of 0 to 255, lighting, normalisation, erasing, and
last the mixing (ReLabel: naver-ai/relabel_imagenet, utils/data_loader.py; DeiT: timm's transforms_factory.py and
mixup.py).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, UInt8

from luab_jax.augmentation.colour import jitter, light
from luab_jax.augmentation.plan import Erasing, Mixing, Plan
from luab_jax.augmentation.rand_augment import rand_augment
from luab_jax.augmentation.rows import partners
from luab_jax.models.inputs import normalise
from luab_jax.models.rows import on_each_device


def render(
    plan: Plan,
    images: UInt8[Array, "b h w 3"],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    groups: int = 1,
    rows: NamedSharding | None = None,
    probability: float = 0.5,
) -> Float[Array, "b h w 3"]:
    """Normalised images after the plan, whose rows are theirs; the partners of a mixture must be among them.

    groups: `rows.pair_groups` of the global batch.
    rows: how images and plan are spread over devices; probability: of RandAugment's layers. See `rand_augment`.
    """
    pixels = images.astype(jnp.float32)
    if plan.layers is not None:
        augment = functools.partial(
            rand_augment,
            fill=tuple(float(round(255 * level)) for level in mean),
            probability=probability,
            devices=1 if rows is None else rows.mesh.size,
        )
        pixels = on_each_device(augment, rows, pixels, plan.layers)
    if plan.jitter is not None:
        pixels = jitter(pixels, plan.jitter.factors, plan.jitter.order)
    if plan.lighting is not None:
        pixels = light(pixels, plan.lighting)
    pixels = normalise(pixels, mean, std)
    if plan.erasing is not None:
        pixels = _erased(pixels, plan.erasing)
    if plan.mixing is not None:
        pixels = _mixed(pixels, plan.mixing, groups)
    return pixels


def _erased(pixels: Float[Array, "b h w 3"], erasing: Erasing) -> Float[Array, "b h w 3"]:
    """Normal noise in the rectangles: timm's mode `pixel`, after the normalisation."""
    shape = pixels.shape[1:]
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(erasing.keys)
    return jnp.where(erasing.rectangles.mask(shape[0])[..., None], noise, pixels)


def _mixed(pixels: Float[Array, "b h w 3"], mixing: Mixing, groups: int) -> Float[Array, "b h w 3"]:
    inside = mixing.pasted.mask(pixels.shape[1])
    own = jnp.where(inside, 0.0, mixing.outside[:, None, None])[..., None]
    return own * pixels + (1.0 - own) * partners(pixels, groups)
