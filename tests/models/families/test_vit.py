"""ViT: counts, shapes, pooling, initial values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from luab_jax.models.config import Dtype, ModelConfig, Pool
from luab_jax.models.families.vit.family import ViTPreset
from luab_jax.models.families.vit.network import Block
from luab_jax.models.functional import create_model, num_parameters


def build(*, num_classes=1000, image_size=224, **fields):
    return create_model(ModelConfig(**fields), num_classes=num_classes, image_size=image_size, byproduct_shape=None)


@pytest.mark.parametrize(
    ("name", "count"),
    [("vit_ti", 5_717_416), ("vit_s", 22_050_664), ("vit_b", 86_567_656)],
)
def test_parameter_count_equals_the_published_one(name, count):
    params, batch_stats = build(name=name).abstract()
    assert num_parameters(params) == count
    assert batch_stats == {}


def test_tokens_are_the_class_token_and_one_per_patch():
    params, _ = build(name="vit_ti", image_size=96, patch_size=16).abstract()
    assert params["backbone"]["position_embed"].shape == (1, 1 + 6 * 6, 192)


def test_image_side_must_be_a_multiple_of_the_patch():
    with pytest.raises(ValueError, match=r"image_size=100 .*patch_size=16.* 96 or 112"):
        build(name="vit_ti", image_size=100)


def test_pooling_reads_the_class_token_or_the_mean_of_the_patches():
    """Where all branches end in zeros, the pooled tokens are the embeddings themselves."""
    common = {"name": "vit_ti", "embed_dim": 6, "depth": 1, "patch_size": 8}
    common |= {"compute_dtype": Dtype.FLOAT32, "num_classes": 2, "image_size": 16}
    token, mean = build(**common), build(**common, pool=Pool.MEAN)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), token.abstract()[0])
    backbone = params["backbone"]
    for branch in (
        backbone["blocks"]["0"]["attention"]["out"],
        backbone["blocks"]["0"]["mlp"]["fc2"],
    ):
        branch |= jax.tree.map(jnp.zeros_like, branch)
    images = jnp.asarray(rng.normal(size=(2, 16, 16, 3)), jnp.float32)
    embedded = np.asarray(token.bind("backbone", params).embed(images))
    assert embedded.shape == (2, 5, 6)

    def normalised(x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * np.asarray(backbone["norm"]["scale"]) + np.asarray(backbone["norm"]["bias"])

    for model, pooled in ((token, embedded[:, 0]), (mean, embedded[:, 1:].mean(1))):
        outputs, _ = model.apply(params, {}, images, train=False)
        np.testing.assert_allclose(outputs.features, normalised(pooled), rtol=1e-4, atol=1e-5)


def test_weights_start_with_deviation_0_02_and_biases_at_zero():
    preset = ViTPreset(embed_dim=64, depth=1, num_heads=2)
    block = Block(
        preset.embed_dim,
        preset.num_heads,
        dropout=0.0,
        path_rate=0.0,
        dtype=jnp.dtype("float32"),
        rngs=nnx.Rngs(0),
    )
    kernel = np.asarray(block.attention.qkv.kernel[...])
    assert abs(kernel.std() / 0.02 - 1) < 0.03
    assert not np.any(block.attention.qkv.bias[...])
