"""What a notebook calls: images in, logits out; suites on a checkpoint, on a function, and suites of one's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import luab_jax
from luab_jax.data.dataset import open_split
from luab_jax.data.features import Example
from luab_jax.errors import DataError, UserError
from luab_jax.evaluation.answers import Answers
from tests import tiny

NUM_IMAGES = 13
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and the workdir of a run that regresses clicks."""
    folder = tmp_path_factory.mktemp("api")
    data = tiny.prepare_data(folder / "data", num_val=NUM_IMAGES)
    assert luab_jax.train(tiny.experiment(data, total_steps=2), folder / "run") == luab_jax.ExitCode.DONE
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> luab_jax.Model:
    return luab_jax.load(folder / "run")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 24, 30, 3), np.uint8)


def test_the_import_is_quick_and_loads_no_jax() -> None:
    program = """
import sys, time
start = time.perf_counter()
import luab_jax
taken = time.perf_counter() - start
loaded = {name.partition(".")[0] for name in sys.modules}
luab_jax.ExitCode
print(taken, sorted(loaded & {"jax", "numpy", "flax", "grain", "tensorflow", "orbax", "absl", "PIL", "cv2"}))
"""
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": ""}
    command = [sys.executable, "-c", program]
    times = []
    for _ in range(3):  # the machine may be busy
        ended = subprocess.run(command, env=environment, text=True, capture_output=True, check=True)
        taken, loaded = ended.stdout.split(" ", 1)
        assert loaded.strip() == "[]"
        times.append(float(taken))
    assert min(times) < 0.2


def test_every_public_name_is_there() -> None:
    assert all(getattr(luab_jax, name) is not None for name in luab_jax.__all__)
    assert set(luab_jax.__all__) <= set(dir(luab_jax)) and luab_jax.__version__
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        luab_jax.laod  # type: ignore[attr-defined]  # noqa: B018


def test_a_checkpoint_says_what_it_is(model: luab_jax.Model, folder: Path) -> None:
    assert model.config.model.name == "resnet18" and model.config.byproduct.weight == 2.0
    assert model.classes is not None and model.classes.names == ("red", "green", "blue")
    assert model.preprocessing.image_size == tiny.SIDE
    assert (model.name, model.identity["step"], model.identity["dtype"]) == ("run", 2, "float32")
    assert "run" in repr(model)


def test_arrays_paths_and_pil_images_have_the_same_logits(
    model: luab_jax.Model, images: np.ndarray, tmp_path: Path
) -> None:
    expected = model(images)
    assert expected.shape == (3, 3) and expected.dtype == np.float32
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    for given in (paths, [str(path) for path in paths], [Image.fromarray(image) for image in images], list(images)):
        np.testing.assert_array_equal(model(given), expected)
    for given in (paths[0], images[0], Image.fromarray(images[0])):
        np.testing.assert_allclose(model(given), expected[:1], atol=1e-5)
    larger = [images[0], np.zeros((50, 20, 3), np.uint8)]
    assert model(larger).shape == (2, 3) and model([]).shape == (0, 3)


def test_logits_are_those_of_an_evaluation(model: luab_jax.Model, folder: Path) -> None:
    split = open_split(folder / "data", "val")
    examples = [Example(split.records[i]) for i in range(NUM_IMAGES)]
    paths = []
    for number, example in enumerate(examples):
        paths.append(folder / f"{number}.png")
        paths[-1].write_bytes(example.image)
    top1 = np.mean(model(paths).argmax(axis=-1) == [example.label for example in examples])
    results = luab_jax.run_suites(model, folder / "data", "imagenet")
    assert results["imagenet"]["top1"] == pytest.approx(top1)


def test_predicted_points_are_fractions_of_the_image_as_it_was_given(model: luab_jax.Model) -> None:
    """The network sees the centre crop; what it predicts there is moved to the whole image."""
    square = np.random.default_rng(0).integers(0, 256, (tiny.SIDE, tiny.SIDE, 3), np.uint8)
    wide = np.concatenate([np.zeros_like(square), square, np.zeros_like(square)], axis=1)
    in_square, in_wide = model.byproduct(square)[0, 0], model.byproduct(wide)[0, 0]
    assert in_wide == pytest.approx([1 / 3 + in_square[0] / 3, in_square[1]], abs=1e-4)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (3, "a int; expected uint8"),
        (np.zeros((2, 8, 8, 3), np.float32), r"image 0: float32 \(8, 8, 3\); expected uint8"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)], r"image 1: uint8 \(8, 8\)"),
        ("none.png", r"none\.png: cannot be read"),
        ([__file__], r"test_api\.py: "),
        (Image.new("La", (8, 8)), r"image 0: .*pixels of mode La"),
    ],
)
def test_what_is_no_image_is_named(given: object, told: str, model: luab_jax.Model) -> None:
    with pytest.raises(DataError, match=told):
        model(given)


def test_arguments_that_make_no_sense_are_named(folder: Path) -> None:
    run = folder / "run"
    for arguments, told in (
        ({"dtype": "float16"}, "dtype='float16': expected float32 or bfloat16"),
        ({"weights": "average"}, "weights='average': expected raw or ema"),
        ({"imagesize": 3}, "imagesize: no field of the preprocessing"),
        ({"filter": "nearest"}, "filter='nearest'"),
        ({"mean": 0.5}, r"mean=0\.5: expected three numbers"),
        ({"step": 77}, "no checkpoint '77'"),
        ({"timm_size": "train"}, "timm_size='train': checkpoint='.*' is no file"),
        ({"resize_side": 1}, "resize_side=1 is smaller than the crop .*; give both image_size and resize_side"),
    ):
        with pytest.raises(UserError, match=told):
            luab_jax.load(run, **arguments)
    with pytest.raises(UserError, match="did you mean vit_b"):
        luab_jax.recipe("vit_bb")
    assert luab_jax.recipe("vit_b").model.name == "vit_b"


def test_a_model_without_the_head_says_so(folder: Path, model: luab_jax.Model) -> None:
    import dataclasses

    bare = dataclasses.replace(model.loaded.model, heads=())
    with pytest.raises(UserError, match="has no byproduct head"):
        luab_jax.Model(dataclasses.replace(model.loaded, model=bare), model.mesh).byproduct([])


def test_results_are_returned_and_written_as_the_command_writes_them(
    model: luab_jax.Model, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.json"
    results = luab_jax.run_suites(model, folder / "data", "imagenet,cocc,imagenet_a", out)
    assert luab_jax.read_results(out).suites == results.suites
    assert set(results.suites) == {"imagenet", "cocc"} and "imagenet_a" in results.missing
    assert "imagenet_a" in str(results) and "top1" in str(results) and "compiled or loaded" in str(results)
    assert "compiled" not in str(luab_jax.run_suites(model, folder / "data", "imagenet,cocc", out)), "nothing ran"
    with pytest.raises(UserError, match="imagenet_a: no result; it scores ImageNet's"):
        results["imagenet_a"]
    assert "| tiny top1 %" in luab_jax.write_report(out, format="markdown")
    assert luab_jax.write_report([tmp_path], tmp_path / "r.html") == (tmp_path / "r.html").read_text()
    kept = luab_jax.run_suites(model, folder / "data", "imagenet,cocc", predictions=tmp_path / "kept")
    again = luab_jax.run_suites(f"predictions:{tmp_path / 'kept'}", folder / "data", "imagenet,cocc")
    assert again["cocc"]["top1"] == kept["cocc"]["top1"] == results["cocc"]["top1"]
    for file in (tmp_path / "kept").glob("*.centre_*.npz"):
        file.unlink()
    plain = luab_jax.run_suites(f"predictions:{tmp_path / 'kept'}", folder / "data", "imagenet,cocc")
    assert plain["imagenet"]["top1"] == results["imagenet"]["top1"], "that cocc was not predicted costs it nothing"
    assert "no saved predictions of" in plain.missing["cocc"]


def test_a_function_has_the_scores_of_the_network_it_calls(model: luab_jax.Model, folder: Path) -> None:
    """The engine hides the centre of the images: the function knows nothing of it."""
    seen: list[tuple[np.dtype, tuple[int, ...]]] = []

    def logits(images: np.ndarray) -> np.ndarray:
        seen.append((images.dtype, images.shape))
        return model(images)

    options = {"preprocessing": model.preprocessing, "classes": model.classes, "name": "mine", "batch_size": 8}
    results = luab_jax.run_suites(logits, folder / "data", "imagenet,cocc,localisation,byproduct", **options)
    expected = luab_jax.run_suites(model, folder / "data", "imagenet,cocc")
    for suite in ("imagenet", "cocc"):
        assert results[suite]["top1"] == expected[suite]["top1"]
    assert results["cocc"]["top1_black"] == expected["cocc"]["top1_black"]
    assert set(seen) == {(np.dtype(np.uint8), (8, tiny.SIDE, tiny.SIDE, 3))}
    assert "needs a map of where a class is seen" in results.missing["localisation"]
    assert "no byproduct head" in results.missing["byproduct"]
    assert results.file.checkpoint["model"] == "mine"


def test_the_centre_is_hidden_for_a_function_by_black_and_by_the_mean(model: luab_jax.Model, folder: Path) -> None:
    centres: set[tuple[int, ...]] = set()

    def logits(images: np.ndarray) -> np.ndarray:
        centres.update(map(tuple, images[0, 4:12, 4:12].reshape(-1, 3).tolist()))
        return np.zeros((len(images), 3))

    luab_jax.run_suites(
        logits, folder / "data", "cocc", preprocessing=model.preprocessing, classes=model.classes, batch_size=8
    )
    assert centres == {(0, 0, 0), (124, 116, 104)}


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda images: np.zeros((len(images), 7)), r"returned float64 \(8, 7\) .*logits \(8, 3\) are expected"),
        (lambda images: np.full((len(images), 3), "a"), r"returned <U1"),
        (lambda images: np.full((len(images), 3), np.nan), "NaN or infinite"),
    ],
)
def test_outputs_that_are_no_logits_are_told(function: object, told: str, model: luab_jax.Model, folder: Path) -> None:
    options = {"preprocessing": model.preprocessing, "classes": model.classes, "batch_size": 8}
    with pytest.raises(UserError, match=told):
        luab_jax.run_suites(function, folder / "data", "imagenet", **options)


def test_a_function_needs_a_preprocessing_and_a_checkpoint_takes_none(model: luab_jax.Model, folder: Path) -> None:
    with pytest.raises(UserError, match="needs preprocessing="):
        luab_jax.run_suites(lambda images: images, folder / "data")
    with pytest.raises(UserError, match="a checkpoint states its own"):
        luab_jax.run_suites(model, folder / "data", preprocessing=model.preprocessing)


def of_green(parts: dict[str, Answers]) -> dict[str, object]:
    answers = parts["val"]
    green = [image.startswith("green") for image in answers.images]
    share = float(np.mean(answers.right[green]))
    return {"top1_of_green": luab_jax.Score(share, "fraction", luab_jax.Direction.HIGHER), "n": sum(green)}


def test_a_suite_of_ones_own_has_its_own_score(model: luab_jax.Model, folder: Path, tmp_path: Path) -> None:
    parts = {"val": luab_jax.Part((".",), "val")}
    own = luab_jax.Suite("green", parts, luab_jax.Scored(of_green), "top1_of_green", protocol="green ones alone")
    results = luab_jax.run_suites(model, folder / "data", ["imagenet", own], tmp_path / "r.json")
    stored = json.loads((tmp_path / "r.json").read_text())["suites"]["green"]
    assert stored["protocol"] == "green ones alone" and stored["n"] == results["green"].n == 4
    assert stored["scores"]["top1_of_green"]["direction"] == "higher"
    assert "green top1_of_green %" in luab_jax.write_report(tmp_path / "r.json")


@pytest.mark.parametrize("scores", [{"x": 1.0}, {"x": float("nan"), "n": 1}, {"x": 1.0, "n": 1.5}])
def test_a_score_that_cannot_be_kept_costs_its_suite_only(
    scores: dict[str, float], model: luab_jax.Model, folder: Path
) -> None:
    parts = {"val": luab_jax.Part((".",), "val")}
    own = luab_jax.Suite("own", parts, luab_jax.Scored(lambda parts: scores), "x")
    results = luab_jax.run_suites(model, folder / "data", ["imagenet", own])
    assert set(results.suites) == {"imagenet"} and "its score cannot be kept" in results.missing["own"]


def test_the_folder_is_doubted_only_where_no_data_was_found(model: luab_jax.Model, folder: Path) -> None:
    with pytest.raises(UserError, match=r"^no suite could run\nnot run: demo_size: no data .*\nis .* the folder"):
        luab_jax.run_suites(model, folder / "data", "demo_size")
    with pytest.raises(UserError, match=r"^no suite could run\nnot run: imagenet_real: no image .* has ReaL") as error:
        luab_jax.run_suites(model, folder / "data", "imagenet_real")
    assert "the folder" not in str(error.value)


def test_two_suites_of_one_name_are_refused(model: luab_jax.Model, folder: Path) -> None:
    own = luab_jax.Suite("imagenet", {"val": luab_jax.Part((".",), "val")}, luab_jax.Scored(of_green), "x")
    with pytest.raises(UserError, match="needs its own name"):
        luab_jax.run_suites(model, folder / "data", ["imagenet", own])


def test_messages_call_options_as_they_were_given(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From Python as arguments, from a command as flags."""
    from luab_jax.evaluate import main

    with pytest.raises(DataError) as error:
        luab_jax.run_suites(folder / "run", tmp_path / "none")
    assert str(error.value) == f"data='{tmp_path / 'none'}': no such folder"
    given = [f"--checkpoint={folder / 'run'}", f"--data={tmp_path / 'none'}", f"--out={tmp_path / 'r.json'}"]
    assert main(given) == luab_jax.ExitCode.FAILED
    assert f"error: --data={tmp_path / 'none'}: no such folder" in capsys.readouterr().err


def test_weights_are_exported_as_the_command_exports_them(folder: Path, tmp_path: Path) -> None:
    written = luab_jax.export_timm(folder / "run", tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").stat().st_size > 4 * written.num_parameters
    assert (written.name, written.step, written.averaged, written.without_byproduct_head) == ("run", 2, False, True)
    assert written.timm_call is None and "names and layouts are those of its nearest" in str(written)
    with pytest.raises(UserError, match=r"out='w\.pth': the format is safetensors"):
        luab_jax.export_timm(folder / "run", "w.pth")


def test_a_preview_is_drawn_as_the_command_draws_it(folder: Path, tmp_path: Path) -> None:
    size = luab_jax.draw_preview(tiny.experiment(folder / "data"), tmp_path / "batches.png", images=1, crops=1, cell=32)
    with Image.open(tmp_path / "batches.png") as picture:
        assert picture.size == (size.width, size.height)
    with pytest.raises(luab_jax.ConfigError, match=r"out='.*batches\.pdf': expected a file ending in"):
        luab_jax.draw_preview(tiny.experiment(folder / "data"), tmp_path / "batches.pdf")
