"""What every family has to be, and how many parameters its networks have.

Counts are those of timm 1.0.31 (`python -m benchmarks.parity`), with 1,000 classes.
"""

from __future__ import annotations

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.models import families
from luab_jax.models.config import PRESETS, ByproductPool, Head, HeadSpec, ModelConfig, family_of, filled_preset
from luab_jax.models.families import FAMILIES
from luab_jax.models.functional import create_model, num_parameters
from luab_jax.models.timm_weights import from_timm, timm_shapes, to_timm
from tools.miniatures import random_params

COUNTS = {
    "resnet50": 25_557_032,
    "vit_s": 22_050_664,
    "convnext_t": 28_589_128,
    "convnext_b": 88_591_464,
    "deit3_s": 22_059_496,
    "dinov2_s_reg4": 22_442_344,
}
TINY = {
    "resnet": ModelConfig(name="resnet18", width=4, stage_sizes=(1, 1)),
    "vit": ModelConfig(name="vit_ti", embed_dim=12, depth=2, patch_size=8),
    "deit3": ModelConfig(name="deit3_s", embed_dim=12, num_heads=3, depth=2, patch_size=8),
    "dinov2": ModelConfig(name="dinov2_g_reg4", embed_dim=12, num_heads=3, depth=2, patch_size=8),
    "convnext": ModelConfig(name="convnext_t", width=6, stage_sizes=(1, 1)),
}
IMAGES = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)


@pytest.mark.parametrize("name", COUNTS)
def test_a_preset_has_as_many_parameters_as_timms(name: str) -> None:
    side = 518 if name.startswith("dinov2") else 224
    model = create_model(ModelConfig(name=name), num_classes=1000, image_size=side, byproduct_shape=None)
    assert num_parameters(model.abstract()[0]) == COUNTS[name]


def test_every_preset_belongs_to_one_family_and_says_what_is_asked_of_it() -> None:
    assert len(PRESETS) == sum(len(family.presets) for family in FAMILIES.values())
    for name, preset in PRESETS.items():
        config = ModelConfig(name=name)
        config.validate()
        assert filled_preset(config) == preset and preset.num_blocks > 0 and preset.num_features > 0
        family = family_of(config)
        assert any(ours == name for ours, _ in family.timm_architectures.values())
        assert set(family.fields) <= set(ModelConfig.__dataclass_fields__) and ByproductPool.CLASSIFIER in family.pools


def test_a_family_is_a_folder_and_nothing_outside_of_it_asks_for_its_name() -> None:
    """A string with a family's name elsewhere is where a new one would have to be added."""
    package = Path(families.__file__).parents[2]
    found = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        if Path(families.__file__).parent not in path.parents
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant) and side.value in FAMILIES
    ]
    assert not found
    for name in FAMILIES:
        assert {path.name for path in (Path(families.__file__).parent / name).glob("*.py")} == {
            "__init__.py",
            "family.py",
            "network.py",
        }


@pytest.mark.parametrize("name", TINY)
def test_weights_go_to_timms_names_and_come_back_the_same_bits(name: str) -> None:
    model = create_model(TINY[name], num_classes=5, image_size=16, byproduct_shape=(1, 2))
    params, stats = random_params(model)
    weights = to_timm(model, params, stats)
    assert {key: array.shape for key, array in weights.items()} == timm_shapes(model)
    back, back_stats = from_timm(model, weights)
    params.pop("byproduct_head")
    assert jax.tree.structure(back) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves((back, back_stats)), jax.tree.leaves((params, stats)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["dinov2", "convnext"])
def test_a_dense_head_and_one_of_an_earlier_block_read_maps(name: str) -> None:
    heads = (
        HeadSpec("heat_map", (1, 4), head=Head.DENSE, pool=ByproductPool.MAP),
        HeadSpec("box", (1, 4), block=1),
    )
    model = create_model(TINY[name], num_classes=5, image_size=16, heads=heads)

    def shapes(params: dict, images: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
        outputs, _ = model.apply(params, {}, images, train=False)
        return outputs.byproducts, outputs.features

    byproducts, features = jax.eval_shape(shapes, model.abstract()[0], IMAGES)
    assert [each.shape for each in byproducts] == [(2, 1, 4), (2, 1, 4)]  # 2x2 patches or positions
    assert features.shape == (2, 12)


def test_fields_of_another_family_are_refused_with_the_families_that_have_them() -> None:
    for config, told in (
        (
            ModelConfig(name="convnext_t", embed_dim=12),
            "model.embed_dim=12 belongs to a ViT, but model.name='convnext_t'",
        ),
        (ModelConfig(name="vit_s", width=12), "model.width=12 belongs to a ResNet or a ConvNeXt"),
        (ModelConfig(name="resnet18", layer_scale=0.1), "model.layer_scale=0.1 belongs to a ViT or a ConvNeXt"),
        (ModelConfig(name="convnext_t", layer_scale=0.0), "model.layer_scale=0.0 is not positive"),
        (ModelConfig(name="convnext_t", stage_sizes=()), "needs at least one stage"),
        (ModelConfig(name="dinov2_s", registers=-1), "model.registers=-1"),
    ):
        with pytest.raises(ValueError, match=told.replace("(", r"\(")):
            config.validate()
    for name, side, told in (
        ("convnext_t", 16, "choose 32 pixels"),
        ("dinov2_s", 64, "patch_size=14; choose 56 or 70"),
    ):
        with pytest.raises(ValueError, match=told):
            create_model(ModelConfig(name=name), num_classes=5, image_size=side, byproduct_shape=None)
