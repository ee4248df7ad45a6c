"""What besides model and data decides a score, of suites of one's own as of those that are here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from luab_jax.config import MeshConfig
from luab_jax.data.pipeline import Reading
from luab_jax.data.transforms import Preprocessing
from luab_jax.data.watermark import Font, laid_on
from luab_jax.distributed import sharding
from luab_jax.evaluation import runner
from luab_jax.evaluation.accumulator import Evaluated, Predicts
from luab_jax.evaluation.function_predictor import FunctionPredictor
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.results import Results
from luab_jax.evaluation.saved_predictions import SavedModel
from luab_jax.evaluation.scores.classification import top_k
from luab_jax.evaluation.suite import Need, Part, Procedure, Scored, Suite, View
from luab_jax.foreign.model import FunctionModel
from luab_jax.results.format import Suite as Result
from luab_jax.results.text import notes
from tests import tiny
from tests.data.test_watermark import pillows_own
from tests.foreign.made import native

FONT = pillows_own()
OTHER = Font(FONT.data + b" ", "other")
MINE = Suite("mine", {"val": Part((".",), "val", View.WATERMARK)}, Scored(lambda parts: top_k(parts["val"])), "top1")
"""States no need: its part does."""
(IMAGENET,) = runner.choose_suites("imagenet")
STATED = Preprocessing(image_size=32, resize_side=32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_split(tmp_path_factory.mktemp("data"), "val", 9)


def model(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32).mean(axis=(1, 2))


def of_function(font: Font | None, stated: Preprocessing = STATED) -> FunctionPredictor:
    function = FunctionModel(model, stated, "mean", tiny.CLASSES)
    return FunctionPredictor(function, 4, Reading(num_threads=1), font=font)


def evaluate(
    predictor: FunctionPredictor | SavedModel,
    data: Path,
    *suites: Suite,
    out: Path | None = None,
    keep: Path | None = None,
) -> tuple[dict[str, Result], dict[str, str]]:
    """Results, and why others are missing."""
    loaded: Evaluated = predictor if isinstance(predictor, SavedModel) else predictor.loaded
    asked: Predicts = predictor
    results = Results(out, loaded)
    missing = runner.evaluate(loaded, asked, data, suites, results, keep)
    return results.suites, {entry.suite.name: entry.reason for entry in missing}


def test_a_suite_of_ones_own_under_a_watermark_knows_its_font(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    results, missing = evaluate(of_function(None), data, MINE, IMAGENET, out=out)
    assert set(results) == {"imagenet"} and "has no font for it; give it with font=" in missing["mine"]
    first = evaluate(of_function(FONT), data, MINE, out=out)[0]["mine"]
    assert first.details["font"] == "pillows" and "font pillows" in notes(first)
    kept = evaluate(of_function(FONT), data, MINE, out=out)[0]["mine"]
    assert kept == first, "with its seconds: it did not run again"
    assert evaluate(of_function(OTHER), data, MINE, out=out)[0]["mine"].details["font"] == "other"
    assert evaluate(of_function(None), data, MINE, out=out)[0]["mine"].details["font"] == "other"


def test_a_result_that_does_not_say_its_font_is_made_again(data: Path, tmp_path: Path) -> None:
    out, predictor = tmp_path / "results.json", of_function(FONT)
    results = Results(out, predictor.loaded)
    runner.evaluate(predictor.loaded, predictor, data, [MINE], results)
    del results.suites["mine"].details["font"]
    runner.evaluate(predictor.loaded, predictor, data, [MINE], results)
    assert results.suites["mine"].details["font"] == "pillows"


def test_a_procedure_that_makes_maps_has_their_kind_in_its_result(data: Path) -> None:
    own = Suite(
        "own_maps", {"val": Part((".",), "val")}, Procedure(lambda *_: {"n": 1}), "top1", needs=frozenset({Need.MAP})
    )
    predictor = of_function(None)
    predictor.loaded = dataclasses.replace(predictor.loaded, maps=lambda images, _: images[..., 0], map_kind="red")
    assert evaluate(predictor, data, own)[0]["own_maps"].details["map"] == "red"


def test_an_input_too_small_for_the_mark_costs_no_other_suite(data: Path) -> None:
    small = Preprocessing(image_size=6, resize_side=6)
    results, missing = evaluate(of_function(FONT, small), data, MINE, IMAGENET)
    assert set(results) == {"imagenet"} and "not drawn on an input of 6 px" in missing["mine"]


def test_predictions_under_two_fonts_are_told_apart_by_their_data(data: Path, tmp_path: Path) -> None:
    keep, more = tmp_path / "kept", tiny.prepare_split(tmp_path / "more", "val", 10)
    evaluate(of_function(None), data, IMAGENET, keep=keep)
    missing = evaluate(SavedModel(keep), data, MINE)[1]["mine"]
    assert "predict the images under it, with predictions='DIR' and font='SourceHanSerif" in missing
    drawn = evaluate(of_function(FONT), data, MINE, keep=keep)[0]["mine"]
    evaluate(of_function(OTHER), more, MINE, keep=keep)
    results, missing = evaluate(SavedModel(keep), data, MINE, IMAGENET)
    assert set(results) == {"mine", "imagenet"} and not missing
    assert results["mine"].details["font"] == "pillows" and results["mine"]["top1"] == drawn["top1"]
    assert evaluate(SavedModel(keep), more, MINE)[0]["mine"].details["font"] == "other"
    both = Suite(
        "both",
        {"a": Part((data.name,), "val", View.WATERMARK), "b": Part((more.name,), "val", View.WATERMARK)},
        MINE.method,
        "top1",
    )
    (tmp_path / "all").mkdir()
    for part in (data, more):
        (tmp_path / "all" / part.name).symlink_to(part)
    told = evaluate(SavedModel(keep), tmp_path / "all", both)[1]["both"]
    assert told == "both: its predictions under a watermark are of fonts other and pillows"


def test_a_network_sees_the_watermark_that_is_laid_on_pixels() -> None:
    loaded = native()
    predictor = Predictor(loaded, sharding.make_mesh(MeshConfig()), 8, Reading(num_threads=1), font=FONT)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    under, _ = predictor.outputs_of(predictor.place(images), View.WATERMARK)
    marked = laid_on(images, predictor.mark(32))
    expected, _ = predictor.outputs_of(predictor.place(marked), View.PLAIN)
    assert np.array_equal(np.asarray(under), np.asarray(expected)) and (marked != images).any()
    plain, _ = predictor.outputs_of(predictor.place(images), View.PLAIN)
    assert not np.array_equal(np.asarray(under), np.asarray(plain)) and predictor.num_programs == 1
