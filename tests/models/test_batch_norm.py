"""BatchNorm over the whole batch, or over each device's own images."""

from __future__ import annotations

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.config import MeshConfig
from luab_jax.distributed import sharding
from luab_jax.models.config import BatchNorm, Dtype, ModelConfig, Stem
from luab_jax.models.functional import Model, create_model

REPLICAS = 4


def model_of(kind: BatchNorm, num_replicas: int = REPLICAS, *, unbiased: bool = False) -> Model:
    config = ModelConfig(
        name="resnet18",
        width=4,
        stage_sizes=(1,),
        stem=Stem.PATCH,
        compute_dtype=Dtype.FLOAT32,
        zero_init_residual=False,
        batch_norm=kind,
        batch_norm_unbiased=unbiased,
    )
    return create_model(config, num_classes=3, image_size=16, byproduct_shape=None, num_replicas=num_replicas)


@pytest.fixture(scope="module")
def weights() -> tuple[Any, Any]:
    return jax.jit(model_of(BatchNorm.GLOBAL).init)(jax.random.key(0))


IMAGES = np.random.default_rng(0).normal(size=(2 * REPLICAS, 16, 16, 3)).astype(np.float32)


def test_each_replica_is_normalised_as_if_alone(weights: tuple[Any, Any]) -> None:
    """Running statistics become the mean over replicas."""
    alone = jax.jit(lambda images: model_of(BatchNorm.GLOBAL).apply(*weights, images, train=True))
    parts = [alone(IMAGES[i : i + 2]) for i in range(0, len(IMAGES), 2)]
    outputs, stats = jax.jit(lambda x: model_of(BatchNorm.PER_REPLICA).apply(*weights, x, train=True))(IMAGES)
    np.testing.assert_allclose(outputs.logits, np.concatenate([part.logits for part, _ in parts]), rtol=1e-5, atol=1e-6)
    means = jax.tree.map(lambda *values: np.mean(values, axis=0), *[stats for _, stats in parts])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), stats, means)


@pytest.mark.parametrize("images", [2, 4])
def test_groups_are_of_as_many_images_on_any_number_of_devices(images: int, weights: tuple[Any, Any]) -> None:
    """As torch's on as many GPUs; without a trace of the devices in logits and statistics."""
    model = model_of(BatchNorm.GROUPS, num_replicas=len(IMAGES) // images)
    alone = jax.jit(lambda part: model_of(BatchNorm.GLOBAL).apply(*weights, part, train=True)[0].logits)
    expected = np.concatenate([alone(IMAGES[i : i + images]) for i in range(0, len(IMAGES), images)])
    for devices in (1, 8):
        mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:devices])
        rows = jax.device_put(IMAGES, sharding.batch_sharding(mesh))
        outputs, _ = jax.jit(lambda x: model.apply(*weights, x, train=True))(rows)
        np.testing.assert_allclose(outputs.logits, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [BatchNorm.GLOBAL, BatchNorm.GROUPS])
def test_the_running_variance_is_torchs_unbiased_one_where_asked_for(kind: BatchNorm, weights: tuple[Any, Any]) -> None:
    """torch.nn.BatchNorm2d: running = 0.9 running + 0.1 var(x, ddof=1); the outputs divide by n."""
    plain, unbiased = (
        jax.jit(functools.partial(model_of(kind, unbiased=unbiased).apply, train=True))(*weights, IMAGES)
        for unbiased in (False, True)
    )
    np.testing.assert_array_equal(plain[0].logits, unbiased[0].logits)
    count = IMAGES.shape[0] // (REPLICAS if kind is BatchNorm.GROUPS else 1) * 4 * 4  # the stem's outputs are 4 x 4
    before = weights[1]["backbone"]["stem"]["norm"]["var"]
    one, other = (stats["backbone"]["stem"]["norm"]["var"] for _, stats in (plain, unbiased))
    batch = (one - 0.9 * before) / 0.1
    np.testing.assert_allclose(other, 0.9 * before + 0.1 * batch * count / (count - 1), rtol=1e-5)
    assert np.abs(np.asarray(other) - np.asarray(one)).min() > 0


@pytest.mark.parametrize("kind", [BatchNorm.GLOBAL, BatchNorm.PER_REPLICA])
def test_per_replica_no_statistic_travels_during_the_forward_pass(kind: BatchNorm, weights: tuple[Any, Any]) -> None:
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:REPLICAS])
    whole = sharding.replicated(mesh)
    forward = jax.jit(
        lambda params, stats, images: model_of(kind).apply(params, stats, images, train=True)[0].logits,
        in_shardings=(whole, whole, sharding.batch_sharding(mesh)),
        out_shardings=sharding.batch_sharding(mesh),
    )
    collectives = re.findall(
        r"(?:all-reduce|all-gather|all-to-all)\(", forward.lower(*weights, IMAGES).compile().as_text()
    )
    assert bool(collectives) == (kind is BatchNorm.GLOBAL)


def test_evaluation_knows_no_replicas(weights: tuple[Any, Any]) -> None:
    """One image at a time, by the running statistics."""
    outputs, stats = model_of(BatchNorm.PER_REPLICA).apply(*weights, jnp.asarray(IMAGES[:1]), train=False)
    assert np.isfinite(outputs.logits).all()
    jax.tree.map(np.testing.assert_array_equal, stats, weights[1])
