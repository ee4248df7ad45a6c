"""`python:MODULE:FUNCTION`: what a user's function returns is scored, and what fails in it is told with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luab_jax
from luab_jax.errors import CheckpointError, UserError
from luab_jax.evaluation.rise import Rise
from tests import tiny

MODULE = """
import numpy as np
import luab_jax

CLASSES = luab_jax.ClassList(("red", "green", "blue"), ("red", "green", "blue"))
PREPROCESSING = luab_jax.Preprocessing(image_size=16, resize_side=16)

def brightest(images):
    assert images.dtype == np.uint8 and images.shape[1:] == (16, 16, 3)
    return images.max(axis=(1, 2)).astype(np.float32)

def model():
    return luab_jax.FunctionModel(brightest, PREPROCESSING, classes=CLASSES)

def planes():
    def of_planes(images):
        assert images.dtype == np.float16 and images.shape == (2, 3, 16, 16)
        return images.max(axis=(2, 3))
    def maps(images, labels):
        return images[np.arange(len(images)), labels].astype(np.float32)
    planes = luab_jax.InputFormat(dtype="float16", layout=luab_jax.Layout.NCHW)
    return luab_jax.FunctionModel(
        of_planes, PREPROCESSING, classes=CLASSES, input=planes, batch_size=2, maps=maps, map_kind="channel")

def turned():
    # In another order than the classes, and one more.
    def function(images):
        return np.concatenate([brightest(images)[:, ::-1], np.full((len(images), 1), 999, np.float32)], axis=1)
    return luab_jax.FunctionModel(function, PREPROCESSING, classes=CLASSES, columns=np.array([2, 1, 0]))

def otherwise_turned():
    return luab_jax.FunctionModel(turned().function, PREPROCESSING, classes=CLASSES, columns=np.array([0, 1, 2]))

def beyond():
    return luab_jax.FunctionModel(brightest, PREPROCESSING, classes=CLASSES, columns=np.array([0, 1, 3]))

def maps_raise():
    def maps(images, labels):
        raise ValueError("no gradient" + chr(10) + "anywhere")
    return luab_jax.FunctionModel(brightest, PREPROCESSING, classes=CLASSES, maps=maps, map_kind="bad")

def maps_of_words():
    def maps(images, labels):
        return ["a map"] * len(images)
    return luab_jax.FunctionModel(brightest, PREPROCESSING, classes=CLASSES, maps=maps, map_kind="bad")

def plain():
    return brightest, PREPROCESSING

def alone():
    return brightest

def fails():
    return (lambda images: images @ images), PREPROCESSING

def one_by_one():
    return (lambda images: brightest(images)[:1]), PREPROCESSING

def only_one():
    def function(images):
        assert len(images) == 1
        return brightest(images)
    return function, PREPROCESSING

def raises():
    raise OSError("weights are not there")
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("module") / "of_users.py"
    path.write_text(MODULE)
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_split(tmp_path_factory.mktemp("data"), "val", 13)


def test_a_function_that_is_right_is_scored_right(module: str, data: Path) -> None:
    """The class of a drawn image is its brightest channel."""
    model = luab_jax.load(f"python:{module}:model")
    results = luab_jax.run_suites(model, data, "all", batch_size=8)
    assert results["imagenet"]["top1"] == 1.0
    assert results.file.checkpoint["source_hash"] and model.name == "model"
    assert "needs a map" in results.missing["localisation"]


def test_planes_in_half_precision_and_batches_of_two_come_as_they_are_stated(module: str, data: Path) -> None:
    """The function asserts them; its maps find the bright square."""
    results = luab_jax.run_suites(luab_jax.load(f"python:{module}:planes"), data, "all", batch_size=8)
    assert results["imagenet"]["top1"] == 1.0
    assert results["localisation"].details["map"] == "channel"
    assert results["localisation"]["max_box_acc_v2"] > 0.5
    assert results.file.checkpoint["input"] == {"dtype": "float16", "layout": "nchw", "channels": "rgb"}


@pytest.mark.parametrize(
    ("name", "told"),
    [("maps_raise", "ValueError: no gradient anywhere, of_users.py line"), ("maps_of_words", "its maps are no array")],
)
def test_maps_that_fail_cost_other_suites_nothing(name: str, told: str, module: str, data: Path) -> None:
    results = luab_jax.run_suites(luab_jax.load(f"python:{module}:{name}"), data, "all", batch_size=8)
    assert results["imagenet"]["top1"] == 1.0
    assert told in results.missing["localisation"] and "\n" not in results.missing["localisation"]


def test_maps_of_two_kinds_are_not_mixed(
    module: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither with what an interrupted evaluation kept, nor is a finished result taken for that of other maps."""
    model = luab_jax.load(f"python:{module}:model")

    def run(masks: int, out: Path | None) -> luab_jax.SuiteResults:
        return luab_jax.run_suites(
            model, data, "localisation", out, maps=f"rise:{masks}", batch_size=4, examples=0, num_threads=1
        )

    fresh = run(3, None)["localisation"]
    out, calls, maps = tmp_path / "results.json", [], Rise.maps

    def interrupted(self: Rise, *arguments: Any) -> np.ndarray:
        calls.append(self.num_masks)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return maps(self, *arguments)

    monkeypatch.setattr(Rise, "maps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(2, out)
    assert list(tmp_path.glob("results.json.unfinished/*"))
    assert run(3, out)["localisation"].scores == fresh.scores
    assert calls.count(3) == 13, "every image by itself: three masks are most of a batch of four"
    assert run(2, out)["localisation"].details["map"] == "rise_2"
    assert run(3, out)["localisation"].scores == fresh.scores
    num_calls = len(calls)
    assert run(3, out)["localisation"].scores == fresh.scores and len(calls) == num_calls
    kept = luab_jax.run_suites(model, data, "localisation", out, examples=0)["localisation"]
    assert kept.details["map"] == "rise_3", "a model without maps keeps what there is"


def test_a_changed_module_is_another_checkpoint(module: str, tmp_path: Path) -> None:
    other = tmp_path / "of_users.py"
    other.write_text(MODULE + "\n# changed\n")
    first, second = (luab_jax.load(f"python:{path}:model").identity for path in (module, other))
    assert first["source_hash"] != second["source_hash"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("plain", r"has 3 outputs, ImageNet's classes are 1,000"),
        ("alone", r"returned a function; expected \(function, Preprocessing\)"),
        ("fails", r"failed on uint8 \(4, 16, 16, 3\) \(ValueError: .*of_users.py line"),
        ("one_by_one", r"returned float32 \(1, 3\) for uint8 \(4, .*; it takes one image at a time: return luab_jax"),
        (
            "only_one",
            r"failed.*AssertionError.*; it takes one image at a time: return luab_jax\.FunctionModel\(.*size=1",
        ),
        ("raises", "failed.*OSError: weights are not there, of_users.py line"),
        ("no_such", "has no function no_such; it has .*brightest"),
        ("", "expected python:MODULE:FUNCTION"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(name: str, told: str, module: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        luab_jax.load(f"python:{module}:{name}")
    assert "\n" not in str(error.value)


def test_modules_that_cannot_be_imported_are_told() -> None:
    with pytest.raises(UserError, match=r"no_such_module cannot be imported \(ModuleNotFoundError: [^,]*\)$"):
        luab_jax.load("python:no_such_module:model")
    with pytest.raises(UserError, match=r"there is no file none\.py"):
        luab_jax.load("python:none.py:model")
    assert issubclass(CheckpointError, UserError)


def test_the_line_is_told_of_a_module_in_a_folder_that_is_called_as_the_package(tmp_path: Path) -> None:
    folder = tmp_path / "luab_jax" / "mine"
    folder.mkdir(parents=True)
    (folder / "of_users.py").write_text(MODULE)
    with pytest.raises(UserError, match=r"weights are not there, of_users\.py line \d+"):
        luab_jax.load(f"python:{folder / 'of_users.py'}:raises")


def test_text_embeddings_classify_image_embeddings(module: str, data: Path, tmp_path: Path) -> None:
    """Three embeddings that each are one channel: the nearest by angle is the brightest."""
    np.save(tmp_path / "texts.npy", np.eye(3) * [[1.0], [2.0], [3.0]])
    model = luab_jax.load(f"python:{module}:model", classifier=tmp_path / "texts.npy")
    assert luab_jax.run_suites(model, data, "imagenet")["imagenet"]["top1"] == 1.0
    assert model.identity["classifier_hash"]
    np.testing.assert_allclose(np.linalg.norm(model(np.full((1, 16, 16, 3), 9, np.uint8))), 100, rtol=1e-5)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.eye(3, 5), "gives embeddings of 3 numbers, those of classifier=.* have 5"),
        (np.zeros((3, 3)), "a row is zero, NaN or infinite"),
        (np.zeros(3), r"holds float64 \(3,\); expected text embeddings"),
        (np.asarray([{"a": 1}]), "not a file of numpy.save .*allow_pickle"),
    ],
)
def test_text_embeddings_that_will_not_do_are_told(values: np.ndarray, told: str, module: str, tmp_path: Path) -> None:
    np.save(tmp_path / "texts.npy", values, allow_pickle=True)
    with pytest.raises(UserError, match=told):
        luab_jax.load(f"python:{module}:model", classifier=tmp_path / "texts.npy")


def test_the_columns_that_an_author_states_are_scored(module: str, tmp_path: Path) -> None:
    data = tiny.prepare_split(tmp_path / "data", "val", 6)
    names = ("model", "turned", "otherwise_turned")
    plain, turned, other = (luab_jax.load(f"python:{module}:{name}") for name in names)
    scores = [luab_jax.run_suites(model, data, "imagenet", examples=0)["imagenet"]["top1"] for model in (plain, turned)]
    assert scores[0] == scores[1] == 1
    assert turned.identity["columns"].startswith("3 of 4, ") and turned.identity["columns"] != other.identity["columns"]
    with pytest.raises(UserError, match="has columns, the outputs of its classes; leave classes out"):
        luab_jax.load(f"python:{module}:turned", classes=tiny.CLASSES)
    with pytest.raises(UserError, match="columns name output 3, and there are 3, counted from 0"):
        luab_jax.load(f"python:{module}:beyond")


@pytest.mark.parametrize("columns", [[0, 1], [0, 1, 1], [0, 1, -1], [0.0, 1.0, 2.0], [[0], [1], [2]]])
def test_columns_that_are_no_output_for_each_class_are_refused(columns: Any) -> None:
    preprocessing = luab_jax.Preprocessing(image_size=16, resize_side=16)
    with pytest.raises(UserError, match="FunctionModel: columns"):
        luab_jax.FunctionModel(np.ones, preprocessing, "ones", classes=tiny.CLASSES, columns=np.array(columns))
