"""ResNet: counts, shapes, stems, initial values. Nothing here compiles a whole network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.models.config import ModelConfig, Stem
from luab_jax.models.functional import create_model, num_parameters


def build(**fields):
    return create_model(ModelConfig(**fields), num_classes=1000, image_size=224, byproduct_shape=None)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
    ],
)
def test_parameter_count_equals_the_published_one(name, count):
    params, _ = build(name=name).abstract()
    assert num_parameters(params) == count


@pytest.mark.parametrize(("stem", "last_side"), [(Stem.IMAGENET, 2), (Stem.SMALL, 8), (Stem.PATCH, 2)])
def test_stem_sets_the_resolution(stem, last_side):
    model = build(name="resnet18", width=4, stem=stem)
    backbone = model.bind("backbone", *(tree for tree in _zeros(model)))
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)

    def last_stage(images):
        x = backbone.stem(images, train=False)
        for block in backbone.blocks():
            x = block(x, train=False)
        return x

    assert jax.eval_shape(last_stage, images).shape == (2, last_side, last_side, 32)


def test_images_of_any_size_give_one_feature_vector_each():
    model = build(name="resnet50", width=4)
    for side in (33, 64):
        images = jax.ShapeDtypeStruct((3, side, side, 3), jnp.float32)
        outputs, _ = jax.eval_shape(lambda p, s, x, m=model: m.apply(p, s, x, train=False), *model.abstract(), images)
        assert outputs.features.shape == (3, 4 * 4 * 8)
        assert outputs.logits.shape == (3, 1000)
        assert outputs.byproduct is None


def test_each_residual_branch_starts_at_zero_and_convolutions_at_he_fan_out():
    model = create_model(
        ModelConfig(name="resnet50", width=8, stage_sizes=(1,)),
        num_classes=2,
        image_size=32,
        byproduct_shape=None,
    )
    block = jax.jit(model.init)(jax.random.key(0))[0]["backbone"]["stage1"]["0"]
    assert not np.any(block["norm3"]["scale"])
    assert np.all(block["norm1"]["scale"] == 1) and np.all(block["norm2"]["scale"] == 1)
    kernel = np.asarray(block["conv2"]["kernel"])  # [3, 3, 8, 8]: 576 draws
    assert abs(kernel.std() / np.sqrt(2 / (3 * 3 * 8)) - 1) < 0.1


def _zeros(model):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), model.abstract())
