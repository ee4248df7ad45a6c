"""How the functions of a run are compiled."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from luab_jax.config import MeshConfig
from luab_jax.distributed.sharding import make_mesh
from luab_jax.models.config import Dtype, ModelConfig, Stem
from luab_jax.models.functional import create_model
from luab_jax.training.program import compiled_to_run_once


def test_parameters_are_drawn_to_the_bits_of_the_full_optimisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
    options = compiled_to_run_once(make_mesh(MeshConfig(data=1), jax.devices()[:1]))
    assert options == {"xla_backend_optimization_level": 1}
    config = ModelConfig(name="resnet18", width=4, stage_sizes=(1, 1), stem=Stem.PATCH, compute_dtype=Dtype.FLOAT32)
    model = create_model(config, num_classes=3, image_size=16, byproduct_shape=(1, 2))
    key = jax.random.key(0)
    lowered = jax.jit(model.init).lower(key)
    quick, thorough = (
        jax.tree.leaves(lowered.compile(compiler_options=level)(key))
        for level in (options, {"xla_backend_optimization_level": 3})
    )
    assert len(quick) > 10
    for one, other in zip(quick, thorough, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_users_flag_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    assert compiled_to_run_once(make_mesh(MeshConfig(data=1), jax.devices()[:1])) is None
