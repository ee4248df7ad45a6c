"""Images as a user has them (arrays, paths, PIL's) as the input of a model, prepared as evaluation prepares its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from luab_jax.byproducts.geometry import Affine
from luab_jax.data.decoding import ImageFault, decode, to_rgb
from luab_jax.data.transforms import ANY_SIZE, Preprocessing, SizeFault, evaluation_input
from luab_jax.errors import DataError
from luab_jax.io import storage

OneImage = UInt8[np.ndarray, "h w 3"] | str | os.PathLike[str] | Image.Image
Images = UInt8[np.ndarray, "b h w 3"] | Sequence[OneImage] | OneImage
"""RGB. Of several they may have different sizes; one alone is a batch of one."""


def model_inputs(images: Any, preprocessing: Preprocessing) -> tuple[UInt8[np.ndarray, "b s s 3"], list[Affine]]:
    """Every image resized and cut as the checkpoint states, and the map from the whole image to what is left of it.

    `images` is as `Images` says. Raises `DataError` naming the image (its path, or its place) that is none.
    """
    prepared = []
    for number, image in enumerate(_each(images)):
        try:
            prepared.append(evaluation_input(_as_pil(image, number), preprocessing, ANY_SIZE))
        except (SizeFault, ImageFault) as e:
            name = os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {number}"
            raise DataError(f"{name}: {e}") from e
    side = preprocessing.image_size
    pixels = np.stack([pixels for pixels, _ in prepared]) if prepared else np.zeros((0, side, side, 3), np.uint8)
    return pixels, [view for _, view in prepared]


def _each(images: Any) -> Iterable[Any]:
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if getattr(images, "ndim", 0) == 3:  # of numpy, jax or torch
        return [images]
    if not isinstance(images, Iterable):
        raise DataError(f"images: a {type(images).__name__}; expected uint8 [B, H, W, 3], paths or PIL images")
    return images


def _as_pil(image: Any, number: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, str | os.PathLike):
        try:
            return decode(storage.read_all(image), os.fspath(image))
        except OSError as e:
            raise DataError(f"{os.fspath(image)}: cannot be read ({e.strerror or e})") from e
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3 or not array.size:
        raise DataError(
            f"image {number}: {array.dtype} {array.shape}; expected uint8 [H, W, 3] in RGB, not normalised, as it is"
            " before any preprocessing"
        )
    return Image.fromarray(array)
