"""The steps of corruptions against Pillow, and against loops that are written as the definition is."""

from __future__ import annotations

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from luab_jax.corruptions import blur, parameters
from luab_jax.corruptions.filters import gaussian_matrix, motion_blur
from luab_jax.corruptions.geometry import pixelate
from luab_jax.corruptions.jpeg import through_jpeg
from luab_jax.corruptions.weather import plasma_fractal
from tests.corruptions.test_corrupt import drawn_image


@pytest.mark.parametrize("quality", [7, 50, 95])
def test_jpeg_is_pillows_to_the_pixel(quality: int) -> None:
    image = drawn_image(quality, side=64)[:37, :51]
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    ours = jax.jit(through_jpeg, static_argnums=1)(jnp.asarray(image), quality)
    assert np.array_equal(ours, np.asarray(Image.open(file)))


@pytest.mark.parametrize("severity", parameters.SEVERITIES)
def test_pixelate_is_pillows_to_the_pixel(severity: int) -> None:
    image, share = drawn_image(severity, side=72), parameters.PIXELATE[severity - 1]
    small = Image.fromarray(image).resize((int(72 * share),) * 2, Image.Resampling.BOX)
    expected = np.asarray(small.resize((72, 72), Image.Resampling.BOX))
    ours = jax.jit(pixelate, static_argnums=1)(jnp.asarray(image), severity, jax.random.key(0))
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("reach", [1, 3])
def test_glass_scatters_as_the_loop_over_pixels_does(reach: int) -> None:
    height, width = 24, 20
    shape = (height - 2 * reach, width - 2 * reach, 2)
    offsets = np.random.default_rng(reach).integers(-reach, reach, shape)
    pixels = list(range(height * width))
    for i in range(shape[0]):
        for j in range(shape[1]):
            row, column = height - reach - i, width - reach - j
            right, down = offsets[i, j]
            pixels[row * width + column] = pixels[(row + down) * width + column + right]
    assert blur.scatter_sources(jnp.asarray(offsets, jnp.int32), reach, height, width).tolist() == pixels


@pytest.mark.parametrize("border", ["edge", "symmetric"])
def test_a_gaussian_wider_than_the_image_sees_its_border_again_and_again(border) -> None:
    sigma, length, truncate = 3.5, 5, 3.0
    radius = int(truncate * sigma + 0.5)
    row = np.random.default_rng(0).random(length)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    expected = np.convolve(np.pad(row, radius, mode=border), weights / weights.sum(), mode="valid")
    np.testing.assert_allclose(gaussian_matrix(length, sigma, border, truncate) @ row, expected, rtol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 30.0, -100.0])
def test_motion_blur_sums_whole_steps_along_the_angle(angle: float) -> None:
    image = np.random.default_rng(0).random((12, 14, 1))
    radius, sigma = 4, 3.0
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    expected = np.zeros_like(image)
    for i, weight in enumerate(weights / weights.sum()):
        down = np.ceil(i * np.sin(np.deg2rad(angle)) - 0.5)
        right = np.ceil(i * np.cos(np.deg2rad(angle)) - 0.5)
        rows = np.clip(np.arange(12) + int(down), 0, 11)
        columns = np.clip(np.arange(14) + int(right), 0, 13)
        expected += weight * image[rows][:, columns]
    ours = motion_blur(jnp.asarray(image, jnp.float32), radius, sigma, jnp.float32(angle))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_defocus_averages_over_a_disk() -> None:
    kernel = blur.disk(3, 0.1)
    assert kernel.shape == (17, 17) and abs(kernel.sum() - 1) < 1e-12 and (kernel > 1e-9).sum() == 29
    image = np.zeros((40, 40, 3), np.uint8)
    image[20, 20] = 255
    spot = np.asarray(blur.defocus_blur(jnp.asarray(image), 1, jax.random.key(0)))
    assert ((spot > 0).all(-1) == np.pad(kernel > 1e-9, ((12, 11), (12, 11)))).all()


def test_the_plasma_is_rough_at_every_scale_and_ends_at_its_own_beginning() -> None:
    plasma = np.asarray(plasma_fractal(jax.random.key(0), 6, 1.7))
    assert plasma.shape == (64, 64) and plasma.min() == 0 and plasma.max() == 1
    steps = [np.abs(plasma - np.roll(plasma, 2**k, axis=0)).mean() for k in range(6)]
    assert steps[:5] == sorted(steps[:5])
