"""Folders in Hugging Face's layout: transformers' own numbers; what is not read is told, most of it without torch."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.numpy

import luab_jax
from luab_jax.data.class_lists import imagenet, readable_names
from luab_jax.data.transforms import ResizeFilter
from luab_jax.errors import CheckpointError, UserError, options_are_flags
from luab_jax.foreign.hf_preprocessor import preprocessing_of
from luab_jax.foreign.options import Options
from luab_jax.foreign.torch_module import logits_of, read_state
from tests import tiny

_TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
SMALL: dict[str, dict[str, Any]] = {
    "ViT": _TRANSFORMER | {"intermediate_size": 32},
    "DeiT": _TRANSFORMER | {"intermediate_size": 32},
    "ConvNext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "Swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "patch_size": 4},
    "Dinov2": _TRANSFORMER,
}
PROCESSOR = {
    "size": {"shortest_edge": 36},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}
CONFIG = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "image_size": 32}

Capture = pytest.CaptureFixture[str]


class Libraries(NamedTuple):
    torch: Any
    transformers: Any


@pytest.fixture(scope="module")
def libraries() -> Libraries:
    torch = pytest.importorskip("torch", reason="networks of Hugging Face's folders are built by torch")
    return Libraries(torch, pytest.importorskip("transformers", reason="... and by transformers"))


def write_folder(folder: Path, config: dict[str, Any] = CONFIG, processor: dict[str, Any] = PROCESSOR) -> str:
    """With a file of weights that no network has."""
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    safetensors.numpy.save_file({"none": np.zeros(1, np.float32)}, folder / "model.safetensors")
    return f"hf:{folder}"


def save_network(kind: str, folder: Path, libraries: Libraries) -> Any:
    """A small network of a kind, saved; returns it."""
    torch, transformers = libraries
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(image_size=32, num_labels=3, **SMALL[kind])
    module = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    module.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return module


def told(checkpoint: str) -> str:
    """Why it cannot be loaded, in one line."""
    with pytest.raises(UserError) as error:
        luab_jax.load(checkpoint, classes=tiny.CLASSES)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "levit"}, "config.json: model_type 'levit' is not read; known are vit, deit, convnext"),
        ({}, "config.json: model_type None is not read"),
        ({"model_type": "clip_vision_model"}, "image embeddings, no logits; say classifier='FILE.npy'"),
        ({"model_type": ["vit"]}, "config.json: a field is not what is expected"),
        (CONFIG | {"architectures": 5}, "config.json: a field is not what is expected"),
        (CONFIG | {"transformers_weights": "adapter_model.bin"}, "config.json: transformers_weights is not read"),
    ],
)
def test_an_unknown_network_is_told_in_one_line(config: dict[str, Any], why: str, tmp_path: Path) -> None:
    assert why in told(write_folder(tmp_path, config))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"size": {"height": 32, "width": 48}, "crop_size": None}, "the suites feed squares"),
        ({"rescale_factor": 0.5}, "rescale_factor 0.5; only 1/255 is read"),
        ({"image_mean": "none"}, "a field is not what is expected"),
        ({"size": float("inf")}, "a field is not what is expected"),
    ],
)
def test_a_preprocessing_that_is_not_ours_is_told_in_one_line(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    message = told(write_folder(tmp_path, processor=PROCESSOR | changes))
    assert message.startswith(f"{tmp_path / 'preprocessor_config.json'}: ") and why in message


@pytest.mark.parametrize(
    ("kind", "side", "resize_side", "filter"),
    [
        ("ViTImageProcessor", 224, 224, ResizeFilter.BILINEAR),
        ("DeiTImageProcessor", 224, 256, ResizeFilter.BICUBIC),
        ("CLIPImageProcessor", 224, 224, ResizeFilter.BICUBIC),
        ("BitImageProcessor", 224, 224, ResizeFilter.BICUBIC),
        ("dinov2", 224, 224, ResizeFilter.BICUBIC),
    ],
)
def test_what_a_file_does_not_say_is_its_processors_default(
    kind: str, side: int, resize_side: int, filter: ResizeFilter, tmp_path: Path
) -> None:
    """image_processing_vit.py, _deit.py, _clip.py, _bit.py of transformers; dinov2's is Bit's."""
    stated = {name: PROCESSOR[name] for name in ("image_mean", "image_std")}
    if kind != "dinov2":
        stated["image_processor_type"] = kind
    write_folder(tmp_path, processor=stated)
    config = {"model_type": "dinov2", "image_size": 518}
    found = preprocessing_of(tmp_path / "preprocessor_config.json", config)
    assert (found.image_size, found.resize_side, found.filter) == (side, resize_side, filter)


@pytest.mark.parametrize(
    ("left_out", "kind", "changes", "why"),
    [
        (("resample",), "convnext", {}, "says nothing of resample"),
        (("resample", "do_center_crop"), "siglip", {}, "says nothing of resample and do_center_crop"),
        ((), "vit", {"do_resize": False}, "do_resize is false"),
    ],
)
def test_what_is_neither_said_nor_known_is_refused(
    left_out: tuple[str, ...], kind: str, changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    stated = {name: value for name, value in PROCESSOR.items() if name not in left_out}
    write_folder(tmp_path, processor=stated | changes)
    with pytest.raises(CheckpointError, match=f"preprocessor_config.json: {why}"):
        preprocessing_of(tmp_path / "preprocessor_config.json", {"model_type": kind})


def test_a_field_that_is_not_there_is_named(tmp_path: Path) -> None:
    processor = {name: value for name, value in PROCESSOR.items() if name != "image_std"}
    assert "preprocessor_config.json: has no field 'image_std'" in told(write_folder(tmp_path, processor=processor))


def test_imagenets_names_in_another_order_are_refused(tmp_path: Path) -> None:
    backwards = {str(i): name for i, name in enumerate(reversed(readable_names(imagenet())))}
    with pytest.raises(CheckpointError, match=r"ImageNet's classes in another order .* classes='FILE' says the wnid"):
        luab_jax.load(write_folder(tmp_path, CONFIG | {"id2label": backwards}))


@pytest.mark.parametrize(
    ("id2label", "why"),
    [
        (
            {str(i): f"cat breed {i}" for i in range(1000)},
            "id2label has 1,000 names, of which 0 are ImageNet's (the first is 'cat breed 0'); classes='FILE' says the"
            " wnid or id of each output",
        ),
        ({str(i): name for i, name in enumerate(sorted(map(str, range(1000))))}, "of which 0 are ImageNet's"),
        (["a"], "config.json: a field is not what is expected"),
    ],
)
def test_outputs_whose_names_are_not_imagenets_are_refused(id2label: Any, why: str, tmp_path: Path) -> None:
    """Numbers in the order of texts (0, 1, 10, 100, ...) among them."""
    with pytest.raises(CheckpointError, match=re.escape(why)):
        luab_jax.load(write_folder(tmp_path, CONFIG | {"id2label": id2label}))


@pytest.mark.parametrize("form", ["LABEL_{i}", "{i}", "{name}", "{underscored}"])
def test_names_in_imagenets_order_or_that_say_nothing_are_taken_for_imagenets(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        str(i): form.format(i=i, name=name, underscored=name.replace(" ", "_"))
        for i, name in enumerate(readable_names(imagenet()))
    }
    monkeypatch.setitem(sys.modules, "torch", None)  # what comes after all fields were read
    with pytest.raises(UserError, match="needs torch"):
        luab_jax.load(write_folder(tmp_path, CONFIG | {"id2label": names}))


@pytest.mark.parametrize(
    ("kind", "processor", "side", "resize_side", "said"),
    [
        ("deit", {"size": {"height": 256, "width": 256}, "crop_size": 224}, 224, 256, "256 x 256"),
        ("vit", {"size": 224, "do_center_crop": False}, 224, 224, "224 x 224"),
        ("swin", {"size": 256, "crop_size": 224}, 224, 256, "256 x 256"),
        ("vit", {"size": 256, "crop_size": 224, "image_processor_type": "BitImageProcessor"}, 224, 256, ""),
        ("dinov2", {"size": {"shortest_edge": 256}, "crop_size": 224}, 224, 256, ""),
        ("convnext", {"size": {"shortest_edge": 384}, "do_center_crop": False}, 384, 384, "384 x 384"),
        ("convnext", {"size": 384, "do_center_crop": False, "crop_pct": 0.9}, 384, 384, "384 x 384"),
        ("convnextv2", {"size": {"shortest_edge": 224}, "do_center_crop": False}, 224, 256, ""),
        ("convnext", {"size": 224, "do_center_crop": False, "crop_pct": 0.95}, 224, 235, ""),
    ],
)
def test_where_transformers_squashes_and_we_do_not_it_is_said(
    kind: str, processor: dict[str, Any], side: int, resize_side: int, said: str, tmp_path: Path, capsys: Capture
) -> None:
    write_folder(tmp_path, processor=PROCESSOR | processor)
    found = preprocessing_of(tmp_path / "preprocessor_config.json", {"model_type": kind})
    assert (found.image_size, found.resize_side) == (side, resize_side)
    told = capsys.readouterr().err
    assert f"squashes images to {said}; here the short side is resized to {resize_side}" in told if said else not told


@pytest.mark.parametrize("name", ["evil.bin", "../evil.safetensors", "/tmp/evil.safetensors", "a\\b.safetensors", 5])
def test_an_index_that_names_other_files_than_safetensors_of_the_folder_is_refused(name: Any, tmp_path: Path) -> None:
    checkpoint = write_folder(tmp_path)
    parts = {"vit.a": "model-00001-of-00002.safetensors", "vit.b": name}
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    expected = "weight_map names files that are no *.safetensors of this folder; take a whole copy of the folder"
    assert told(checkpoint).endswith(expected)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": ["a"]}))
    assert "index.json: a field is not what is expected" in told(checkpoint)


def test_files_that_are_not_there_or_broken_are_named(tmp_path: Path) -> None:
    checkpoint = write_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "config.json: not JSON" in told(checkpoint)
    (tmp_path / "config.json").unlink()
    assert "config.json: cannot be read" in told(checkpoint)
    write_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert "holds no weights (*.safetensors)" in told(checkpoint)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"out": 1, "aux": 2}, r"torch:m:f.*: the module returned a dict of out, aux; expected one tensor of logits"),
        ((1, 2), "the module returned a tuple; expected one tensor"),
    ],
)
def test_a_module_that_returns_no_tensor_is_refused_in_one_line(outputs: Any, said: str) -> None:
    """Whether torch is there or not."""
    with pytest.raises(CheckpointError, match=said):
        logits_of(outputs, "torch:m:f")


def test_what_is_pickled_is_not_read_unless_it_is_trusted(tmp_path: Path) -> None:
    """Whatever it holds, and whether torch is there or not."""
    checkpoint = write_folder(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert "pytorch_model.bin: is pickled, and unpickling can run any code" in told(checkpoint)
    with options_are_flags():
        assert "or say --trust if" in told(checkpoint)
    weights = tmp_path / "w.pth"
    with pytest.raises(CheckpointError, match=r"w\.pth: cannot be read \(No such file"):
        read_state(str(weights), Options())
    weights.write_bytes(b"\x80\x02.")
    with pytest.raises(CheckpointError, match=r"w\.pth: is pickled.* or say trust=True if the file is your own"):
        read_state(str(weights), Options())
    weights.write_text("a note")
    with pytest.raises(CheckpointError, match=r"w\.pth: no file of weights that is known here; name a \.safetensors"):
        read_state(str(weights), Options())


@pytest.mark.parametrize("checkpoint", ["torch:timm/resnet18", "torch:mine.models:tower", "hf:{folder}"])
def test_where_torch_is_missing_the_extra_is_named(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "needs torch; pip install '.[torch]' (in a clone), or pip install timm torch" in told(
        checkpoint.format(folder=tmp_path)
    )


@pytest.mark.parametrize("kind", SMALL)
def test_logits_are_those_of_transformers(kind: str, tmp_path: Path, libraries: Libraries) -> None:
    module = save_network(kind, tmp_path, libraries)
    model = luab_jax.load(f"hf:{tmp_path}", classes=tiny.CLASSES)
    assert (model.preprocessing.image_size, model.preprocessing.resize_side) == (32, 36)
    images = np.random.default_rng(0).integers(0, 256, (2, 36, 36, 3), np.uint8)
    given = ((images[:, 2:34, 2:34] / 255 - 0.5) / 0.25).astype(np.float32).transpose(0, 3, 1, 2)
    with libraries.torch.no_grad():
        expected = module(libraries.torch.from_numpy(given)).logits.numpy()
    np.testing.assert_allclose(model(images), expected, atol=1e-5 * np.abs(expected).max())


def test_a_tower_of_clip_classifies_by_text_embeddings(tmp_path: Path, libraries: Libraries) -> None:
    of_tower = SMALL["ViT"] | {"image_size": 32, "projection_dim": 6}
    tower = libraries.transformers.CLIPVisionModelWithProjection(libraries.transformers.CLIPVisionConfig(**of_tower))
    tower.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    texts = np.random.default_rng(0).normal(size=(3, 6))
    np.save(tmp_path / "texts.npy", texts)
    model = luab_jax.load(f"hf:{tmp_path}", classifier=tmp_path / "texts.npy", classes=tiny.CLASSES)
    images = np.random.default_rng(1).integers(0, 256, (2, 36, 36, 3), np.uint8)
    given = ((images[:, 2:34, 2:34] / 255 - 0.5) / 0.25).astype(np.float32).transpose(0, 3, 1, 2)
    with libraries.torch.no_grad():
        embeddings = tower.eval()(libraries.torch.from_numpy(given)).image_embeds.numpy()
    cosines = embeddings @ texts.T / np.outer(np.linalg.norm(embeddings, axis=1), np.linalg.norm(texts, axis=1))
    np.testing.assert_allclose(model(images), 100 * cosines, atol=1e-3)


def test_weights_and_layers_that_do_not_meet_are_told_in_one_line(tmp_path: Path, libraries: Libraries) -> None:
    """A layer that transformers does not know, layers without weights, and weights without a layer."""
    save_network("ViT", tmp_path, libraries)
    config = json.loads((tmp_path / "config.json").read_text())

    def told_of(**changes: Any) -> str:
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        return told(f"hf:{tmp_path}")

    assert "cannot build ViTForImageClassification of its config.json" in told_of(hidden_act="no_such_layer")
    assert "of ViTForImageClassification's (first vit." in told_of(num_hidden_layers=3)
    assert "cannot build ViTForImageClassification" in told_of(id2label={str(i): str(i) for i in range(7)})
    weights = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    weights["vit.encoder.layer.0.gate.weight"] = np.ones((16, 16), np.float32)
    safetensors.numpy.save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert "no layer for 1 of its weights (first vit." in told_of()
