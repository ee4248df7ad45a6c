"""An ONNX file has the numbers of the network that it was made of, and what cannot be scored is told in one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import luab_jax
from luab_jax.checkpoints.loaded import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data.class_lists import imagenet
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, DataError, UserError
from luab_jax.evaluate import main as evaluate
from tests import tiny
from tests.foreign.made import PREPROCESSING, SIDE, native, onnx_file

pytest.importorskip("onnxruntime", reason="ONNX files are run by onnxruntime")
pytest.importorskip("onnx", reason="ONNX files are made by the package onnx")


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return native()


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classes") / "classes.txt"
    path.write_text("\n".join(tiny.CLASSES.ids))
    return path


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def expected(loaded: LoadedModel, images: np.ndarray) -> np.ndarray:
    """By the native network, of pixels normalised as documented."""
    mean, std = np.asarray(PREPROCESSING.mean), np.asarray(PREPROCESSING.std)
    normalised = ((images / 255 - mean) / std).astype(np.float32)
    apply = jax.jit(lambda x: loaded.model.apply(loaded.params, loaded.batch_stats, x, train=False)[0].logits)
    return np.asarray(apply(normalised))


@pytest.mark.parametrize(
    ("made", "given", "tolerance"),
    [
        ({}, {}, 1e-5),
        ({"batch": 1}, {}, 1e-5),
        ({"layout": "nhwc"}, {}, 1e-5),
        ({"external": True}, {}, 1e-5),
        ({"dtype": "float16"}, {}, 2e-2),
        ({"channels": "colour", "side": "any"}, {"layout": "nchw", "image_size": SIDE}, 1e-5),
        ({"softmax": True}, {"outputs": "probabilities"}, 1e-5),
    ],
)
def test_logits_are_those_of_the_native_network(
    made: dict[str, Any],
    given: dict[str, Any],
    tolerance: float,
    loaded: LoadedModel,
    images: np.ndarray,
    expected: np.ndarray,
    tmp_path: Path,
) -> None:
    path = onnx_file(tmp_path / "tiny.onnx", loaded, **made)
    model = luab_jax.load(f"onnx:{path}", classes=tiny.CLASSES, resize_side=SIDE, **given)
    wanted = expected
    if made.get("softmax"):  # of logits that differ by a constant
        wanted = expected - np.log(np.exp(expected).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(model(images), wanted, atol=tolerance * np.abs(expected).max())
    assert model.identity["dtype"] == made.get("dtype", "float32")


def test_a_model_of_bgr_is_fed_bgr(
    loaded: LoadedModel, images: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    stem = dict(loaded.params["backbone"]["stem"])
    stem["conv"] = {"kernel": stem["conv"]["kernel"][:, :, ::-1]}
    turned = loaded.params | {"backbone": loaded.params["backbone"] | {"stem": stem}}
    path = onnx_file(tmp_path / "bgr.onnx", dataclasses.replace(loaded, params=turned))
    options = {"classes": tiny.CLASSES, "resize_side": SIDE}
    right = luab_jax.load(f"onnx:{path}", channels="bgr", **options)
    np.testing.assert_allclose(right(images), expected, atol=1e-5 * np.abs(expected).max())
    wrong = luab_jax.load(f"onnx:{path}", **options)
    assert np.abs(wrong(images) - expected).max() > 0.01 and wrong.identity != right.identity


def test_every_suite_scores_it_as_the_native_network(loaded: LoadedModel, classes: Path, tmp_path: Path) -> None:
    """By the command, occlusions after normalisation among them; what it cannot give is told in one line."""
    data = tiny.prepare_split(tmp_path / "data", "val", 13)
    path = onnx_file(tmp_path / "tiny.onnx", loaded)
    out = tmp_path / "results.json"
    arguments = [f"--checkpoint=onnx:{path}", f"--classes={classes}", f"--data={data}", f"--out={out}"]
    assert evaluate([*arguments, "--batch_size=8"]) == 0
    found = luab_jax.read_results(out)
    model = luab_jax.Model(loaded, sharding.make_mesh(MeshConfig()))
    ours = luab_jax.run_suites(model, data, "imagenet,cocc", batch_size=8)
    for suite in ("imagenet", "cocc"):
        for name, entry in ours[suite].scores.items():
            assert found.suites[suite].scores[name].value == pytest.approx(entry.value, rel=1e-4), (suite, name)
    assert set(found.suites) == {"imagenet", "cocc"}
    assert found.checkpoint["target"] == "onnx" and found.name == "tiny"
    assert luab_jax.run_suites(luab_jax.load(f"onnx:{path}", classes=classes), data, "imagenet", out).suites


def test_localisation_by_occlusion_is_by_name(loaded: LoadedModel, tmp_path: Path) -> None:
    data = tiny.prepare_split(tmp_path / "data", "val", 5)
    model = luab_jax.load(f"onnx:{onnx_file(tmp_path / 'tiny.onnx', loaded)}", classes=tiny.CLASSES)
    with pytest.raises(UserError, match=r"localisation: it needs a map .*maps='rise' makes one"):
        luab_jax.run_suites(model, data, "localisation")
    found = luab_jax.run_suites(model, data, "localisation", maps="rise:24", batch_size=8)
    assert found["localisation"].details["map"] == "rise_24"
    for maps in ("cam", "rise:0", "rise:many"):
        with pytest.raises(UserError, match=f"maps='{maps}': expected rise"):
            luab_jax.run_suites(model, data, "localisation", maps=maps)


@pytest.mark.parametrize(
    ("made", "given", "told"),
    [
        ({"softmax": True}, {}, r"its outputs are probabilities .* say outputs='probabilities'"),
        ({}, {"outputs": "probabilities"}, "rows of its outputs do not add up to 1"),
        ({"scale": float("nan")}, {}, "its outputs for drawn images are NaN or infinite"),
        ({"dtype": "float16", "scale": 1e4}, {}, r"NaN or infinite; it .* overflows in its type"),
        ({}, {"classes": None}, r"has 3 outputs, ImageNet's classes are 1,000; classes='FILE' says"),
        ({}, {"classes": imagenet()}, "has 3 outputs, the stated class list has 1,000 classes"),
        ({"channels": "colour", "side": "any"}, {}, "does not say which axis is colour; say layout='nchw'"),
        ({"channels": 1}, {}, r"its input is \['batch', 1, 16, 16\]; expected images"),
        ({}, {"layout": "nhwc"}, "layout='nhwc', but its input is"),
        ({}, {"image_size": 32, "resize_side": 32}, "image_size=32, but its input is"),
        ({}, {"step": 3}, "step, weights, dtype and timm_size are those of a run"),
        ({}, {"resize_side": 8}, "resize_side=8 is smaller than the crop of 16"),
        ({}, {"classes": "nowhere.txt"}, "nowhere.txt: no such file; expected a class list"),
    ],
)
def test_what_cannot_be_scored_is_told_in_one_line(
    made: dict[str, Any], given: dict[str, Any], told: str, loaded: LoadedModel, tmp_path: Path
) -> None:
    path = onnx_file(tmp_path / "tiny.onnx", loaded, **made)
    with pytest.raises(UserError, match=told) as error:
        luab_jax.load(f"onnx:{path}", **({"classes": tiny.CLASSES} | given))
    assert "\n" not in str(error.value)


def test_files_that_are_no_models_are_told(loaded: LoadedModel, tmp_path: Path) -> None:
    whole = onnx_file(tmp_path / "tiny.onnx", loaded).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.onnx").write_text("no model at all")
    onnx_file(tmp_path / "apart.onnx", loaded, external=True)
    (tmp_path / "apart.onnx.data").unlink()
    for name, told in (
        ("none.onnx", "cannot be read"),
        ("cut.onnx", "not a file of ONNX"),
        ("text.onnx", "not a file of ONNX"),
        ("apart.onnx", "its weights are in apart.onnx.data, which is not beside it"),
    ):
        with pytest.raises(CheckpointError, match=told):
            luab_jax.load(f"onnx:{tmp_path / name}", classes=tiny.CLASSES)


def test_weights_in_another_file_are_part_of_the_identity(loaded: LoadedModel, tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "tiny.onnx", loaded, external=True)
    first = luab_jax.load(f"onnx:{path}", classes=tiny.CLASSES)
    onnx_file(tmp_path / "tiny.onnx", loaded, external=True, scale=2)
    assert luab_jax.load(f"onnx:{path}", classes=tiny.CLASSES).identity != first.identity


def test_the_options_of_models_of_others_are_refused_for_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="channels, trust: for models of others alone"):
        luab_jax.load(tmp_path, channels="bgr", trust=True)
    with pytest.raises(UserError, match="missing after onnx:"):
        luab_jax.load("onnx:")
    with pytest.raises(DataError, match="cannot be read"):
        luab_jax.load(f"onnx:{onnx_file(tmp_path / 'a.onnx', native())}", classifier=tmp_path / "none.npy")
