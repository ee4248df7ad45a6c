"""Multiply-accumulates are those of the papers, and of small functions by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.models.config import ModelConfig
from luab_jax.models.functional import create_model
from luab_jax.preflight.macs import count_macs

PUBLISHED = {
    "resnet18": 1.82,
    "resnet50": 4.1,
    "vit_ti": 1.26,
    "vit_b": 17.58,
    "convnext_t": 4.47,
    "deit3_s": 4.61,
}
"""GMAC at 224 pixels: torchvision's table of weights for ResNets, timm's (products of attention included) for ViTs."""


def array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.float32)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_numbers(name: str) -> None:
    model = create_model(ModelConfig(name=name), num_classes=1000, image_size=224, byproduct_shape=None)
    found = count_macs(lambda p, s, x: model.apply(p, s, x, train=False), *model.abstract(), array(1, 224, 224, 3))
    assert found / 1e9 == pytest.approx(PUBLISHED[name], rel=0.01)


def test_products_with_batches_and_contractions() -> None:
    assert count_macs(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), array(2, 3, 5), array(2, 5, 7)) == 2 * 3 * 5 * 7


def test_a_grouped_convolution() -> None:
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=2)

    assert count_macs(convolve, array(1, 8, 8, 4), array(3, 3, 2, 6)) == 8 * 8 * 6 * 3 * 3 * 2


def test_what_is_repeated_counts_as_often_and_what_is_wrapped_once() -> None:
    def function(x: jax.Array) -> jax.Array:
        product = jax.checkpoint(jax.jit(lambda y: jnp.tanh(y @ y)))
        return jax.lax.scan(lambda y, _: (product(y), None), x, length=5)[0]

    assert count_macs(function, array(4, 4)) == 5 * 64
