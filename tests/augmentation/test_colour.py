"""Colour jitter against torchvision's formulas and PIL's; lighting against AlexNet's formula."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from luab_jax.augmentation.colour import jitter, light
from tests.augmentation.pictures import pictures

IMAGES = pictures(3)
ENHANCE = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
FACTORS = (1.35, 0.7, 1.2)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_jitter_is_pils_in_any_order_but_for_its_rounding(order: tuple[int, int, int]) -> None:
    """PIL cuts off after each of three operations, of which later ones enlarge the loss."""
    orders = jnp.tile(jnp.asarray(order), (len(IMAGES), 1))
    factors = jnp.tile(jnp.asarray(FACTORS), (len(IMAGES), 1))
    ours = np.asarray(jitter(jnp.asarray(IMAGES, jnp.float32), factors, orders))
    for image, result in zip(IMAGES, ours, strict=True):
        expected = Image.fromarray(image)
        for operation in order:
            expected = ENHANCE[operation](expected).enhance(FACTORS[operation])
        difference = result - np.asarray(expected, float)
        assert np.abs(difference).max() < 4 and -0.5 < difference.mean() < 2.5


def test_each_image_has_its_own_factors_and_order() -> None:
    factors = jnp.asarray([[1.0, 1.0, 1.0], [0.5, 1.0, 1.0], [2.0, 0.5, 1.0]])
    result = np.asarray(jitter(jnp.asarray(IMAGES, jnp.float32), factors, jnp.asarray([[0, 1, 2]] * 2 + [[1, 0, 2]])))
    np.testing.assert_allclose(result[0], IMAGES[0], atol=1e-3)
    np.testing.assert_allclose(result[1], IMAGES[1] * 0.5, atol=1e-3)
    grey = (IMAGES[2] @ np.asarray([0.299, 0.587, 0.114])).mean()
    np.testing.assert_allclose(result[2], np.clip(2 * (0.5 * IMAGES[2] + 0.5 * grey), 0, 255), atol=1e-2)


def test_lighting_shifts_every_pixel_along_the_components() -> None:
    amounts = np.asarray([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.05, -0.2, 0.1]])
    shifts = np.asarray(light(jnp.asarray(IMAGES, jnp.float32), jnp.asarray(amounts, jnp.float32))) - IMAGES
    np.testing.assert_allclose(shifts[0], 0)
    np.testing.assert_allclose(shifts.std((1, 2)), 0, atol=1e-3)
    # By hand: 255 · 0.1 · 0.2175 · the first column.
    np.testing.assert_allclose(shifts[1, 0, 0], [-3.1475, -3.2213, -3.2368], atol=1e-3)
    vectors = np.asarray([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=2e-3)
    np.testing.assert_allclose(
        shifts[2, 5, 7], 255 * vectors @ (amounts[2] * [0.2175, 0.0188, 0.0045]), rtol=1e-3, atol=1e-3
    )
