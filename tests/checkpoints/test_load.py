"""timm's files as checkpoints: preprocessing as timm states it, changes that show, one message for what is wrong."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from fsspec.implementations.memory import MemoryFileSystem

from luab_jax.checkpoints import store as checkpoint_lib
from luab_jax.checkpoints.load import LoadedModel, load
from luab_jax.config import MeshConfig
from luab_jax.data.class_lists import imagenet
from luab_jax.data.transforms import ANY_SIZE, Preprocessing, ResizeFilter, Stored
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, UserError
from luab_jax.models.config import Dtype, ModelConfig
from luab_jax.models.functional import create_model
from luab_jax.models.timm_models import TimmSize
from luab_jax.models.timm_weights import to_timm
from luab_jax.training.loop import train
from tests import tiny
from tools.miniatures import random_params

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    model = create_model(ModelConfig(name="resnet18"), num_classes=1000, image_size=224, byproduct_shape=None)
    return to_timm(model, *random_params(model))


@pytest.fixture(scope="module")
def file(weights: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("timm") / "resnet18.safetensors", weights)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workdir of a run in bfloat16."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny.experiment(tiny.prepare_data(folder / "data"), total_steps=1)
    config.model.compute_dtype = Dtype.BFLOAT16
    train(config, folder / "workdir")
    return folder / "workdir"


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
    assert (model.preprocessing.image_size, model.preprocessing.filter) == (288, ResizeFilter.BICUBIC)


def test_weights_are_evaluated_at_the_size_that_timm_validates_them_at(file: Path) -> None:
    """Published accuracies are of the test size; where timm states two, the result names which it is of."""
    mesh, path = sharding.make_mesh(MeshConfig()), f"timm:resnet18.a1_in1k:{file}"
    test, train = load(path, "latest", mesh), load(path, "latest", mesh, timm_size=TimmSize.TRAIN)
    assert (test.preprocessing.image_size, test.preprocessing.resize_side) == (288, 288)
    assert (train.preprocessing.image_size, train.preprocessing.resize_side) == (224, 235)
    assert [model.identity["timm_size"] for model in (test, train)] == ["test", "train"]
    assert test.identity["experiment"] != train.identity["experiment"]
    assert "timm_size" not in load(f"timm:resnet18.tv_in1k:{file}", "latest", mesh).identity
    with pytest.raises(UserError, match=r"timm_size='test': checkpoint='RUN' is no file of timm"):
        load("RUN", "latest", mesh, timm_size=TimmSize.TEST)


def test_stored_squares_are_fed_as_they_are_to_a_network_made_for_their_size(file: Path) -> None:
    """ImageNet-C's protocol knows no resizing; timm's ResNets of a test size of 288 were trained at 224."""
    squares = Stored(side=224)
    assert loaded("resnet18.a1_in1k", file).side_for(squares) == 224
    assert loaded("resnet18.a1_in1k", file).side_for(ANY_SIZE) == 288
    assert loaded("resnet18.a1_in1k", file, image_size=256).side_for(squares) == 256


def test_one_type_for_all_checkpoints_which_the_identity_names(file: Path) -> None:
    mesh, path = sharding.make_mesh(MeshConfig()), f"timm:resnet18:{file}"
    assert load(path, "latest", mesh).config.compute_dtype is Dtype.FLOAT32
    assert load(path, "latest", mesh).identity["dtype"] == "float32"
    half = load(path, "latest", mesh, dtype=Dtype.BFLOAT16)
    assert (half.config.compute_dtype, half.identity["dtype"]) == (Dtype.BFLOAT16, "bfloat16")


def test_a_run_is_evaluated_in_float32_whatever_it_was_trained_in(run: Path) -> None:
    loaded = load(run, "latest", sharding.make_mesh(MeshConfig()))
    assert loaded.identity["experiment"]["model.compute_dtype"] == "bfloat16"
    assert (loaded.config.compute_dtype, loaded.identity["dtype"]) == (Dtype.FLOAT32, "float32")


def test_a_wrappers_prefix_is_read_over_and_said(
    weights: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "ddp.safetensors", {f"module.{name}": array for name, array in weights.items()})
    assert loaded("resnet18", path).num_classes == 1000
    assert "names of weights begin with 'module.' (of torch's DataParallel)" in capsys.readouterr().err


def test_a_pickled_checkpoint_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    mesh = sharding.make_mesh(MeshConfig())
    (tmp_path / "model.pth").write_bytes(b"PK\x03\x04")
    for checkpoint in (str(tmp_path / "model.pth"), f"timm:resnet18:{tmp_path / 'model.pth'}"):
        with pytest.raises(UserError, match=r"torch\.save.*safetensors\.torch\.save_file") as caught:
            load(checkpoint, "latest", mesh)
        assert "\n" not in str(caught.value)


EDITS: dict[str, Any] = {
    "no config": lambda custom: custom.pop("config"),
    "a config that is a list": lambda custom: custom.update(config=[1]),
    "a field of another version": lambda custom: custom["config"].update(nosuch=3),
    "a model that is a number": lambda custom: custom["config"]["model"].update(name=7),
    "stages of text": lambda custom: custom["config"]["model"].update(stage_sizes=["a"]),
    "a size of text": lambda custom: custom["config"]["data"]["preprocessing"].update(image_size="224"),
    "two means": lambda custom: custom["config"]["data"]["preprocessing"].update(mean=[0.5, 0.5]),
    "no standard deviation": lambda custom: custom["config"]["data"]["preprocessing"].update(std=[0.5, 0.5, 0]),
    "classes": lambda custom: custom.update(num_classes=-3),
    "classes of text": lambda custom: custom.update(num_classes="3"),
    "class list": lambda custom: custom.update(class_list_hash=None),
    "a target": lambda custom: custom["config"]["byproduct"].update(target="clicks"),
    "version": lambda custom: custom.update(format_version=9),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_description_that_was_edited_ends_in_one_line(edit: str, run: Path, tmp_path: Path) -> None:
    """Without its digests, which would tell first."""
    workdir = Path(shutil.copytree(run, tmp_path / "run"))
    (step,) = (workdir / "checkpoints").iterdir()
    (step / "SHA256SUMS").unlink()
    metadata = step / "_CHECKPOINT_METADATA"
    content = json.loads(metadata.read_text())
    EDITS[edit](content["custom_metadata"])
    metadata.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        load(workdir, "latest", sharding.make_mesh(MeshConfig()))
    assert "\n" not in str(caught.value) and str(workdir) in str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("orbax_gives_up")
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}'])
def test_metadata_of_orbax_that_was_replaced_ends_in_one_line(content: bytes, run: Path, tmp_path: Path) -> None:
    for name in ("_CHECKPOINT_METADATA", "state/_METADATA", "state/manifest.ocdbt", "state/array_metadatas/process_0"):
        workdir = Path(shutil.copytree(run, tmp_path / name.replace("/", "-")))
        (step,) = (workdir / "checkpoints").iterdir()
        (step / "SHA256SUMS").unlink()
        if not (step / name).is_file():
            continue
        (step / name).write_bytes(content)
        try:
            load(workdir, "latest", sharding.make_mesh(MeshConfig()))
        except UserError as e:
            assert "\n" not in str(e) and str(workdir) in str(e)


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
    with pytest.raises(UserError, match=r"checkpoint='timm:resnet19:.*did you mean resnet1"):
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


def test_weights_in_a_bucket_are_named_by_their_address(file: Path, bucket_in_memory: MemoryFileSystem) -> None:
    bucket_in_memory.put_file(str(file), "bucket/w.safetensors")
    model = load("timm:resnet18:gs://bucket/w.safetensors", "latest", sharding.make_mesh(MeshConfig()))
    assert model.identity["workdir"] == "gs://bucket/w.safetensors"
    with pytest.raises(CheckpointError, match=r"gs://bucket/none\.safetensors: cannot be read"):
        load("timm:resnet18:gs://bucket/none.safetensors", "latest", sharding.make_mesh(MeshConfig()))


def test_the_command_prints_that_line_alone(run: Path, tmp_path: Path) -> None:
    """Reads that run beside the one that failed would print a traceback each."""
    workdir = Path(shutil.copytree(run, tmp_path / "run"))
    (step,) = (workdir / "checkpoints").iterdir()
    (step / "SHA256SUMS").unlink()
    (step / "state" / "manifest.ocdbt").write_bytes(b"{}")
    command = ["-m", "luab_jax.evaluate", f"--checkpoint={workdir}", f"--data={run.parent / 'data'}"]
    ended = subprocess.run(
        [sys.executable, *command, f"--out={tmp_path / 'r.json'}"], text=True, capture_output=True, check=False
    )
    assert ended.returncode == 1 and not ended.stdout
    assert ended.stderr.startswith(f"error: {step}: cannot be restored") and ended.stderr.count("\n") == 1


@pytest.mark.parametrize(("text", "is_kept"), [("Task", False), ("Future", False), ("Other", True)])
def test_reads_that_fail_beside_it_are_not_told(text: str, is_kept: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Which of the two asyncio says depends on how far the read had come."""
    with contextlib.suppress(ValueError), checkpoint_lib._told_once():
        raise ValueError
    logging.getLogger("asyncio").error("%s exception was never retrieved\nfuture: <Future finished>", text)
    assert bool(caplog.records) == is_kept
