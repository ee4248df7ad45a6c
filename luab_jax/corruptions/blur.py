"""Blurs: defocus, glass, motion, zoom, gaussian."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from luab_jax.corruptions import filters, parameters
from luab_jax.corruptions.filters import to_uint8, to_unit

Image = UInt8[Array, "h w 3"]


def gaussian_blur(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Deterministic; the key is not used."""
    return to_uint8(filters.gaussian_blur(to_unit(image), float(parameters.GAUSSIAN_BLUR[severity - 1])))


def defocus_blur(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """The mean over a disk with a smoothed edge. Deterministic; the key is not used."""
    kernel = disk(*parameters.DEFOCUS_BLUR[severity - 1])
    reach = len(kernel) // 2
    padded = jnp.pad(to_unit(image), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    # By Fourier transform, as OpenCV does for large kernels: ten times faster on a CPU than a convolution of XLA.
    size = padded.shape[:2]
    transfer = jnp.asarray(np.fft.rfft2(kernel, size)[..., None], jnp.complex64)
    blurred = jnp.fft.irfft2(jnp.fft.rfft2(padded, axes=(0, 1)) * transfer, size, axes=(0, 1))
    return to_uint8(blurred[2 * reach :, 2 * reach :])


@functools.cache
def disk(radius: int, alias_blur: float) -> Float[np.ndarray, "k k"]:
    """A disk of sum 1 in 17 x 17 pixels (larger from radius 9 on), blurred by a Gaussian of 3 x 3 (5 x 5) pixels."""
    reach, half = (8, 1) if radius <= 8 else (radius, 2)
    offsets = np.arange(-reach, reach + 1)
    inside = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(float)
    weights = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * alias_blur**2))
    padded = np.pad(inside / inside.sum(), half, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * half + 1, 2 * half + 1))
    return np.einsum("ijkl,k,l->ij", windows, weights, weights) / weights.sum() ** 2


def glass_blur(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """Blurs, scatters pixels among their neighbours, and blurs again."""
    sigma, reach, iterations = parameters.GLASS_BLUR[severity - 1]
    height, width, channels = image.shape
    pixels = to_uint8(filters.gaussian_blur(to_unit(image), sigma)).reshape(-1, channels)
    for k in jax.random.split(key, iterations):
        offsets = jax.random.randint(k, (height - 2 * reach, width - 2 * reach, 2), -reach, reach)
        pixels = pixels[scatter_sources(offsets, reach, height, width)]
    return to_uint8(filters.gaussian_blur(to_unit(pixels.reshape(image.shape)), sigma))


def scatter_sources(
    offsets: Int[Array, "rows columns 2"], reach: int, height: int, width: int
) -> Int[Array, " pixels"]:
    """The pixel whose colour each pixel has in the end, after one pass of scattering.

    The official code visits the pixels from (height - reach, width - reach) backwards to (reach + 1, reach + 1) and
    means to swap each with the one at a random offset. But what it writes is a copy: numpy's rows are views, so that
    the second half of the exchange reads what the first has just written. So a pixel takes the colour that the one at
    its offset has at that moment, which is that one's own new colour if it was visited before (lies later in reading
    order), and its old colour otherwise. These are chains that end; following them in doubled steps needs no order.

    offsets: (right, down) in [-reach, reach), in the order of the visits.
    """
    at = jnp.arange(height * width)
    row, column = at // width, at % width
    visited = (row > reach) & (row <= height - reach) & (column > reach) & (column <= width - reach)
    own = jnp.zeros((height, width, 2), jnp.int32)
    own = own.at[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1].set(offsets[::-1, ::-1])
    right, down = own.reshape(-1, 2).T
    taken = at + down * width + right
    ahead = jnp.where(visited & visited[taken] & (taken > at), taken, at)
    for _ in range(math.ceil(math.log2(height * width))):
        ahead = ahead[ahead]
    return taken[ahead]


def motion_blur(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """A trail along an angle within 45 degrees of the horizontal."""
    radius, sigma = parameters.MOTION_BLUR[severity - 1]
    low, high = parameters.MOTION_ANGLES
    angle = jax.random.uniform(key, (), minval=low, maxval=high)
    return to_uint8(filters.motion_blur(to_unit(image), radius, sigma, angle))


def zoom_blur(image: Image, severity: int, key: Key[Array, ""]) -> Image:
    """The mean over zooms into the centre. Deterministic; the key is not used."""
    stop, step = parameters.ZOOM_BLUR[severity - 1]
    factors = np.arange(1, stop, step)
    height, width = image.shape[:2]
    unit = to_unit(image)
    total = unit
    for factor in factors.tolist():
        (top, rows), (left, columns) = filters.zoom_crop(height, factor), filters.zoom_crop(width, factor)
        total += filters.clipped_zoom(unit[top : top + rows, left : left + columns], factor, height, width)
    return to_uint8(total / (len(factors) + 1))
