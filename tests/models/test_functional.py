"""The wall: plain dicts in and out, the same numbers for the same key, names that never change.

One tiny network of each family is compiled once and shared by all tests of this file.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.models.config import Dtype, ModelConfig, Stem
from luab_jax.models.functional import create_model, num_parameters, param_name

CONFIGS = {
    "resnet": ModelConfig(name="resnet18", width=4, stage_sizes=(1, 1), stem=Stem.SMALL),
    "vit": ModelConfig(name="vit_ti", embed_dim=12, depth=1, patch_size=8, drop_path=0.5),
    "convnext": ModelConfig(name="convnext_t", width=6, stage_sizes=(1, 1)),
}
FAMILIES = tuple(CONFIGS)


class Tiny:
    """A model, its initial state, and its outputs in every mode, from one compilation."""

    def __init__(self, family: str):
        self.model = create_model(CONFIGS[family], num_classes=5, image_size=16, byproduct_shape=(2, 3))
        self.images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16, 16, 3)), jnp.float32)
        apply = self.model.apply

        @jax.jit
        def everything(key, images):
            params, stats = self.model.init(key)
            headless = {k: v for k, v in params.items() if k != "byproduct_head"}
            return {
                "params": params,
                "stats": stats,
                "eval": apply(params, stats, images, train=False),
                "no_head": apply(params, stats, images, train=False, head=False),
                "headless": apply(headless, stats, images, train=False, head=False),
                "train": apply(params, stats, images, train=True, key=key),
            }

        self.everything = everything
        self.results = everything(jax.random.key(0), self.images)


@functools.cache
def tiny(family: str) -> Tiny:
    return Tiny(family)


def leaves_equal(a, b) -> bool:
    same = jax.tree.map(lambda x, y: np.array_equal(x, y), a, b)
    return all(jax.tree.leaves(same))


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_are_float32_of_the_promised_shapes_under_bfloat16_compute(family):
    outputs, _ = tiny(family).results["eval"]
    assert CONFIGS[family].compute_dtype is Dtype.BFLOAT16
    assert outputs.logits.shape == (4, 5)
    assert outputs.byproduct.shape == (4, 2, 3)
    assert outputs.features.shape == (4, 8 if family == "resnet" else 12)
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_and_statistics_are_float32(family):
    results = tiny(family).results
    state = (results["params"], results["stats"], results["train"][1])
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}


def test_convolutions_and_products_run_in_the_compute_type():
    for family in FAMILIES:
        model, images = tiny(family).model, tiny(family).images
        jaxpr = str(jax.make_jaxpr(lambda p, s, x, m=model: m.apply(p, s, x, train=False))(*model.abstract(), images))
        lines = [line for line in jaxpr.splitlines() if "= conv_general" in line or "= by_platform" in line]
        assert lines and all(":bf16[" in line for line in lines)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropping_the_head_changes_neither_logits_nor_features(family):
    results = tiny(family).results
    with_head, _ = results["eval"]
    for key in ("no_head", "headless"):
        without, _ = results[key]
        assert without.byproduct is None
        np.testing.assert_array_equal(without.logits, with_head.logits)
        np.testing.assert_array_equal(without.features, with_head.features)


def test_no_byproduct_means_no_head_parameters_and_the_same_other_weights():
    with_head = tiny("vit").model
    without = create_model(CONFIGS["vit"], num_classes=5, image_size=16, byproduct_shape=None)
    params, _ = without.abstract()
    assert set(params) == {"backbone", "classifier"}
    assert num_parameters(with_head.abstract()[0]) - num_parameters(params) == (12 + 1) * 2 * 3
    fresh = jax.jit(without.init)(jax.random.key(0))[0]
    # The same draws: two programs may round them differently in the last bit.
    same = {k: tiny("vit").results["params"][k] for k in fresh}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), fresh, same)


@pytest.mark.parametrize("family", FAMILIES)
def test_init_depends_on_the_key_alone(family):
    first = tiny(family).results
    again = tiny(family).everything(jax.random.key(0), tiny(family).images)
    other = tiny(family).everything(jax.random.key(1), tiny(family).images)
    assert leaves_equal(first["params"], again["params"])
    assert not leaves_equal(first["params"], other["params"])


@pytest.mark.parametrize("family", FAMILIES)
def test_abstract_has_the_tree_shapes_and_types_of_init(family):
    model = tiny(family).model
    traced = jax.eval_shape(model.init, jax.random.key(0))
    assert jax.tree.structure(traced) == jax.tree.structure(model.abstract())
    for a, b in zip(jax.tree.leaves(traced), jax.tree.leaves(model.abstract()), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_training_updates_batch_statistics_and_evaluation_does_not():
    results = tiny("resnet").results
    assert leaves_equal(results["eval"][1], results["stats"])
    changed = jax.tree.map(lambda x, y: not np.array_equal(x, y), results["train"][1], results["stats"])
    assert all(jax.tree.leaves(changed))
    assert tiny("vit").results["train"][1] == {}


def test_batch_statistics_are_those_of_the_whole_batch_with_momentum_0_9():
    """The stem's running mean and variance after one step, by hand from its convolution."""
    results, model, images = tiny("resnet").results, tiny("resnet").model, tiny("resnet").images
    stem = model.bind("backbone", results["params"], results["stats"]).stem
    activations = np.asarray(stem.conv(images), np.float64).reshape(-1, 4)
    after = results["train"][1]["backbone"]["stem"]["norm"]
    # Convolutions in bfloat16 may round differently inside and outside of a compiled program.
    np.testing.assert_allclose(after["mean"], 0.1 * activations.mean(0), rtol=0.02, atol=1e-3)
    np.testing.assert_allclose(after["var"], 0.9 + 0.1 * activations.var(0), rtol=0.01)


def test_random_training_needs_a_key():
    model, results = tiny("vit").model, tiny("vit").results
    with pytest.raises(ValueError, match=r"key=None.*drop_path"):
        model.apply(results["params"], {}, tiny("vit").images, train=True)


def test_a_missing_head_is_told():
    model, results = tiny("vit").model, tiny("vit").results
    headless = {k: v for k, v in results["params"].items() if k != "byproduct_head"}
    with pytest.raises(ValueError, match=r"no 'byproduct_head'.*head=False"):
        model.apply(headless, {}, tiny("vit").images, train=False)


def test_models_are_hashable_so_that_functions_may_close_over_them():
    assert len({tiny("vit").model, tiny("resnet").model}) == 2


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"num_classes": 0}, "num_classes=0"),
        ({"byproduct_shape": (0, 2)}, r"byproduct_shape=\(0, 2\)"),
        ({"image_size": 0}, "image_size=0"),
    ],
)
def test_sizes_are_checked(sizes, told):
    sizes = {"num_classes": 5, "image_size": 16, "byproduct_shape": None} | sizes
    with pytest.raises(ValueError, match=told):
        create_model(CONFIGS["resnet"], **sizes)


NAMES = {
    "resnet": """
        backbone/stage1/0/conv1/kernel backbone/stage1/0/conv2/kernel
        backbone/stage1/0/norm1/bias backbone/stage1/0/norm1/scale
        backbone/stage1/0/norm2/bias backbone/stage1/0/norm2/scale
        backbone/stage2/0/conv1/kernel backbone/stage2/0/conv2/kernel
        backbone/stage2/0/norm1/bias backbone/stage2/0/norm1/scale
        backbone/stage2/0/norm2/bias backbone/stage2/0/norm2/scale
        backbone/stage2/0/shortcut/conv/kernel
        backbone/stage2/0/shortcut/norm/bias backbone/stage2/0/shortcut/norm/scale
        backbone/stem/conv/kernel backbone/stem/norm/bias backbone/stem/norm/scale
        byproduct_head/linear/bias byproduct_head/linear/kernel
        classifier/bias classifier/kernel
        stats: backbone/stage1/0/norm1/mean backbone/stage1/0/norm1/var
        backbone/stage1/0/norm2/mean backbone/stage1/0/norm2/var
        backbone/stage2/0/norm1/mean backbone/stage2/0/norm1/var
        backbone/stage2/0/norm2/mean backbone/stage2/0/norm2/var
        backbone/stage2/0/shortcut/norm/mean backbone/stage2/0/shortcut/norm/var
        backbone/stem/norm/mean backbone/stem/norm/var
    """,
    "vit": """
        backbone/blocks/0/attention/out/bias backbone/blocks/0/attention/out/kernel
        backbone/blocks/0/attention/qkv/bias backbone/blocks/0/attention/qkv/kernel
        backbone/blocks/0/mlp/fc1/bias backbone/blocks/0/mlp/fc1/kernel
        backbone/blocks/0/mlp/fc2/bias backbone/blocks/0/mlp/fc2/kernel
        backbone/blocks/0/norm1/bias backbone/blocks/0/norm1/scale
        backbone/blocks/0/norm2/bias backbone/blocks/0/norm2/scale
        backbone/class_token backbone/norm/bias backbone/norm/scale
        backbone/patch_embed/bias backbone/patch_embed/kernel backbone/position_embed
        byproduct_head/linear/bias byproduct_head/linear/kernel
        classifier/bias classifier/kernel
        stats:
    """,
    "convnext": """
        backbone/norm/bias backbone/norm/scale
        backbone/stages/0/blocks/0/depthwise/bias backbone/stages/0/blocks/0/depthwise/kernel
        backbone/stages/0/blocks/0/fc1/bias backbone/stages/0/blocks/0/fc1/kernel
        backbone/stages/0/blocks/0/fc2/bias backbone/stages/0/blocks/0/fc2/kernel
        backbone/stages/0/blocks/0/layer_scale/gamma
        backbone/stages/0/blocks/0/norm/bias backbone/stages/0/blocks/0/norm/scale
        backbone/stages/1/blocks/0/depthwise/bias backbone/stages/1/blocks/0/depthwise/kernel
        backbone/stages/1/blocks/0/fc1/bias backbone/stages/1/blocks/0/fc1/kernel
        backbone/stages/1/blocks/0/fc2/bias backbone/stages/1/blocks/0/fc2/kernel
        backbone/stages/1/blocks/0/layer_scale/gamma
        backbone/stages/1/blocks/0/norm/bias backbone/stages/1/blocks/0/norm/scale
        backbone/stages/1/downsample/conv/bias backbone/stages/1/downsample/conv/kernel
        backbone/stages/1/downsample/norm/bias backbone/stages/1/downsample/norm/scale
        backbone/stem/conv/bias backbone/stem/conv/kernel backbone/stem/norm/bias backbone/stem/norm/scale
        byproduct_head/linear/bias byproduct_head/linear/kernel
        classifier/bias classifier/kernel
        stats:
    """,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_names_never_change(family):
    """These strings are in checkpoints: a change here breaks every run that was ever saved."""
    params, stats = (
        [param_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
        for tree in tiny(family).model.abstract()
    )
    assert [*sorted(params), "stats:", *sorted(stats)] == NAMES[family].split()
