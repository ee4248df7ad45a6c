"""Convolutions that a CPU computes by the fastest of a few ways; every other device gets XLA's own.

XLA's convolutions are slow on a CPU in a few shapes only: where few windows fit, and in the gradient of the kernel,
which it takes as a convolution whose window is the whole output. There, products of matrices take their place;
`python -m benchmarks.convolutions` prints the times behind the limits below.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from luab_jax.models.platform import by_platform

_FEW = 9
"""Up to so many windows of an image (3 x 3), one product over gathered windows is faster in either direction."""
_MANY = 100
"""From so many on (10 x 10), the kernel's gradient is faster as a sum over rows of windows. Between, XLA's is."""

_NHWC = ("NHWC", "HWIO", "NHWC")
_Sides = tuple[int, int]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _Problem:
    """Shapes of images [B, H, W, C] and kernel [I, J, C, D], steps and padding."""

    images: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: _Sides
    padding: tuple[_Sides, _Sides]

    @property
    def windows(self) -> _Sides:
        """Height and width of the output."""
        y, x = (
            (side + sum(pads) - length) // step + 1
            for side, pads, length, step in zip(
                self.images[1:3], self.padding, self.kernel[:2], self.strides, strict=True
            )
        )
        return y, x

    @property
    def is_one_product(self) -> bool:
        """Whether no pixel is in two windows, so that to gather them repeats nothing, or there are few windows."""
        y, x = self.windows
        return y * x <= _FEW or all(length <= step for length, step in zip(self.kernel[:2], self.strides, strict=True))

    @property
    def is_a_cpus(self) -> bool:
        """Whether a CPU has a faster way than XLA's for any of the three."""
        y, x = self.windows
        return y > 0 and x > 0 and (self.is_one_product or y * x >= _MANY)


def convolve(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "i j k d"],
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> Float[Array, "b y x d"]:
    """`jax.lax.conv_general_dilated`, for `nnx.Conv(conv_general_dilated=convolve)`; equal to it up to rounding.

    Only plain convolutions of NHWC images differ: neither dilated nor in groups, with explicit padding or 'VALID'.
    """
    plain = images.ndim == 4 and (padding == "VALID" or not isinstance(padding, str))
    plain &= all(step == 1 for name in ("lhs_dilation", "rhs_dilation") for step in options.get(name) or ())
    plain &= options.get("feature_group_count", 1) == 1
    plain &= all(options.get(name) is None for name in ("precision", "preferred_element_type", "out_sharding"))
    if plain:
        pairs = ((0, 0), (0, 0)) if isinstance(padding, str) else tuple(tuple(pair) for pair in padding)
        problem = _Problem(images.shape, kernel.shape, tuple(strides), pairs)  # pyright: ignore[reportArgumentType]
        if problem.is_a_cpus:
            return _convolve(images, kernel, problem)
    return jax.lax.conv_general_dilated(images, kernel, strides, padding, **options)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(images: Array, kernel: Array, problem: _Problem) -> Array:
    if not problem.is_one_product:
        return _by_xla(images, kernel, problem)
    return _chosen(_by_product, _by_xla, problem, images, kernel)


def _forward(images: Any, kernel: Any, problem: _Problem) -> tuple[Array, Any]:
    """`perturbed`: whether a gradient is wanted; that of the images that enter a network isn't."""
    wanted = ("images",) if images.perturbed else ()
    return _convolve(images.value, kernel.value, problem), (images.value, kernel.value, dict.fromkeys(wanted, ()))


def _backward(problem: _Problem, kept: Any, gradient: Any) -> tuple[Array | None, Array]:
    images, kernel, wanted = kept
    is_product = problem.is_one_product
    here = _of_kernel_by_product if is_product else _of_kernel_by_rows
    d_kernel = _chosen(here, _of_kernel_by_xla, problem, images, gradient)
    if "images" not in wanted:
        return None, d_kernel
    here = _of_images_by_product if is_product else _of_images_by_xla
    return _chosen(here, _of_images_by_xla, problem, kernel, gradient), d_kernel


_convolve.defvjp(_forward, _backward, symbolic_zeros=True)

_Way = Callable[..., Array]
"""Of two arrays (images, kernel, gradient) and a `_Problem`."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _Bound:
    way: _Way
    problem: _Problem

    def __call__(self, *arrays: Array) -> Array:
        return self.way(*arrays, self.problem)


def _chosen(here: _Way, elsewhere: _Way, problem: _Problem, *arrays: Array) -> Array:
    if here is elsewhere:
        return here(*arrays, problem)
    return by_platform(*arrays, cpu=_Bound(here, problem), elsewhere=_Bound(elsewhere, problem))


def _by_xla(images: Array, kernel: Array, problem: _Problem) -> Array:
    return jax.lax.conv_general_dilated(images, kernel, problem.strides, problem.padding, dimension_numbers=_NHWC)


def _of_images_by_xla(kernel: Array, gradient: Array, problem: _Problem) -> Array:
    images = jax.ShapeDtypeStruct(problem.images, kernel.dtype)
    return jax.linear_transpose(lambda x: _by_xla(x, kernel, problem), images)(gradient)[0]


def _of_kernel_by_xla(images: Array, gradient: Array, problem: _Problem) -> Array:
    kernel = jax.ShapeDtypeStruct(problem.kernel, images.dtype)
    return jax.linear_transpose(lambda k: _by_xla(images, k, problem), kernel)(gradient)[0]


def _by_product(images: Array, kernel: Array, problem: _Problem) -> Array:
    y, x = problem.windows
    rows = _gathered(_padded(images, problem), (y, x), problem)
    return (rows @ kernel.reshape(-1, kernel.shape[-1])).reshape(len(images), y, x, -1)


def _of_images_by_product(kernel: Array, gradient: Array, problem: _Problem) -> Array:
    images = jax.ShapeDtypeStruct(problem.images, kernel.dtype)
    return jax.linear_transpose(lambda x: _by_product(x, kernel, problem), images)(gradient)[0]


def _of_kernel_by_product(images: Array, gradient: Array, problem: _Problem) -> Array:
    rows = _gathered(_padded(images, problem), problem.windows, problem)
    return _sum_of_products(rows, gradient).astype(images.dtype).reshape(problem.kernel)


def _of_kernel_by_rows(images: Array, gradient: Array, problem: _Problem) -> Array:
    """One row of windows at a time: all of them at once would take as many times the images' memory as windows overlap.

    Sums in float32 at least.
    """
    y, x = problem.windows
    padded, step = _padded(images, problem), problem.strides[0]

    def add(total: Array, row: Array) -> tuple[Array, None]:
        strip = jax.lax.dynamic_slice_in_dim(padded, row * step, problem.kernel[0], axis=1)
        outputs = jax.lax.dynamic_slice_in_dim(gradient, row, 1, axis=1)
        return total + _sum_of_products(_gathered(strip, (1, x), problem), outputs), None

    rows, channels = problem.kernel[0] * problem.kernel[1] * problem.kernel[2], problem.kernel[3]
    total, _ = jax.lax.scan(add, jnp.zeros((rows, channels), _summed(images)), jnp.arange(y))
    return total.astype(images.dtype).reshape(problem.kernel)


def _sum_of_products(rows: Float[Array, "n k"], outputs: Float[Array, "*n d"]) -> Float[Array, "k d"]:
    outputs = outputs.reshape(len(rows), -1)
    return jax.lax.dot_general(rows, outputs, (((0,), (0,)), ((), ())), preferred_element_type=_summed(rows))


def _summed(array: Array) -> jnp.dtype:
    return jnp.promote_types(array.dtype, jnp.float32)


def _padded(images: Array, problem: _Problem) -> Array:
    if problem.padding == ((0, 0), (0, 0)):
        return images
    return jnp.pad(images, ((0, 0), *problem.padding, (0, 0)))


def _gathered(padded: Float[Array, "b h w c"], windows: _Sides, problem: _Problem) -> Float[Array, "n k"]:
    """The pixels of every window in a row of its own, by row, column and channel of the kernel."""
    b, h, w, c = padded.shape
    height, width = problem.kernel[:2]
    (y, x), (down, right) = windows, problem.strides
    if problem.kernel[:2] == problem.strides and (h, w) == (y * height, x * width):
        tiles = padded.reshape(b, y, height, x, width, c).transpose(0, 1, 3, 2, 4, 5)
        return tiles.reshape(b * y * x, -1)
    pixels = [
        jax.lax.slice(
            padded, (0, i, j, 0), (b, i + down * (y - 1) + 1, j + right * (x - 1) + 1, c), (1, down, right, 1)
        )
        for i in range(height)
        for j in range(width)
    ]
    return jnp.concatenate(pixels, axis=-1).reshape(b * y * x, -1)
