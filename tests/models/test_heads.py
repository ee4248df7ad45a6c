"""The byproduct head's options: an MLP, and a pool of its own."""

from __future__ import annotations

from math import erf
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.models.config import ByproductPool, Dtype, Head, ModelConfig, Pool
from luab_jax.models.functional import Model, create_model, num_parameters
from tools.miniatures import random_params

RESNET: dict[str, Any] = {"name": "resnet18", "width": 4, "stage_sizes": (1, 1)}
VIT: dict[str, Any] = {"name": "vit_ti", "embed_dim": 12, "depth": 1, "patch_size": 8}
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)


def build(**fields: Any) -> Model:
    config = ModelConfig(**{"compute_dtype": Dtype.FLOAT32} | fields)
    return create_model(config, num_classes=3, image_size=16, byproduct_shape=(2, 3))


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def test_an_mlp_is_two_layers_with_an_exact_gelu_between() -> None:
    model = build(**RESNET, byproduct_head=Head.MLP, byproduct_hidden=5)
    params, stats = random_params(model)
    outputs, _ = model.apply(params, stats, IMAGES, train=False)
    head = jax.device_get(params["byproduct_head"])
    hidden = gelu(np.asarray(outputs.features) @ head["hidden"]["kernel"] + head["hidden"]["bias"])
    expected = (hidden @ head["linear"]["kernel"] + head["linear"]["bias"]).reshape(2, 2, 3)
    np.testing.assert_allclose(outputs.byproduct, expected, rtol=1e-4, atol=1e-5)


def test_the_hidden_layer_is_as_wide_as_the_features_unless_said() -> None:
    head = build(**VIT, byproduct_head=Head.MLP).abstract()[0]["byproduct_head"]
    assert num_parameters(head) == (12 + 1) * 12 + (12 + 1) * 6
    assert num_parameters(build(**VIT).abstract()[0]["byproduct_head"]) == (12 + 1) * 6


def test_inference_runs_without_the_head_and_answers_as_if_there_had_been_none() -> None:
    plain, mlp = build(**VIT), build(**VIT, byproduct_head=Head.MLP, byproduct_pool=ByproductPool.MEAN)
    params, _ = random_params(mlp)
    bare = {part: tree for part, tree in params.items() if part != "byproduct_head"}
    without, _ = mlp.apply(bare, {}, IMAGES, train=False, head=False)
    reference, _ = plain.apply(bare, {}, IMAGES, train=False, head=False)
    assert without.byproduct is None
    np.testing.assert_array_equal(without.logits, reference.logits)


@pytest.mark.parametrize("pool", Pool)
def test_the_byproduct_head_of_a_vit_reads_the_pool_it_is_given(pool: Pool) -> None:
    """As if the classifier's pool were that one; the classifier keeps its own."""
    own = build(**VIT, pool=pool)
    other = next(p for p in Pool if p is not pool)
    mixed = build(**VIT, pool=pool, byproduct_pool=ByproductPool(other.value))
    params, _ = random_params(own)
    reads = {model: model.apply(params, {}, IMAGES, train=False)[0] for model in (own, mixed, build(**VIT, pool=other))}
    ours, mixture, others = reads.values()
    np.testing.assert_array_equal(mixture.logits, ours.logits)
    np.testing.assert_allclose(mixture.byproduct, others.byproduct, rtol=1e-5, atol=1e-6)
    assert not np.allclose(mixture.byproduct, ours.byproduct)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({**RESNET, "byproduct_pool": ByproductPool.MEAN}, "model.byproduct_pool=mean belongs to a ViT"),
        ({**RESNET, "byproduct_hidden": 8}, "model.byproduct_hidden=8 belongs to model.byproduct_head=mlp"),
        ({**RESNET, "byproduct_head": Head.MLP, "byproduct_hidden": 0}, "model.byproduct_hidden=0 is not positive"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ModelConfig(**fields).validate()
