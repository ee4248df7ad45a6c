"""A native ViT in Hugging Face's layout: transformers' names, and, where it is installed, the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import luab_jax
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.transforms import Preprocessing
from luab_jax.models.config import Dtype, ModelConfig
from luab_jax.models.functional import create_model
from luab_jax.models.timm_weights import to_timm
from tools.hf_layout import write_vit
from tools.miniatures import random_params

SIDE, IDS = 16, imagenet().ids[:3]
PREPROCESSING = Preprocessing(image_size=SIDE, resize_side=SIDE, mean=(0.5, 0.4, 0.3))
BLOCK = "vit.encoder.layer.0"
LAYERS = {
    "classifier": (3, 8),
    "vit.embeddings.patch_embeddings.projection": (8, 3, 8, 8),
    "vit.layernorm": (8,),
    **{f"{BLOCK}.attention.attention.{part}": (8, 8) for part in ("query", "key", "value")},
    f"{BLOCK}.attention.output.dense": (8, 8),
    f"{BLOCK}.intermediate.dense": (32, 8),
    f"{BLOCK}.layernorm_after": (8,),
    f"{BLOCK}.layernorm_before": (8,),
    f"{BLOCK}.output.dense": (8, 32),
}
"""Layers with weight and bias of transformers 5.24's ViTForImageClassification, and the weight's shape."""


@pytest.fixture
def native() -> tuple[Any, Any]:
    """A ViT of one block, and its parameters, of which none is 0 or 1."""
    config = ModelConfig(name="vit_ti", embed_dim=8, depth=1, num_heads=2, patch_size=8, compute_dtype=Dtype.FLOAT32)
    model = create_model(config, num_classes=3, image_size=SIDE, byproduct_shape=None)
    rng = np.random.default_rng(0)
    params, _ = random_params(model)
    return model, jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape).astype(np.float32) / 4, params)


def write(folder: Path, native: tuple[Any, Any]) -> dict[str, np.ndarray]:
    weights = to_timm(*native, {})
    write_vit(folder, weights, num_heads=2, preprocessing=PREPROCESSING, classes=ClassList(IDS, IDS))
    return weights


def test_names_and_shapes_are_those_of_transformers(tmp_path: Path, native: tuple[Any, Any]) -> None:
    weights = write(tmp_path, native)
    found = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    expected = {f"{layer}.weight": shape for layer, shape in LAYERS.items()}
    expected |= {f"{layer}.bias": shape[:1] for layer, shape in LAYERS.items()}
    expected |= {"vit.embeddings.cls_token": (1, 1, 8), "vit.embeddings.position_embeddings": (1, 5, 8)}
    assert {name: array.shape for name, array in found.items()} == expected
    parts = [found[f"{BLOCK}.attention.attention.{part}.weight"] for part in ("query", "key", "value")]
    np.testing.assert_array_equal(np.concatenate(parts), weights["blocks.0.attn.qkv.weight"])
    with pytest.raises(ValueError, match="reg_token: ViTForImageClassification has no such weight"):
        write_vit(
            tmp_path,
            weights | {"reg_token": np.zeros((1, 4, 8), np.float32)},
            num_heads=2,
            preprocessing=PREPROCESSING,
            classes=ClassList(IDS, IDS),
        )


def test_the_folder_gives_the_native_logits(tmp_path: Path, native: tuple[Any, Any]) -> None:
    pytest.importorskip("torch", reason="folders of Hugging Face's are read by torch")
    pytest.importorskip("transformers", reason="... and by transformers")
    write(tmp_path, native)
    images = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)
    model, params = native
    normalised = ((images / 255 - PREPROCESSING.mean) / PREPROCESSING.std).astype(np.float32)
    expected = np.asarray(model.apply(params, {}, jnp.asarray(normalised), train=False)[0].logits)
    loaded = luab_jax.load(f"hf:{tmp_path}")
    assert loaded.classes is not None and loaded.classes.ids == IDS and loaded.preprocessing == PREPROCESSING
    np.testing.assert_allclose(loaded(images), expected, rtol=1e-4, atol=1e-5)
