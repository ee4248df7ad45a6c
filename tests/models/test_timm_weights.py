"""timm's names without timm: there and back, what does not fit, files that are none."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from luab_jax.models.config import ModelConfig, Pool, Stem
from luab_jax.models.functional import Model, create_model
from luab_jax.models.timm_models import timm_call
from luab_jax.models.timm_weights import (
    from_timm,
    load_timm,
    num_classes,
    read_weights,
    save_timm,
    to_timm,
    without_wrappers,
)
from tools.miniatures import random_params


def tiny(name: str = "resnet18", *, image_size: int = 32) -> Model:
    small = {"width": 4, "stage_sizes": (1, 1)} if name.startswith("resnet") else {"embed_dim": 12, "depth": 1}
    return create_model(ModelConfig(name=name, **small), num_classes=3, image_size=image_size, byproduct_shape=(1, 2))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vit_ti"])
def test_a_file_gives_back_every_bit_but_the_byproduct_head(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    params, batch_stats = random_params(model)
    save_timm(tmp_path / "w.safetensors", model, params, batch_stats)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    params.pop("byproduct_head")
    again = load_timm(tmp_path / "w.safetensors", model)
    assert jax.tree.structure(again) == jax.tree.structure((params, batch_stats))
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves((params, batch_stats)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_without_a_classifier_can_be_read_as_such() -> None:
    model = tiny()
    weights = to_timm(model, *random_params(model))
    assert num_classes(weights) == 3
    bare = {name: array for name, array in weights.items() if not name.startswith("fc.")}
    assert num_classes(bare) is None
    assert set(from_timm(model, bare, classifier=False)[0]) == {"backbone"}
    with pytest.raises(ValueError, match=r"2 missing: fc\.bias, fc\.weight"):
        from_timm(model, bare)


def test_all_mismatches_are_told_at_once(tmp_path: Path) -> None:
    model = tiny()
    weights = to_timm(model, *random_params(model))
    weights["fc.weight"] = weights["fc.weight"][:2]
    weights["head.weight"] = weights.pop("conv1.weight")
    with pytest.raises(ValueError) as caught:
        from_timm(model, weights)
    for words in (
        "1 missing: conv1.weight",
        "1 unexpected: head.weight",
        "1 of another shape: fc.weight (2, 8) where the model has (3, 8)",
    ):
        assert words in str(caught.value)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"torn\.safetensors is not a readable"):
        load_timm(torn, model)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(name="resnet18", width=4),
        ModelConfig(name="resnet50", stem=Stem.SMALL),
        ModelConfig(name="vit_s", depth=2),
    ],
)
def test_a_network_that_timm_has_under_no_name_has_no_call(config: ModelConfig) -> None:
    assert timm_call(config, num_classes=3, image_size=64) is None


def test_the_call_says_what_differs_from_timms_defaults() -> None:
    assert timm_call(ModelConfig(name="resnet50"), num_classes=80, image_size=64) == (
        "create_model('resnet50', num_classes=80)"
    )
    vit = ModelConfig(name="vit_b", patch_size=32, pool=Pool.MEAN)
    assert timm_call(vit, num_classes=3, image_size=384) == (
        "create_model('vit_base_patch16_224', num_classes=3, img_size=384, patch_size=32, global_pool='avg')"
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_weights_of_another_precision_are_read_as_float32(dtype: type, tmp_path: Path) -> None:
    """numpy knows nothing of bfloat16."""
    model = tiny()
    weights = {name: array.astype(dtype) for name, array in to_timm(model, *random_params(model)).items()}
    safetensors.numpy.save_file(weights, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors")
    assert all(array.dtype == np.float32 for array in found.values())
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name], array.astype(np.float32))
    from_timm(model, found)


def written(path: Path, dtype: str, num_bytes: int) -> Path:
    """A safetensors file of one array of 8 elements, by hand."""
    header = json.dumps({"fc.weight": {"dtype": dtype, "shape": [8], "data_offsets": [0, num_bytes]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(num_bytes))
    return path


@pytest.mark.parametrize(("dtype", "num_bytes"), [("F8_E4M3", 8), ("F8_E5M2", 8), ("I4", 4), ("C64", 64), ("Q7", 8)])
def test_weights_of_other_types_are_refused_in_one_line_that_names_type_and_array(
    dtype: str, num_bytes: int, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=dtype) as caught:
        read_weights(written(tmp_path / "w.safetensors", dtype, num_bytes))
    assert "w.safetensors" in str(caught.value) and "\n" not in str(caught.value)


class Armed:
    """Unpickling it would leave a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickled_file_is_never_unpickled(zipped: bool, tmp_path: Path) -> None:
    """Of torch before 1.6 and since."""
    path, trap = tmp_path / "w.safetensors", tmp_path / "unpickled"
    pickled = pickle.dumps(Armed(trap), protocol=2)
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
    else:
        path.write_bytes(pickled)
    with pytest.raises(ValueError, match=r"torch\.save.*save_file"):
        read_weights(path)
    assert not trap.exists()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_the_prefix_of_a_wrapper_is_taken_off_and_named(prefix: str) -> None:
    weights = to_timm(tiny(), *random_params(tiny()))
    found, named = without_wrappers({prefix + name: array for name, array in weights.items()})
    assert (found.keys(), named) == (weights.keys(), prefix)
    assert without_wrappers(weights) == (weights, "")
    assert without_wrappers({}) == ({}, "")


def test_a_prefix_that_is_no_wrappers_is_named_where_the_weights_do_not_fit() -> None:
    model = tiny()
    weights = to_timm(model, *random_params(model))
    with pytest.raises(ValueError, match=r"names begin with 'net\.encoder\.'"):
        from_timm(model, {f"net.encoder.{name}": array for name, array in weights.items()})
    with pytest.raises(ValueError, match=r"names begin with 'model\.'"):
        from_timm(model, {"epoch": np.zeros(1)} | {f"model.{name}": array for name, array in weights.items()})
