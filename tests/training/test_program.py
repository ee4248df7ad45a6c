"""How the functions of a run are compiled."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from luab_jax.config import MeshConfig
from luab_jax.distributed.sharding import make_mesh
from luab_jax.models.config import Dtype, ModelConfig, Stem
from luab_jax.models.functional import create_model
from luab_jax.training.program import compiled_to_run_once
from tests.xla_flags import HAS_OLDER_EMITTERS

_USERS: dict[str, Any] = {"xla_cpu_use_fusion_emitters": True} if HAS_OLDER_EMITTERS else {}
"""What a user's compiler does and that of the tests does not."""
MODELS = {
    "resnet": ModelConfig(name="resnet18", width=4, stage_sizes=(1,), stem=Stem.PATCH, compute_dtype=Dtype.FLOAT32),
    "vit": ModelConfig(name="vit_ti", embed_dim=8, depth=1, num_heads=1, patch_size=8),
}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_drawn_to_the_bits_of_the_full_optimisation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
    options = compiled_to_run_once(make_mesh(MeshConfig(data=1), jax.devices()[:1]))
    assert options == {"xla_backend_optimization_level": 1}
    model = create_model(MODELS[name], num_classes=3, image_size=16, byproduct_shape=(1, 2))
    key = jax.random.key(0)
    lowered = jax.jit(model.init).lower(key)
    quick, thorough = (
        jax.tree.leaves(lowered.compile(compiler_options=level | _USERS)(key))
        for level in (options, {"xla_backend_optimization_level": 3})
    )
    assert len(quick) > 10
    for one, other in zip(quick, thorough, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_users_flag_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    assert compiled_to_run_once(make_mesh(MeshConfig(data=1), jax.devices()[:1])) is None
