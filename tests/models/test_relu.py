"""ReLU: jax's own everywhere, but that NaN stays NaN in what is compiled for a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.models.choices import Remat
from luab_jax.models.config import Dtype, ModelConfig
from luab_jax.models.families.resnet import network
from luab_jax.models.functional import create_model
from luab_jax.models.layers import relu
from tools.miniatures import random_params

VALUES = jnp.asarray([-np.inf, -1.5, -0.0, 0.0, 1e-30, 2.5, np.inf, np.nan], jnp.float32)


def test_values_and_derivatives_are_jaxs() -> None:
    for wrapped in (lambda f: f, jax.jit):
        np.testing.assert_array_equal(wrapped(relu)(VALUES), jax.nn.relu(VALUES))
        slopes = [wrapped(jax.vmap(jax.grad(f)))(VALUES) for f in (relu, jax.nn.relu)]
        np.testing.assert_array_equal(*slopes)
    assert relu(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


def test_nan_stays_where_a_reduction_is_fused_with_it() -> None:
    """Where jax's own stays NaN too, XLA is mended, and ours is no longer needed."""
    spoilt = jnp.full((2, 8, 8, 64), np.nan)
    of_ours, of_jax = (jax.jit(lambda v, f=f: jnp.mean(f(2 * v + 1), (1, 2)))(spoilt) for f in (relu, jax.nn.relu))
    assert np.isnan(of_ours).all()
    if jax.default_backend() == "cpu":
        assert not np.isnan(of_jax).any()


@pytest.mark.parametrize(("name", "side"), [("resnet18", 64), ("resnet50", 32)])
def test_a_network_of_spoilt_weights_has_no_finite_answer(name: str, side: int) -> None:
    """Its backbone is NaN and its classifier is not. At 2 images, or resnet18 at 32 pixels, XLA fuses otherwise."""
    config = ModelConfig(name=name, width=4, stage_sizes=(1, 1), compute_dtype=Dtype.FLOAT32)
    model = create_model(config, num_classes=3, image_size=side, byproduct_shape=None)
    params, batch_stats = random_params(model)
    params |= {"backbone": jax.tree.map(lambda x: x * np.nan, params["backbone"])}
    outputs, _ = jax.jit(partial(model.apply, train=False))(params, batch_stats, jnp.ones((8, side, side, 3)))
    assert np.isnan(outputs.logits).all()


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_a_training_step_lowered_for_other_devices_has_jaxs(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = _lowered(platform)
    monkeypatch.setattr(network, "relu", jax.nn.relu)
    assert tuned == _lowered(platform)
    if platform == "tpu":
        assert _lowered("cpu") != tuned


def _lowered(platform: str) -> str:
    config = ModelConfig(name="resnet18", width=4, stage_sizes=(1,), remat=Remat.NONE, compute_dtype=Dtype.FLOAT32)
    model = create_model(config, num_classes=3, image_size=16, byproduct_shape=None)

    def loss(params: dict, batch_stats: dict, images: jax.Array) -> tuple[jax.Array, dict]:
        outputs, batch_stats = model.apply(params, batch_stats, images, train=True)
        return jnp.sum(outputs.logits), batch_stats

    arguments = (*model.abstract(), jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32))
    step: Callable[..., Any] = jax.jit(jax.grad(loss, has_aux=True))
    return step.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
