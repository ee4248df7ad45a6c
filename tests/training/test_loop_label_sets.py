"""Training on sets of labels: shapes, loss, labels that follow points, mAP by which the best checkpoint is kept."""

from __future__ import annotations

import importlib
import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from data_prep.writing.publish import prepare
from data_prep.writing.shards import Outcome, Plan
from luab_jax import recipes
from luab_jax.byproducts.records import Action, ActionKind, Box, ImageRecord, Point, Showing
from luab_jax.byproducts.targets import Target
from luab_jax.checkpoints.load import load
from luab_jax.checkpoints.store import available_steps
from luab_jax.config import ByproductConfig, CheckpointConfig, Config, Task
from luab_jax.data.dataset import open_split
from luab_jax.data.pipeline import Augmentation, LabelSets, Reading, train_batches
from luab_jax.distributed.sharding import make_mesh
from luab_jax.errors import ConfigError, ExitCode
from luab_jax.evaluation import runner
from luab_jax.evaluation.predictor import Predictor
from luab_jax.evaluation.results import Results
from luab_jax.evaluation.suite import View
from luab_jax.metrics.history import read_metrics
from luab_jax.training.loop import train
from luab_jax.training.losses import binary_cross_entropy
from tests import tiny

NUM_TRAIN, NUM_VAL = 32, 13


class Spots:
    """An image with a spot for each of its classes, in a corner of its own; the icon in the middle of the spot."""

    def __init__(self, index: int):
        self.file_name, self.index = f"{index:04d}.png", index

    def __repr__(self) -> str:
        return f"Spots({self.index})"


CORNERS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75))


def draw(item: Spots) -> Outcome:
    labels = tuple(label for label in range(3) if item.index >> label & 1)
    pixels = np.random.default_rng(item.index).integers(0, 80, (24, 24, 3), np.uint8)
    for label in labels:
        x, y = (int(24 * v) for v in CORNERS[label])
        pixels[y - 4 : y + 4, x - 4 : x + 4, label] = 250
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    # Class 2 is never pointed at, class 1 moved.
    kinds = {0: (ActionKind.ADD,), 1: (ActionKind.ADD, ActionKind.MOVE), 2: ()}
    actions = tuple(Action(kind, "icon", None, Point(*CORNERS[c]), 1, c) for c in labels for kind in kinds[c])
    boxes = tuple(Box(x_min=x - 0.1, y_min=y - 0.1, x_max=x + 0.1, y_max=y + 0.1, label=c) for c, (x, y) in
                  enumerate(CORNERS) if c in labels)  # fmt: skip
    record = ImageRecord(
        file_name=item.file_name,
        image=buffer.getvalue(),
        height=24,
        width=24,
        labels=labels,
        boxes=boxes,
        showings=(Showing(actions=actions),),
    )
    return Outcome(record, {"images": 1}, ())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("spots")
    for split, count in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        plan = Plan(
            directory=directory,
            dataset="spots",
            split=split,
            classes=tiny.CLASSES,
            items=[Spots(i) for i in range(count)],
            read=draw,
            num_shards=2,
            source={},
        )
        prepare(plan, workers=1, strict=True)
    return directory


def experiment(data: Path, **changes: object) -> Config:
    fields: dict[str, object] = {
        "task": Task.MULTI_LABEL,
        "byproduct": ByproductConfig(target=Target.COCO_FINAL, weight=2.0),
    }
    return tiny.experiment(data, **(fields | changes))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    config = experiment(data, checkpoint=CheckpointConfig(every_epochs=0.5, keep_last=1, keep_best=1))
    config.eval.every_epochs = 0.5
    assert train(config, workdir) is ExitCode.DONE
    return workdir


def test_the_best_checkpoint_is_that_of_the_highest_map(finished: Path) -> None:
    maps = {line["step"]: line["eval/map"] for line in read_metrics(finished) if "eval/map" in line}
    assert len(maps) == 3 and all(0 < value <= 1 for value in maps.values())
    assert max(metrics["map"] for metrics in available_steps(finished).values()) == max(maps.values())
    assert "eval/click_distance" in read_metrics(finished)[-1]
    assert not any("train/top1" in line for line in read_metrics(finished))


def test_the_suite_gives_the_map_of_the_training_log_and_of_scikit_learn(finished: Path, data: Path) -> None:
    mesh = make_mesh(experiment(data).mesh)
    loaded = load(finished, "latest", mesh)
    predictor = Predictor(loaded, mesh, 8, Reading(num_threads=1))
    results = Results(finished / "results.json", loaded)
    missing = runner.evaluate(loaded, predictor, data, runner.choose_suites("coco,imagenet"), results)
    assert [entry.suite.name for entry in missing] == ["imagenet"]
    assert "sets of labels" in missing[0].reason
    logged = [line["eval/map"] for line in read_metrics(finished) if "eval/map" in line][-1]
    assert results.suites["coco"]["map"] == pytest.approx(logged, rel=1e-6)
    assert (results.suites["coco"]["n"], results.suites["coco"]["n_classes"]) == (NUM_VAL, 3)
    (predictions,) = predictor(open_split(data, "val"), [View.PLAIN]).values()
    labels = np.array([[c in truth.labels for c in range(3)] for truth in predictions.truths])
    assert logged == pytest.approx(average_precision_score(labels, predictions.logits, average="macro"), rel=1e-6)


@pytest.mark.parametrize("target", [Target.NONE, Target.RANDOM, Target.COCO_ADDED, Target.BOX, Target.NUM_CORRECTIONS])
def test_every_target_trains(data: Path, tmp_path: Path, target: Target) -> None:
    config = experiment(data, byproduct=ByproductConfig(target=target), total_steps=1)
    assert train(config, tmp_path) is ExitCode.DONE
    assert ("train/byproduct_loss" in read_metrics(tmp_path)[0]) == (target is not Target.NONE)


def batches(data: Path, *, follow_points: bool) -> list:
    stream = train_batches(
        open_split(data, "train"),
        augmentation=Augmentation(image_size=8, crop_scale=(0.1, 0.6)),
        target=Target.COCO_FINAL,
        seed=0,
        label_sets=LabelSets(num_classes=3, follow_points=follow_points),
        batch_size=NUM_TRAIN,
        reading=Reading(num_threads=1),
    )
    return [next(stream) for _ in range(3)]


def test_a_label_follows_its_point_and_stays_without_one(data: Path) -> None:
    for plain, following in zip(batches(data, follow_points=False), batches(data, follow_points=True), strict=True):
        np.testing.assert_array_equal(plain.index, following.index)
        assert plain.labels.dtype == bool and plain.labels.shape == (NUM_TRAIN, 3)
        assert plain.valid.shape == (NUM_TRAIN, 3) and plain.targets.shape == (NUM_TRAIN, 3, 2)
        # Classes 0 and 1 always have an icon: their label stays just where it is in the crop. Class 2 never has one.
        np.testing.assert_array_equal(following.labels[:, :2], plain.labels[:, :2] & plain.valid[:, :2])
        assert np.any(following.labels[:, :2] != plain.labels[:, :2])
        np.testing.assert_array_equal(following.labels[:, 2], plain.labels[:, 2])
        assert not plain.valid[:, 2].any()


def test_the_loss_is_the_mean_over_classes_of_each_sigmoids_cross_entropy() -> None:
    logits = jnp.asarray([[0.5, -2.0, 100.0], [-100.0, 0.0, 3.0]])
    labels = jnp.asarray([[True, False, True], [False, True, False]])
    chance = jax.nn.sigmoid(jnp.where(labels, logits, -logits))
    np.testing.assert_allclose(binary_cross_entropy(logits, labels), -jnp.log(chance).mean(axis=-1), rtol=1e-5)


def test_the_task_must_be_that_of_the_data(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has a set of labels: set config\.task=multi_label"):
        train(tiny.experiment(data), tmp_path / "a")
    single = tiny.prepare_data(tmp_path / "single")
    with pytest.raises(ConfigError, match=r"has one label: set config\.task=single_label"):
        train(experiment(single), tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": Task.SINGLE_LABEL}, r"target=coco_final does not exist for config.task=single_label"),
        (
            {"byproduct": ByproductConfig(target=Target.CLICK_LAST)},
            r"choose one of none, random, random_in_image, box, box_centre, coco",
        ),
        ({"label_smoothing": 0.1}, r"label_smoothing=0.1 is for one label per image"),
        (
            {"task": Task.SINGLE_LABEL, "byproduct": ByproductConfig(label_follows_point=True)},
            r"label_follows_point=True needs config.task=multi_label",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment(Path("data"), **changes).validate()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet152", "vit_ti", "vit_s", "vit_b"])
def test_the_recipes_of_coco(name: str) -> None:
    config = importlib.import_module(f"configs.coco_{name}").get_config()
    config.validate()
    assert config == recipes.coco(name)
    assert config.model.name == name and config.batch_size == 128 and config.task is Task.MULTI_LABEL
