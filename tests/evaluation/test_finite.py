"""A model whose outputs are not finite has no score in any suite, and the reason names it and an image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.checkpoints.load import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data.dataset import open_split
from luab_jax.data.features import Example
from luab_jax.data.pipeline import Reading
from luab_jax.data.transforms import Preprocessing
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError
from luab_jax.evaluation import procedures, runner
from luab_jax.evaluation.finite import check_finite
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.results import Results
from luab_jax.evaluation.saved_predictions import SavedModel
from luab_jax.evaluation.suite import Suite, View
from luab_jax.foreign.model import FunctionModel
from tools.miniatures import Miniatures, tiny_model

NOT_HERE = {"byproduct", "coco", "coco_context", "imagenet_w_generated"}
"""For models with a head, of sets of labels, or with a font to draw with."""


def has_data(suite: Suite, data: Path) -> bool:
    """Whether there is a miniature of it."""
    parts = [part for part in suite.parts.values() if not part.optional]
    return all(runner.find_part(data, part) is not None for part in parts)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_model()


@pytest.fixture(scope="module")
def miniatures(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Miniatures:
    return Miniatures(tmp_path_factory.mktemp("raw"), loaded)


def diverged(loaded: LoadedModel, part: str = "classifier") -> LoadedModel:
    spoilt = jax.tree.map(lambda values: values * jnp.nan, loaded.params[part])
    return dataclasses.replace(loaded, params=loaded.params | {part: spoilt})


def predictor_of(loaded: LoadedModel) -> Predictor:
    return Predictor(loaded, sharding.make_mesh(MeshConfig()), 8, Reading(num_threads=2))


def evaluate(predictor: Predictor, data: Path, suites: str, out: Path) -> tuple[set[str], dict[str, str]]:
    """The suites with a result, and why the others have none."""
    results = Results(out, predictor.loaded)
    missing = runner.evaluate(predictor.loaded, predictor, data, runner.choose_suites(suites), results)
    assert not out.with_name(f"{out.name}.unfinished").exists()
    return set(results.suites), {entry.suite.name: entry.reason for entry in missing}


def test_a_model_that_diverged_has_no_score_in_any_suite(
    loaded: LoadedModel, miniatures: Miniatures, tmp_path: Path
) -> None:
    suites = [suite for suite in runner.choose_suites("all") if not suite.name.startswith(("demo_", "own_"))]
    wanted = {suite.name for suite in suites if has_data(suite, Path(miniatures.data))} - NOT_HERE
    assert len(wanted) > 12
    names = ",".join(sorted(wanted))
    scored, reasons = evaluate(
        predictor_of(diverged(loaded, "backbone")), miniatures.data, names, tmp_path / "out.json"
    )
    assert not scored and reasons.keys() == wanted
    for name, reason in reasons.items():
        assert reason.startswith("the checkpoint tiny, step 0, has outputs that are NaN or infinite, first for"), name
        assert "before is kept" not in reason


def test_nor_has_one_whose_classifier_alone_diverged(
    loaded: LoadedModel, miniatures: Miniatures, tmp_path: Path
) -> None:
    scored, reasons = evaluate(predictor_of(diverged(loaded)), miniatures.data, "imagenet", tmp_path / "out.json")
    assert not scored and "has outputs that are NaN or infinite, first for" in reasons["imagenet"]


def test_nor_on_images_that_are_corrupted_on_the_fly(loaded: LoadedModel, miniatures: Miniatures) -> None:
    val = {"val": open_split(miniatures.data / "imagenet", "val")}
    with pytest.raises(CheckpointError, match=r"first for .*\.JPEG: it diverged"):
        procedures.generated_corruptions_of(("contrast",), (1,))(predictor_of(diverged(loaded)), val)


def test_nor_has_one_of_sets_of_labels(loaded: LoadedModel, miniatures: Miniatures, tmp_path: Path) -> None:
    of_sets = dataclasses.replace(diverged(loaded), label_sets=True)
    data = miniatures.data / "coco"
    of_sets = dataclasses.replace(of_sets, class_list_hash=open_split(data, "val").manifest.classes.hash)
    scored, reasons = evaluate(predictor_of(of_sets), data, "coco,coco_context", tmp_path / "out.json")
    assert not scored
    assert reasons.keys() == {"coco", "coco_context"}
    for reason in reasons.values():
        assert "has outputs that are NaN or infinite, first for COCO_val2014_0000000000" in reason


def test_a_function_is_told_of_without_a_step() -> None:
    def mine(images: np.ndarray) -> np.ndarray:
        return images

    model = FunctionModel(mine, Preprocessing(image_size=8, resize_side=8))
    with pytest.raises(CheckpointError, match=r"^mine has outputs that are NaN .*, first for b, .* of that image") as e:
        check_finite(model, np.asarray([[1.0], [np.nan]]), ["a", "b"])
    assert "step" not in str(e.value) and "checkpoint" not in str(e.value)


class OneIsInfinite(Predictor):
    """Of the black view of the second batch."""

    def stream(self, split, views, stored, start):  # type: ignore[no-untyped-def,override]
        for i, batch in enumerate(super().stream(split, views, stored, start)):
            if i == 1 and View.CENTRE_BLACK in batch:
                logits = batch[View.CENTRE_BLACK].logits.copy()
                logits[3, 7] = np.inf
                batch[View.CENTRE_BLACK] = dataclasses.replace(batch[View.CENTRE_BLACK], logits=logits)
            yield batch


def test_one_image_is_enough_and_other_suites_are_scored(
    loaded: LoadedModel, miniatures: Miniatures, tmp_path: Path
) -> None:
    predictor = OneIsInfinite(loaded, sharding.make_mesh(MeshConfig()), 8, Reading(num_threads=2))
    scored, reasons = evaluate(predictor, miniatures.data, "imagenet,cocc", tmp_path / "out.json")
    assert scored == {"imagenet"}
    record = open_split(miniatures.data / "imagenet_real", "val").records[8 + 3]
    assert f"first for {Example(record).file_name}:" in reasons["cocc"]


def test_predictions_that_were_finite_are_so_when_they_are_read_again(
    loaded: LoadedModel, miniatures: Miniatures, tmp_path: Path
) -> None:
    """Half precision ends at 65,504."""
    classifier = {name: 1e6 * values for name, values in loaded.params["classifier"].items()}
    wide = dataclasses.replace(loaded, params=loaded.params | {"classifier": classifier})
    results, suites = Results(tmp_path / "out.json", loaded), runner.choose_suites("imagenet")
    runner.evaluate(wide, predictor_of(wide), miniatures.data, suites, results, tmp_path / "kept")
    saved = SavedModel(tmp_path / "kept")
    again = Results(tmp_path / "again.json", saved)
    assert not runner.evaluate(saved, saved, miniatures.data, suites, again)
    assert again.suites["imagenet"]["top1"] == results.suites["imagenet"]["top1"]


def test_finite_outputs_of_any_shape_pass(loaded: LoadedModel) -> None:
    check_finite(loaded, np.zeros((0, 4), np.float32), [])
    check_finite(loaded, np.zeros((2, 3, 4), np.float32), ["a", "b"])
    with pytest.raises(CheckpointError, match="first for b:"):
        check_finite(loaded, np.asarray([[[1.0]], [[np.nan]]], np.float32), ["a", "b"])
