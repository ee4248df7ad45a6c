"""Colour jitter and lighting, on pixels from 0 to 255 as float32.

Nothing is rounded between the operations, as in torchvision on float tensors; on PIL images it rounds each down to
whole levels, so the two differ by less than a level per operation.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Images = Float[Array, "b h w 3"]

_LUMA = (0.299, 0.587, 0.114)
"""ITU-R 601-2, as in PIL's mode L."""

_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Of the covariance of ImageNet's RGB values in [0, 1], vectors in columns (facebook/fb.resnet.torch,
datasets/imagenet.lua; the same in naver-ai/relabel_imagenet)."""


def grey(images: Images) -> Float[Array, "b h w 1"]:
    """Luma."""
    red, green, blue = (images[..., i : i + 1] * weight for i, weight in enumerate(_LUMA))
    return red + green + blue


def blend(images: Images, others: Float[Array, "#b #h #w #c"], factors: Float[Array, " b"]) -> Images:
    """f · image + (1 - f) · other, cut to 0 ... 255: f = 1 changes nothing, 0 gives the other, more overdoes it."""
    factors = factors[:, None, None, None]
    return jnp.clip(factors * images + (1 - factors) * others, 0.0, 255.0)


def jitter(images: Images, factors: Float[Array, "b 3"], order: Int[Array, "b 3"]) -> Images:
    """Brightness (0), contrast (1) and saturation (2) by their factors, in each image's order.

    All three blend with something: with black, with the mean of the luma, with the luma. So each place of the order
    costs one pass, whatever operation it holds.
    """
    for place in range(3):
        operation = order[:, place]
        luma = grey(images)
        mean = jnp.mean(luma, axis=(1, 2), keepdims=True)
        which = operation[:, None, None, None]
        other = jnp.where(which == 0, 0.0, jnp.where(which == 1, mean, luma))
        images = blend(images, other, jnp.take_along_axis(factors, operation[:, None], axis=1)[:, 0])
    return images


def light(images: Images, amounts: Float[Array, "b 3"]) -> Images:
    """Adds Σ_i amount_i · eigenvalue_i · eigenvector_i to every pixel; not cut (Krizhevsky et al. 2012, §4.1)."""
    scaled = amounts * jnp.asarray(_EIGENVALUES)
    shift = jnp.sum(jnp.asarray(_EIGENVECTORS) * scaled[:, None, :], axis=-1)
    return images + 255.0 * shift[:, None, None, :]
