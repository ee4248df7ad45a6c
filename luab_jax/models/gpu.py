"""What is done otherwise for an NVIDIA GPU: the same numbers up to rounding, in programs that suit it better.

Each part stands for a loss that profiles of ViT-B's and ResNet-50's training steps on an H100 showed
(benchmarks/README.md). TPUs and CPUs keep the programs that were chosen for them.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator
from contextvars import ContextVar

import jax
import jax.extend
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

_PRODUCTS = "xla_gpu_enable_triton_gemm"
_is_target: ContextVar[bool] = ContextVar("is_target", default=False)


@contextlib.contextmanager
def as_target() -> Iterator[None]:
    """Within it, programs are made for NVIDIA GPUs, whatever jax runs on: preflight compiles for absent ones."""
    token = _is_target.set(True)
    try:
        yield
    finally:
        _is_target.reset(token)


def has_cuda() -> bool:
    """Whether programs are made for NVIDIA GPUs: jax runs on them, or they are the target."""
    return _is_target.get() or "cuda" in jax.extend.backend.get_backend().platform_version


def is_tuned_for() -> bool:
    """Whether to take the variants tuned for NVIDIA GPUs; the GPU kit switches them off to time what they give."""
    return has_cuda()


def compiler_options() -> dict[str, bool | int | float | str] | None:
    """For a transformer's training step: products by cuBLAS from the start, so that biases and sums join them.

    XLA else forms its own product kernels, measures them against cuBLAS, and takes cuBLAS without what could have been
    computed with it: every bias is then a pass over its activations of its own, and so is the sum of the gradients of
    query, key and value. NVIDIA's images of jax set the same (JAX-Toolbox). The user's own XLA_FLAGS win.
    """
    if not is_tuned_for() or _PRODUCTS in os.environ.get("XLA_FLAGS", ""):
        return None
    return {_PRODUCTS: False}


def project_patches(conv: nnx.Conv, images: Float[Array, "b h w 3"]) -> Float[Array, "b i j c"]:
    """A convolution whose stride is its side, as one product; cuDNN's takes eight times as long for 3 channels."""
    assert isinstance(conv.kernel_size, tuple) and conv.bias is not None
    side = conv.kernel_size[0]
    b, h, w, c = images.shape
    rows = images.astype(conv.dtype).reshape(b, h // side, side, w // side, side, c)
    rows = rows.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // side, w // side, side * side * c)
    kernel = conv.kernel[...].astype(rows.dtype).reshape(side * side * c, -1)
    return rows @ kernel + conv.bias[...].astype(rows.dtype)


def convolve_by_twos(conv: nnx.Conv, images: Float[Array, "b h w 3"]) -> Float[Array, "b i j c"]:
    """The ResNet's 7x7 convolution with stride 2 and padding 3, as one of 4x4 without stride over 2x2 pixels each.

    16 channels (12, and 4 of zeros) in place of 3, which cuDNN would pad to 8. A side must be even.
    """
    b, h, w, c = images.shape
    blocks = images.astype(conv.dtype).reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    blocks = jnp.pad(blocks.reshape(b, h // 2, w // 2, 4 * c), ((0, 0), (0, 0), (0, 0), (0, 16 - 4 * c)))
    # Pixel 2 i + k - 3 of the kernel's place k is 2 (i + a - 2) + r, where k + 1 = 2 a + r.
    kernel = jnp.pad(conv.kernel[...].astype(blocks.dtype), ((1, 0), (1, 0), (0, 0), (0, 0)))
    kernel = kernel.reshape(4, 2, 4, 2, c, -1).transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, 4 * c, -1)
    kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 16 - 4 * c), (0, 0)))
    return jax.lax.conv_general_dilated(
        blocks, kernel, (1, 1), ((2, 1), (2, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    """Of 3x3 with stride 2 and padding 1, with gradients that go to the first of the largest, without atomic sums.

    XLA keeps three 32-bit indices for each output, and adds the gradients one by one to an array of zeros.
    """
    return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])  # pyright: ignore[reportArgumentType]


_Place = tuple[UInt8[Array, "b i j c"], tuple[int, int]]


def _largest_and_place(x: Float[Array, "b h w c"]) -> tuple[Float[Array, "b i j c"], _Place]:
    b, h, w, c = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    largest = place = None
    for row, column in itertools.product(range(3), repeat=2):
        last = (b, row + 2 * ((h - 1) // 2) + 1, column + 2 * ((w - 1) // 2) + 1, c)
        candidate = jax.lax.slice(padded, (0, row, column, 0), last, (1, 2, 2, 1))
        if largest is None or place is None:
            largest, place = candidate, jnp.zeros(candidate.shape, jnp.uint8)
            continue
        place = jnp.where(candidate > largest, jnp.uint8(3 * row + column), place)
        largest = jnp.maximum(largest, candidate)
    assert largest is not None and place is not None
    return largest, (place, (h, w))


def _to_the_largest(kept: _Place, gradient: Float[Array, "b i j c"]) -> tuple[Float[Array, "b h w c"]]:
    """Pixel 2 i is in the middle of window i alone; pixel 2 i + 1 is the last of window i and the first of i + 1."""
    place, (h, w) = kept
    b, i, j, c = gradient.shape

    def of(row: int, column: int, axes: tuple[int, ...] = ()) -> Float[Array, "b i j c"]:
        """What goes to this place of each window, or of the next one along the axes."""
        chosen = jnp.where(place == 3 * row + column, gradient, 0).astype(jnp.float32)
        padding = [(0, int(axis in axes)) for axis in range(4)]
        return jnp.pad(chosen, padding)[:, int(1 in axes) :, int(2 in axes) :]

    even = jnp.stack([of(1, 1), of(1, 2) + of(1, 0, (2,))], axis=3)
    corner = of(2, 2) + of(2, 0, (2,)) + of(0, 2, (1,)) + of(0, 0, (1, 2))
    odd = jnp.stack([of(2, 1) + of(0, 1, (1,)), corner], axis=3)
    whole = jnp.stack([even, odd], axis=2).reshape(b, 2 * i, 2 * j, c)
    return (whole[:, :h, :w].astype(gradient.dtype),)


max_pool.defvjp(_largest_and_place, _to_the_largest)
