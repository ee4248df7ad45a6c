"""A CPU's ways to convolve give XLA's numbers; what is lowered for other devices is XLA's convolution to the letter."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from luab_jax.models import layers
from luab_jax.models.config import Dtype, ModelConfig, Remat, Stem
from luab_jax.models.convolution import convolve
from luab_jax.models.functional import create_model

_XLA = partial(lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))
_SHAPES = {
    "1x1": ((2, 5, 6, 3), (1, 1, 3, 4), (1, 1), ((0, 0), (0, 0))),
    "1x1, strided": ((2, 5, 6, 3), (1, 1, 3, 4), (2, 2), ((0, 0), (0, 0))),
    "patches": ((2, 8, 12, 3), (4, 4, 3, 5), (4, 4), "VALID"),
    "patches with a rest": ((2, 9, 13, 3), (4, 4, 3, 5), (4, 4), "VALID"),
    "kernel larger than the image": ((3, 2, 2, 4), (3, 3, 4, 5), (1, 1), ((1, 1), (1, 1))),
    "few windows, strided": ((3, 4, 5, 4), (3, 3, 4, 5), (2, 2), ((1, 1), (1, 1))),
    "XLA's": ((2, 6, 6, 3), (3, 3, 3, 4), (1, 1), ((1, 1), (1, 1))),
    "by rows": ((2, 11, 10, 3), (3, 3, 3, 4), (1, 1), ((1, 1), (1, 1))),
    "by rows, strided, padded unevenly": ((2, 26, 21, 3), (5, 3, 3, 4), (2, 2), ((0, 2), (1, 1))),
    "the stem": ((2, 22, 22, 3), (7, 7, 3, 4), (2, 2), ((3, 3), (3, 3))),
}


def _drawn(shape: str, dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array, Any, Any]:
    images, kernel, strides, padding = _SHAPES[shape]
    rng = np.random.default_rng(0)
    draw = lambda sides: jnp.asarray(rng.standard_normal(sides), dtype)  # noqa: E731
    return draw(images), draw(kernel), strides, padding


def _all_three(convolution: Any, images: jax.Array, kernel: jax.Array, strides: Any, padding: Any) -> Any:
    """Output, gradient of the images, gradient of the kernel."""

    def total(images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = convolution(images, kernel, strides, padding)
        return jnp.sum(jnp.sin(outputs.astype(jnp.float32))), outputs

    gradients, outputs = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(images, kernel)
    return outputs, *gradients


def _nhwc(images: jax.Array, kernel: jax.Array, strides: Any, padding: Any) -> jax.Array:
    return convolve(images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("shape", _SHAPES)
def test_output_and_gradients_are_xlas_up_to_rounding(shape: str) -> None:
    for found, expected in zip(_all_three(_nhwc, *_drawn(shape)), _all_three(_XLA, *_drawn(shape)), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("shape", ["1x1", "by rows"])
def test_in_bfloat16_they_are_as_near_to_float32_as_xlas(shape: str) -> None:
    """Each is rounded to 8 bits once: half a unit in the last place, and what sums of rounded inputs add to it."""
    exact = _all_three(_XLA, *(a.astype(jnp.float32) for a in _drawn(shape, jnp.bfloat16)[:2]), *_SHAPES[shape][2:])
    for found, expected in zip(_all_three(_nhwc, *_drawn(shape, jnp.bfloat16)), exact, strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=2**-6 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_what_is_lowered_for_other_devices_is_xlas_to_the_letter(shape: str, platform: str) -> None:
    images, kernel, strides, padding = _drawn(shape)

    def lowered(convolution: Any) -> str:
        function = jax.jit(partial(_all_three, convolution, strides=strides, padding=padding))
        return function.trace(images, kernel).lower(lowering_platforms=(platform,)).as_text()

    assert lowered(_nhwc) == lowered(_XLA)


def _training_step(remat: Remat, platform: str) -> str:
    """Of a ResNet of bottlenecks, with convolutions of every kind, as it is lowered."""
    config = ModelConfig(name="resnet50", width=8, stage_sizes=(1, 1), stem=Stem.IMAGENET, remat=remat)
    config.compute_dtype = Dtype.FLOAT32
    model = create_model(config, num_classes=3, image_size=44, byproduct_shape=(1, 2))

    def loss(params: dict, batch_stats: dict, images: jax.Array) -> tuple[jax.Array, dict]:
        outputs, batch_stats = model.apply(params, batch_stats, images, train=True)
        return jnp.sum(outputs.logits), batch_stats

    arguments = (*model.abstract(), jax.ShapeDtypeStruct((2, 44, 44, 3), jnp.float32))
    step = jax.jit(jax.grad(loss, has_aux=True)).trace(*arguments)
    return step.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("remat", [Remat.NONE, Remat.DOTS])
def test_a_training_step_lowered_for_a_tpu_on_a_cpu_is_what_it_would_be_without(
    remat: Remat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As preflight does. The same step lowered for CPUs differs where nothing is computed twice."""
    tpus, cpus = _training_step(remat, "tpu"), _training_step(remat, "cpu")
    monkeypatch.setattr(layers, "convolve", lax.conv_general_dilated)
    assert tpus == _training_step(remat, "tpu")
    assert (cpus == _training_step(remat, "cpu")) is (remat is not Remat.NONE)


def test_many_images_of_one_kernel_and_many_kernels_can_be_mapped_over() -> None:
    images, kernel, strides, padding = _drawn("by rows")
    for axes in [(None, 0), (0, 0)]:
        kernels = kernel if axes[0] is None else jnp.stack([kernel, -kernel])

        def gradients(way: Any, axes: Any = axes, kernels: jax.Array = kernels) -> jax.Array:
            gradient = jax.grad(lambda k, x: jnp.sum(jnp.sin(way(x, k, strides, padding))))
            return jax.vmap(gradient, axes)(kernels, jnp.stack([images, 2 * images]))

        expected = gradients(_XLA)
        np.testing.assert_allclose(gradients(_nhwc), expected, rtol=1e-5, atol=1e-5 * float(jnp.abs(expected).max()))


def test_what_it_does_not_know_is_xlas() -> None:
    images, kernel, _, _ = _drawn("by rows")
    same = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    for options in ({"rhs_dilation": (2, 2)}, {"precision": "highest"}):
        found = convolve(images, kernel, (1, 1), "VALID", **options, **same)
        np.testing.assert_array_equal(found, _XLA(images, kernel, (1, 1), "VALID", **options))
    np.testing.assert_array_equal(
        convolve(images, kernel, (1, 1), "SAME", **same), _XLA(images, kernel, (1, 1), "SAME")
    )
