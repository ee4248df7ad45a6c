"""Maps add up to what the model says."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.models.config import Dtype, ModelConfig, Pool, Stem
from luab_jax.models.families.vit.network import attention_weights
from luab_jax.models.functional import create_model
from luab_jax.models.maps import localise
from tools.miniatures import random_params

RESNET = ModelConfig(name="resnet18", width=4, stage_sizes=(1, 1), stem=Stem.SMALL, compute_dtype=Dtype.FLOAT32)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(3, 16, 16, 3)), jnp.float32)
CONVNEXT = ModelConfig(name="convnext_t", width=6, stage_sizes=(1, 1), layer_scale=0.5, compute_dtype=Dtype.FLOAT32)
LABELS = jnp.asarray([4, 0, 2], jnp.int32)


def vit(pool: Pool) -> ModelConfig:
    return ModelConfig(name="vit_ti", embed_dim=12, depth=2, patch_size=4, pool=pool, compute_dtype=Dtype.FLOAT32)


def test_the_mean_of_an_activation_map_and_the_bias_are_the_logit() -> None:
    model = create_model(RESNET, num_classes=5, image_size=16, byproduct_shape=(1, 2))

    params, stats = random_params(model)
    params["classifier"]["bias"] = jnp.arange(5.0)

    @jax.jit
    def both(params: dict) -> tuple[jax.Array, jax.Array, jax.Array]:
        maps = localise(model, params, stats, IMAGES, LABELS)
        return maps, model.apply(params, stats, IMAGES, train=False)[0].logits, params["classifier"]["bias"]

    maps, logits, bias = both(params)
    assert maps.shape == (3, 8, 8)
    np.testing.assert_allclose(
        maps.mean(axis=(1, 2)) + bias[LABELS], logits[np.arange(3), LABELS], rtol=1e-4, atol=1e-6
    )


def test_the_mean_of_a_map_through_a_norm_and_a_constant_of_the_class_are_the_logit() -> None:
    """The constant is what the shift of the norm and the bias add: the same for every image."""
    model = create_model(CONVNEXT, num_classes=5, image_size=16, byproduct_shape=None)
    params, stats = random_params(model)
    params["classifier"]["bias"] = jnp.arange(5.0)
    maps, outputs = jax.jit(
        lambda p: (localise(model, p, stats, IMAGES, LABELS), model.apply(p, stats, IMAGES, train=False)[0])
    )(params)
    assert maps.shape == (3, 2, 2)
    shift = params["backbone"]["norm"]["bias"] @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    np.testing.assert_allclose(
        maps.mean(axis=(1, 2)) + shift[LABELS], outputs.logits[np.arange(3), LABELS], rtol=1e-4, atol=1e-5
    )


def test_a_rollout_leaves_registers_out() -> None:
    config = ModelConfig(name="dinov2_s_reg4", embed_dim=12, num_heads=3, depth=2, patch_size=4)
    model = create_model(config, num_classes=5, image_size=16, byproduct_shape=None)
    params, stats = random_params(model)
    params["backbone"]["blocks"] = jax.tree.map(jnp.zeros_like, params["backbone"]["blocks"])
    maps = localise(model, params, stats, IMAGES, LABELS)
    assert maps.shape == (3, 4, 4)
    np.testing.assert_allclose(maps, (1 - 0.25) / 21, rtol=1e-5)  # 16 patches, the token and four registers


@pytest.mark.parametrize("pool", Pool)
def test_a_rollout_is_a_distribution_over_patches_and_the_token(pool: Pool) -> None:
    model = create_model(vit(pool), num_classes=5, image_size=16, byproduct_shape=None)
    params, stats = random_params(model)
    maps = jax.jit(lambda p: localise(model, p, stats, IMAGES, LABELS))(params)
    assert maps.shape == (3, 4, 4)
    total = np.asarray(maps.sum(axis=(1, 2)))
    assert np.all(maps >= 0)
    assert np.all((total > 0.5) & (total < 1 + 1e-6)), "the rest stays on the class token"


def test_a_blind_attention_rolls_out_evenly() -> None:
    """With queries of zero every token looks everywhere alike, so that two blocks leave 1/4 on the token itself."""
    model = create_model(vit(Pool.TOKEN), num_classes=5, image_size=16, byproduct_shape=None)
    params, stats = random_params(model)
    params["backbone"]["blocks"] = jax.tree.map(jnp.zeros_like, params["backbone"]["blocks"])
    maps = localise(model, params, stats, IMAGES, LABELS)
    np.testing.assert_allclose(maps, (1 - 0.25) / 17, rtol=1e-5)


def test_attention_weights_are_those_that_the_block_uses() -> None:
    model = create_model(vit(Pool.TOKEN), num_classes=5, image_size=16, byproduct_shape=None)
    params, stats = random_params(model)
    attention = model.bind("backbone", params, stats).blocks[0].attention
    tokens = jnp.asarray(np.random.default_rng(1).normal(size=(2, 17, 12)), jnp.float32) * 4
    weights = attention_weights(attention, tokens)
    values = attention.qkv(tokens).reshape(2, 17, 3, attention.num_heads, -1)[:, :, 2]
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, values).reshape(2, 17, 12)
    outputs = np.asarray(attention(tokens))
    # Random weights make large scores, whose rounding softmax magnifies.
    np.testing.assert_allclose(attention.out(mixed), outputs, rtol=0.0, atol=1e-4 * np.abs(outputs).max())
    assert float(weights.std()) > 0.01
