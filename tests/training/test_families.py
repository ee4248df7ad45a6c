"""Networks beside the plain ResNets and ViTs train with byproducts: every parameter of theirs moves."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.targets import Target
from luab_jax.config import ByproductConfig, Config, OptimConfig, Optimizer
from luab_jax.data.batch import Batch
from luab_jax.data.transforms import Preprocessing
from luab_jax.models.config import Dtype, ModelConfig
from luab_jax.models.functional import param_name
from luab_jax.training.program import make_checked_mesh, make_program

SIDE, ROWS = 16, 8
MODELS = {
    "ConvNeXt": ModelConfig(name="convnext_t", width=8, stage_sizes=(1, 1), drop_path=0.1),
    "DeiT III": ModelConfig(name="deit3_s", embed_dim=12, num_heads=3, depth=1, patch_size=8),
    "DINOv2's giant with registers": ModelConfig(
        name="dinov2_g_reg4", embed_dim=12, num_heads=3, depth=1, patch_size=8, layer_scale=0.1
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_two_steps_move_every_parameter_and_report_both_losses(name: str) -> None:
    config = Config(
        model=MODELS[name],
        batch_size=ROWS,
        byproduct=ByproductConfig(target=Target.CLICK_LAST, weight=3.0),
        optim=OptimConfig(name=Optimizer.ADAMW, learning_rate=0.01, warmup_epochs=0.0),
    )
    config.model.compute_dtype = Dtype.FLOAT32
    config.data.preprocessing = Preprocessing(image_size=SIDE, resize_side=SIDE)
    mesh = make_checked_mesh(config, jax.devices()[:1])
    program = make_program(config, mesh, num_classes=3, num_examples=80, target_settings=TargetSettings())
    rng = np.random.default_rng(0)
    batch = Batch(
        images=rng.integers(0, 256, (ROWS, SIDE, SIDE, 3), np.uint8),
        labels=rng.integers(0, 3, ROWS, np.int32),
        targets=rng.random((ROWS, 1, 2), np.float32),
        valid=np.ones((ROWS, 1), bool),
        mask=np.ones(ROWS, bool),
        index=np.arange(ROWS, dtype=np.int32),
    )
    state = program.init(jax.random.key(0))
    before = jax.device_get(state.params)
    for _ in range(2):
        state, metrics = program.train_step(state, batch, jax.random.key(1))
    after = jax.tree.map(lambda a, b: bool(np.all(a == b)), before, jax.device_get(state.params))
    unmoved = {param_name(path) for path, same in jax.tree_util.tree_flatten_with_path(after)[0] if same}
    assert not unmoved
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(metrics))
