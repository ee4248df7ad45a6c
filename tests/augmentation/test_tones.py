"""RandAugment's colours against PIL's ImageOps and ImageEnhance, level by level."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from luab_jax.augmentation import tones
from tests.augmentation.pictures import pictures

IMAGES = np.concatenate([pictures(5), np.full((1, 48, 48, 3), 77, np.uint8)])
"""The last one is flat: nothing to stretch."""


def by_pil(operation: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(operation(Image.fromarray(image))) for image in IMAGES]).astype(int)


def ours(operation: Callable[..., jax.Array], *arguments: float) -> np.ndarray:
    columns = [jnp.full(len(IMAGES), float(argument)) for argument in arguments]
    result = np.asarray(jax.jit(operation)(jnp.asarray(IMAGES, jnp.float32), *columns))
    np.testing.assert_array_equal(result, result.round())
    assert result.min() >= 0 and result.max() <= 255
    return result.astype(int)


@pytest.mark.parametrize("bits", [0, 1, 3, 8])
def test_posterize(bits: int) -> None:
    assert np.array_equal(
        ours(tones.posterize, bits), by_pil(lambda image: ImageOps.posterize(image, bits)) if bits else 0 * IMAGES
    )


@pytest.mark.parametrize("threshold", [0, 26, 128, 256])
def test_solarize(threshold: int) -> None:
    assert np.array_equal(ours(tones.solarize, threshold), by_pil(lambda image: ImageOps.solarize(image, threshold)))


def test_solarize_add_is_a_table_that_leaves_the_upper_half() -> None:
    table = [min(255, i + 99) if i < 128 else i for i in range(256)] * 3
    assert np.array_equal(ours(tones.solarize_add, 99), by_pil(lambda image: image.point(table)))


def test_invert() -> None:
    assert np.array_equal(ours(tones.invert), by_pil(ImageOps.invert))


def test_equalize() -> None:
    assert np.array_equal(ours(tones.equalize), by_pil(ImageOps.equalize))


def test_autocontrast_but_for_quotients_that_pil_rounds_below_a_whole_level() -> None:
    difference = ours(tones.autocontrast) - by_pil(ImageOps.autocontrast)
    assert set(np.unique(difference)) <= {0, 1}
    assert (difference == 0).mean() > 0.98


def test_the_filter_of_sharpness() -> None:
    assert np.array_equal(ours(tones.smooth), by_pil(lambda image: image.filter(ImageFilter.SMOOTH)))


@pytest.mark.parametrize("factor", [0.1, 0.55, 1.0, 1.45, 1.9])
@pytest.mark.parametrize(
    ("operation", "enhance"),
    [
        (tones.saturate, ImageEnhance.Color),
        (tones.contrast, ImageEnhance.Contrast),
        (tones.brighten, ImageEnhance.Brightness),
        (tones.sharpen, ImageEnhance.Sharpness),
    ],
)
def test_blends_to_the_level_but_for_sums_at_a_border(
    operation: Callable[..., jax.Array], enhance: Callable[[Image.Image], ImageEnhance._Enhance], factor: float
) -> None:
    difference = ours(operation, factor) - by_pil(lambda image: enhance(image).enhance(factor))
    assert np.abs(difference).max() <= 1
    assert (difference == 0).mean() > 0.98
