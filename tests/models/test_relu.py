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


@pytest.fixture(scope="module", params=["resnet18", "resnet50"])
def spoilt(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    """A ResNet whose backbone is NaN and whose classifier is not."""
    config = ModelConfig(name=request.param, width=4, stage_sizes=(1, 1), compute_dtype=Dtype.FLOAT32)
    model = create_model(config, num_classes=3, image_size=32, byproduct_shape=None)
    params, batch_stats = random_params(model)
    return model, params | {"backbone": jax.tree.map(lambda x: x * np.nan, params["backbone"])}, batch_stats


def test_a_network_of_spoilt_weights_has_no_finite_answer(spoilt: tuple[Any, Any, Any]) -> None:
    model, params, batch_stats = spoilt
    outputs = jax.jit(partial(model.apply, train=False))(params, batch_stats, jnp.ones((2, 32, 32, 3)))
    assert np.isnan(jax.tree.leaves(outputs)[0]).all()


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
