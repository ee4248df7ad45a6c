"""Modules of torch: timm's own numbers; what does not fit is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="modules of torch need torch")
timm = pytest.importorskip("timm", reason="timm's networks need timm")

import safetensors.torch  # noqa: E402

import luab_jax  # noqa: E402
from luab_jax.errors import CheckpointError, UserError  # noqa: E402
from luab_jax.foreign.torch_module import timm_preprocessing  # noqa: E402
from tests import tiny  # noqa: E402

torch.set_num_threads(1)  # several wait for each other where the tests of other files run beside these

NAME = "resnet18.tv_in1k"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of timm's ResNet-18 with three classes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    module = timm.create_model(NAME, pretrained=False, num_classes=3)
    safetensors.torch.save_file(module.state_dict(), path)
    torch.save(module.state_dict(), path.with_suffix(".pth"))
    return path


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def test_logits_and_preprocessing_are_timms(weights: Path, images: np.ndarray) -> None:
    options = {"classes": tiny.CLASSES, "image_size": 64, "resize_side": 64}
    model = luab_jax.load(f"torch:timm/{NAME}:{weights}", **options)
    module = timm.create_model(NAME, pretrained=False, num_classes=3).eval()
    module.load_state_dict(safetensors.torch.load_file(weights))
    mean, std = np.asarray(model.preprocessing.mean), np.asarray(model.preprocessing.std)
    with torch.no_grad():
        given = torch.from_numpy(((images / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2))
        expected = module(given).numpy()
    np.testing.assert_allclose(model(images), expected, atol=1e-5 * np.abs(expected).max())
    stated = timm_preprocessing(NAME, timm.data.resolve_data_config({}, model=module, use_test_size=True))
    assert (stated.image_size, stated.resize_side, stated.filter.value) == (224, 256, "bilinear")


def test_where_the_last_layer_is_linear_on_the_mean_there_are_activation_maps(weights: Path, tmp_path: Path) -> None:
    """Their mean and the bias are the logit."""
    model = luab_jax.load(f"torch:timm/{NAME}:{weights}", classes=tiny.CLASSES, image_size=64, resize_side=64)
    assert isinstance(model, luab_jax.ForeignModel) and model.loaded.maps is not None
    image = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), np.uint8)
    maps = np.asarray(model.loaded.maps(model.loaded.feed(image), np.asarray([1, 2])))
    bias = safetensors.torch.load_file(weights)["fc.bias"].numpy()
    logits = model(image)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)) + bias[[1, 2]], logits[[0, 1], [1, 2]], rtol=1e-4, atol=1e-4)
    data = tiny.prepare_split(tmp_path, "val", 5)
    results = luab_jax.run_suites(model, data, "localisation", batch_size=8)
    assert results["localisation"].details["map"] == "class_activation_map"


def test_pickled_weights_are_read_only_if_they_are_trusted(weights: Path, images: np.ndarray, tmp_path: Path) -> None:
    pickled = f"torch:timm/{NAME}:{weights.with_suffix('.pth')}"
    options = {"classes": tiny.CLASSES, "image_size": 64, "resize_side": 64}
    with pytest.raises(CheckpointError, match="is pickled, and unpickling can run any code"):
        luab_jax.load(pickled, **options)
    trusted = luab_jax.load(pickled, trust=True, **options)
    np.testing.assert_array_equal(trusted(images), luab_jax.load(f"torch:timm/{NAME}:{weights}", **options)(images))


@pytest.mark.parametrize(
    ("checkpoint", "told"),
    [
        ("torch:timm/resnet18_none:{weights}", "timm has no model 'resnet18_none'"),
        ("torch:timm/resnt18", "timm has no model 'resnt18'; did you mean resnet18"),
        ("torch:timm/resnet34.tv_in1k:{weights}", "timm cannot load it"),
        ("torch:timm/resnet18.tv_in1k:{weights}.none.safetensors", "cannot be read"),
        ("torch:tests.tiny:draw", "failed"),
        ("torch:tests.tiny", "has no function|expected torch:MODULE:FUNCTION|cannot be imported"),
    ],
)
def test_what_is_no_module_is_told_in_one_line(checkpoint: str, told: str, weights: Path) -> None:
    with pytest.raises(UserError, match=told) as error:
        luab_jax.load(checkpoint.format(weights=weights), classes=tiny.CLASSES)
    assert "\n" not in str(error.value)
