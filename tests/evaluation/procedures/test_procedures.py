"""Suites that are procedures, from prepared shards to scores, against their definitions with the same model."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data_prep.writing.publish import prepare
from data_prep.writing.shards import Outcome, Plan
from luab_jax.byproducts.records import Box, ImageRecord
from luab_jax.checkpoints.load import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.corruptions.corrupt import corrupt, image_keys
from luab_jax.data import label_tables
from luab_jax.data.class_lists import ClassList, imagenet, in9
from luab_jax.data.dataset import open_split
from luab_jax.data.features import Example
from luab_jax.data.pipeline import Reading
from luab_jax.data.transforms import Preprocessing
from luab_jax.distributed import sharding
from luab_jax.errors import DataError
from luab_jax.evaluation import procedures, runner
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.procedures.object_removal import Removal, edits_of
from luab_jax.evaluation.results import Results
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.context import context_violations
from luab_jax.evaluation.scores.localisation import Located, max_box_acc_v2
from luab_jax.models.config import Dtype, ModelConfig, Stem
from luab_jax.models.functional import create_model
from luab_jax.models.maps import localise
from luab_jax.results.read import read_results
from tests.report import made
from tools.miniatures import random_params, tiny_model

THREE = ClassList(("a", "b", "c"), ("a", "b", "c"))


class Given:
    """A record that is there already."""

    def __init__(self, record: ImageRecord):
        self.record, self.file_name = record, record.file_name

    def __repr__(self) -> str:
        return self.file_name


def read(item: Given) -> Outcome:
    return Outcome(item.record, {}, ())


def write(directory: Path, dataset: str, split: str, classes: ClassList, records: list[ImageRecord]) -> None:
    plan = Plan(
        directory=directory, dataset=dataset, split=split, classes=classes, items=[Given(r) for r in records],
        read=read, num_shards=1, source={},
    )  # fmt: skip
    prepare(plan, workers=1, strict=True)


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, "PNG")
    return buffer.getvalue()


def record(name: str, pixels: np.ndarray, **fields: object) -> ImageRecord:
    height, width = pixels.shape[:2]
    return ImageRecord(file_name=name, image=png(pixels), height=height, width=width, **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """ImageNet's classes, an input of 224 pixels."""
    return Predictor(tiny_model(), sharding.make_mesh(MeshConfig()), 8, Reading(num_threads=2))


@pytest.fixture(scope="module")
def of_sets() -> Predictor:
    """Sets of three labels, an input of 32 pixels."""
    config = ModelConfig(name="resnet18", width=4, stage_sizes=(1, 1), stem=Stem.PATCH, compute_dtype=Dtype.FLOAT32)
    model = create_model(config, num_classes=3, image_size=32, byproduct_shape=None)
    params, stats = random_params(model)
    mesh = sharding.make_mesh(MeshConfig())
    place = sharding.replicated(mesh)
    loaded = LoadedModel(
        "sets", made.checkpoint("none"), model, jax.device_put(params, place), jax.device_put(stats, place),
        Preprocessing(image_size=32, resize_side=32), THREE.hash, label_sets=True,
    )  # fmt: skip
    return Predictor(loaded, mesh, 8, Reading(num_threads=2))


def test_bgc_accuracy_is_what_pasting_everything_on_everything_gives(predictor: Predictor, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fore = [rng.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(4)]
    masks = [np.kron(rng.random((7, 7)) < 0.9, np.ones((32, 32), bool)) for _ in range(4)]
    back = [rng.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(3)]
    superclass = {i: k for k, indices in enumerate(label_tables.IN9.values()) for i in indices}

    def answers(pixels: np.ndarray) -> int:
        return superclass.get(int(np.argmax(predictor.logits(pixels.round().astype(np.uint8)[None])[0])), -1)

    labels = [max(answers(image * mask[..., None] + back[0] * ~mask[..., None]), 0)
              for image, mask in zip(fore, masks, strict=True)]  # fmt: skip
    root = tmp_path / "backgrounds_challenge"
    originals = [
        record(f"c/{i}.png", fore[i], label=labels[i], foreground_masks=(png(masks[i], "1"),)) for i in range(4)
    ]
    originals.append(record("c/no_mask.png", fore[0], label=0))
    write(root, "backgrounds_challenge", "original", in9(), originals)
    write(root, "backgrounds_challenge", "only_bg_t", in9(), [record(f"b/{i}.png", back[i], label=0) for i in range(3)])

    safe = [
        all(answers(image * mask[..., None] + other * ~mask[..., None]) == label for other in back)
        for image, mask, label in zip(fore, masks, labels, strict=True)
    ]
    results = Results(tmp_path / "results.json", predictor.loaded)
    suites = runner.choose_suites("bgc_accuracy")
    assert not runner.evaluate(predictor.loaded, predictor, tmp_path, suites, results)
    scores = results.suites["bgc_accuracy"]
    assert scores["bgc_accuracy"] == np.mean(safe)
    assert (scores["n"], scores["n_without_mask"], scores["forward_passes_of_brute_force"]) == (4, 1, 12)
    assert 4 <= scores["forward_passes"] <= 12
    assert scores.data.parts.keys() == {"original", "only_bg_t"}
    assert read_results(tmp_path / "results.json").suites["bgc_accuracy"] == scores


def square(label: int, left: int, top: int, side: int) -> Box:
    right, bottom = left + side, top + side
    mask = json.dumps([[left, top, right, top, right, bottom, left, bottom]])
    return Box(x_min=left / 40, y_min=top / 40, x_max=right / 40, y_max=bottom / 40, label=label, mask=mask)


def test_context_dependence_is_that_of_the_edited_images(of_sets: Predictor, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = []
    for i in range(7):
        boxes = tuple(square(label, *rng.integers(0, 25, 2).tolist(), 12) for label in range(1 + i % 3))
        pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
        records.append(record(f"{i}.png", pixels, labels=tuple(range(1 + i % 3)), boxes=boxes))
    write(tmp_path / "coco", "coco_ab", "val", THREE, records)
    results = Results(tmp_path / "results.json", of_sets.loaded)
    assert not runner.evaluate(of_sets.loaded, of_sets, tmp_path, runner.choose_suites("coco_context"), results)
    scores = results.suites["coco_context"]

    split = open_split(tmp_path / "coco", "val")
    edits = [
        edit
        for i in range(7)
        for edit in edits_of(Example(split.records[i]), i, of_sets.loaded.preprocessing, Removal())[0]
    ]
    logits = np.concatenate([of_sets.logits(edit.pixels[None]) for edit in edits])
    expected = context_violations(
        np.asarray([edit.index for edit in edits]),
        np.asarray([edit.removed for edit in edits]),
        1 / (1 + np.exp(-logits.astype(np.float64))),
    )
    assert {name: scores[name] for name in expected} == expected
    assert all(scores.scores[name].interval == expected[name].interval for name in intervals.names_of(expected))
    assert scores["n_edits"] == len(edits) == 2 * 2 + 3 * 2
    assert scores.details["removal"]["inpainter"] == "opencv_telea"


def test_context_is_judged_by_sigmoids(of_sets: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Class 0 has -1 without itself, -9 and 4 without the others: less by the mean of logits, more by sigmoids."""
    boxes = tuple(square(label, 13 * label, 14, 10) for label in range(3))
    pixels = np.full((40, 40, 3), 128, np.uint8)
    write(tmp_path, "coco", "val", THREE, [record("0.png", pixels, labels=(0, 1, 2), boxes=boxes)])
    logits = np.asarray([[-1, 0, 0], [-9, -5, 0], [4, 0, -5]], np.float32)
    monkeypatch.setattr(of_sets, "logits", lambda images: logits[: len(images)])
    scores = procedures.context_dependence(of_sets, {"val": open_split(tmp_path, "val")})
    assert scores["n"] == 3 and scores["v_avg_of_scores"] == 0
    assert scores["v_min"] == pytest.approx(1 / 3), "the worst context of class 0"


def test_localisation_squashes_the_image_and_maps_the_true_class(of_sets: Predictor, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    loaded = of_sets.loaded
    mean, std = np.asarray(loaded.preprocessing.mean), np.asarray(loaded.preprocessing.std)
    corners = np.asarray([[0.2, 0.1, 0.7, 0.9]], np.float32)

    def by_hand(made: ImageRecord) -> Located:
        image = Image.open(io.BytesIO(made.image))
        squashed = image.resize((32, 20), Image.Resampling.BILINEAR).resize((32, 32), Image.Resampling.BILINEAR)
        seen = jnp.asarray(((np.asarray(squashed) / 255 - mean) / std)[None], jnp.float32)
        label = jnp.asarray([made.label])
        scores = np.asarray(localise(loaded.model, loaded.params, loaded.batch_stats, seen, label))[0]
        return Located(made.file_name, np.asarray(cv2.resize(scores, (32, 32), interpolation=cv2.INTER_CUBIC)), corners)

    records = []
    for i in range(9):
        own = Box(x_min=0.2, y_min=0.1, x_max=0.7, y_max=0.9, label=i % 3)
        other = Box(x_min=0.0, y_min=0.0, x_max=0.1, y_max=0.1, label=(i + 1) % 3)
        boxes = () if i == 4 else (own, other)
        records.append(record(f"{i}.png", rng.integers(0, 256, (20, 40, 3), np.uint8), label=i % 3, boxes=boxes))
    write(tmp_path, "tiny", "val", THREE, records)
    scores = procedures.localisation(of_sets, {"val": open_split(tmp_path, "val")})
    assert (scores["n"], scores["n_without_box"]) == (8, 1) and of_sets.map_kind == "class_activation_map"
    expected = max_box_acc_v2(by_hand(made) for made in records if made.boxes)
    assert {name: scores[name] for name in expected} == expected
    assert expected["box_acc_30"] > 0
    assert {"max_box_acc_v2", "box_acc_30", "box_acc_50", "box_acc_70"} <= set(intervals.names_of(scores))


def test_generated_corruptions_are_those_of_the_stored_images_before_their_jpeg(
    predictor: Predictor, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    pixels = [rng.integers(0, 256, (256, 256, 3), np.uint8) for _ in range(5)]
    centres = np.stack([image[16:240, 16:240] for image in pixels])
    name = lambda i: f"n0/ILSVRC2012_val_{i:08d}"  # noqa: E731
    keys = image_keys([name(i)[3:] for i in range(5)], "contrast", 3)
    seen = np.asarray(corrupt(jnp.asarray(centres), keys, name="contrast", severity=3))
    answers = predictor.logits(seen).argmax(axis=-1)
    labels = [int(answer) if i % 2 else (int(answer) + 1) % 1000 for i, answer in enumerate(answers)]
    records = [record(f"{name(i)}.png", pixels[i], label=labels[i]) for i in range(5)]
    write(tmp_path, "imagenet", "val", imagenet(), records)
    splits = {"val": open_split(tmp_path, "val")}
    scores = procedures.generated_corruptions_of(("contrast",), (3,))(predictor, splits)
    assert scores["top1"] == 2 / 5
    assert scores["groups"] == {"contrast,severity=3": 2 / 5}
    assert scores["generated"] == "on the device"
    assert scores["partial"], "one kind of fifteen"


def test_what_a_procedure_cannot_do_is_said(of_sets: Predictor, tmp_path: Path) -> None:
    grey = np.full((40, 40, 3), 128, np.uint8)
    write(tmp_path, "tiny", "val", THREE, [record("0.png", grey, labels=(0,))])
    splits = {"val": open_split(tmp_path, "val")}
    with pytest.raises(DataError, match="no image has two classes with masks"):
        procedures.context_dependence(of_sets, splits)
    with pytest.raises(DataError, match="no image of this set has a box"):
        procedures.localisation(of_sets, splits)
    with pytest.raises(DataError, match="made at 224 pixels"):
        procedures.generated_corruptions(of_sets, splits)
    missing = runner.evaluate(
        of_sets.loaded,
        of_sets,
        tmp_path,
        runner.choose_suites("bgc_accuracy"),
        Results(tmp_path / "r.json", of_sets.loaded),
    )
    assert "sets of labels" in missing[0].reason
