"""timm's files as checkpoints: preprocessing as timm states it, changes that show, one message for what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from luab_jax import sharding
from luab_jax.config import MeshConfig
from luab_jax.data.class_lists import imagenet
from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.errors import CheckpointError, UserError
from luab_jax.evaluation.loading import LoadedModel, load
from luab_jax.models.config import ModelConfig
from luab_jax.models.functional import create_model
from luab_jax.models.timm_weights import to_timm
from tests.evaluation.miniatures import random_params

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    model = create_model(ModelConfig(name="resnet18"), num_classes=1000, image_size=224, byproduct_shape=None)
    return to_timm(model, *random_params(model))


@pytest.fixture(scope="module")
def file(weights: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("timm") / "resnet18.safetensors", weights)


def save(path: Path, weights: Mapping[str, np.ndarray]) -> Path:
    safetensors.numpy.save_file(dict(weights), path)
    return path


def loaded(name: str, file: Path, **changes: Any) -> LoadedModel:
    return load(f"timm:{name}:{file}", "latest", sharding.make_mesh(MeshConfig()), changes)


def test_a_file_is_loaded_with_timms_preprocessing_and_imagenets_classes(
    file: Path, weights: dict[str, np.ndarray]
) -> None:
    model = loaded("resnet18.tv_in1k", file)
    assert model.preprocessing == Preprocessing(
        image_size=224, resize_side=256, filter=ResizeFilter.BILINEAR, **IMAGENET
    )
    assert (model.num_classes, model.class_list_hash) == (1000, imagenet().hash)
    assert not model.has_byproduct_head and not model.label_sets
    for array, name in ((model.params["classifier"]["kernel"], "fc.weight"),):
        np.testing.assert_array_equal(np.asarray(array).T, weights[name])


def test_a_name_without_a_tag_is_timms_default_tag_and_the_result_names_it(file: Path) -> None:
    model = loaded("resnet18", file)
    assert model.identity["model"] == "resnet18.a1_in1k"
    assert (model.preprocessing.resize_side, model.preprocessing.filter) == (235, ResizeFilter.BICUBIC)


def test_what_is_changed_becomes_part_of_the_identity(file: Path) -> None:
    changed = loaded("resnet18.tv_in1k", file, resize_side=232, filter=ResizeFilter.BICUBIC)
    assert (changed.preprocessing.resize_side, changed.preprocessing.filter) == (232, ResizeFilter.BICUBIC)
    assert changed.preprocessing.image_size == 224
    assert changed.identity["preprocessing_override"] == {"resize_side": 232, "filter": "bicubic"}
    assert "preprocessing_override" not in loaded("resnet18.tv_in1k", file).identity


def test_other_weights_are_another_checkpoint(file: Path, weights: dict[str, np.ndarray], tmp_path: Path) -> None:
    other = save(tmp_path / "other.safetensors", weights | {"fc.bias": weights["fc.bias"] + 1})
    assert loaded("resnet18", file).identity["weights_hash"] != loaded("resnet18", other).identity["weights_hash"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fc.weight": np.zeros((10, 512), np.float32), "fc.bias": np.zeros(10, np.float32)}, "classifies 10 classes"),
        ({"extra": np.zeros(1, np.float32)}, "1 unexpected: extra"),
        ({"fc.bias": None}, "1 missing: fc.bias"),
        ({"conv1.weight": np.zeros((64, 3, 3, 3), np.float32)}, r"conv1.weight \(64, 3, 3, 3\) where the model has"),
    ],
    ids=["classes", "extra", "missing", "shape"],
)
def test_a_file_that_does_not_fit_is_told_in_one_message(
    change: dict[str, np.ndarray | None], told: str, weights: dict[str, np.ndarray], tmp_path: Path
) -> None:
    changed = {name: array for name, array in (weights | change).items() if array is not None}
    path = save(tmp_path / "w.safetensors", changed)
    with pytest.raises(CheckpointError, match=rf"w\.safetensors, read as resnet18\.a1_in1k: .*{told}"):
        loaded("resnet18", path)


def test_a_file_that_cannot_be_read_is_told_in_one_message(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        loaded("resnet18", cut)
    with pytest.raises(CheckpointError, match=r"none\.safetensors: cannot be read \(No such file"):
        loaded("resnet18", tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        loaded("resnet18", tmp_path)


def test_a_name_that_is_none_is_told_in_one_message(file: Path) -> None:
    with pytest.raises(UserError, match=r"--checkpoint=timm:resnet19:.*did you mean resnet1"):
        loaded("resnet19", file)
    with pytest.raises(UserError, match=r"expected timm:NAME:FILE\.safetensors"):
        load("timm:resnet18", "latest", sharding.make_mesh(MeshConfig()))
    with pytest.raises(CheckpointError, match=r"read as resnet50\.a1_in1k: .*missing"):
        loaded("resnet50", file)


def test_a_preprocessing_that_makes_no_sense_is_refused(file: Path) -> None:
    with pytest.raises(UserError, match="smaller than the crop of 320"):
        loaded("resnet18", file, image_size=320)
    assert loaded("resnet18", file, image_size=320, resize_side=320).model.image_size == 320
    with pytest.raises(UserError, match="must be positive"):
        loaded("resnet18", file, std=(0.0, 1.0, 1.0))


def test_a_vit_at_another_size_has_its_positions_interpolated_which_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = create_model(ModelConfig(name="vit_ti"), num_classes=1000, image_size=224, byproduct_shape=None)
    path = save(tmp_path / "deit.safetensors", to_timm(model, *random_params(model)))
    larger = loaded("deit_tiny_patch16_224", path, image_size=384, resize_side=384)
    assert larger.model.image_size == 384
    assert larger.params["backbone"]["position_embed"].shape == (1, 1 + 24 * 24, 192)
    assert "position embeddings interpolated from 14x14 to 24x24 patches" in capsys.readouterr().err
    loaded("deit_tiny_patch16_224", path)
    assert "interpolated" not in capsys.readouterr().err
    with pytest.raises(UserError, match=r"image_size=300 .* 288 or 304"):
        loaded("deit_tiny_patch16_224", path, image_size=300, resize_side=300)
