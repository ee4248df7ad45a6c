"""Every kind of target trains end to end, resumes with the statistics it began with, and is scored as what it is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target, fits
from luab_jax.checkpoint import describe
from luab_jax.config import ByproductConfig, Config, LogConfig, OptimConfig, Optimizer
from luab_jax.data import split_statistics
from luab_jax.data.pipeline import Reading
from luab_jax.errors import ConfigError, DataError, ExitCode, UserError
from luab_jax.evaluation import engine
from luab_jax.evaluation.loading import load
from luab_jax.evaluation.predict import Predictor
from luab_jax.log import read_metrics
from luab_jax.run import set_up
from luab_jax.sharding import make_mesh
from luab_jax.stop import StopSignal
from luab_jax.train import _train_feed, train
from tests import tiny

STEPS = 80


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_data(tmp_path_factory.mktemp("data"))


def experiment(
    data: Path, target: Target, sample_weight: SampleWeight = SampleWeight.NONE, **changes: object
) -> Config:
    fields: dict[str, object] = {
        "total_steps": STEPS,
        "byproduct": ByproductConfig(
            target=target, sample_weight=sample_weight, heat_map_side=3, min_annotator_images=2
        ),
        "optim": OptimConfig(name=Optimizer.ADAMW, learning_rate=0.03, warmup_epochs=0.5),
        "log": LogConfig(every_steps=20, tensorboard=False),
    }
    return tiny.experiment(data, **(fields | changes))


SCORES = {
    Target.TRACE_BOX: "box_iou",
    Target.TRACE_HEAT_MAP: "heat_map_divergence",
    Target.TIME_TO_CLICK: "number_error",
    Target.NUM_CORRECTIONS: "number_error",
    Target.ANNOTATOR: "annotator_top1",
}
WEIGHTS = {
    Target.TIME_TO_CLICK: SampleWeight.TIME_TO_CLICK,
    Target.NUM_CORRECTIONS: SampleWeight.TIME_TO_CLICK,
    Target.ANNOTATOR: SampleWeight.NUM_CORRECTIONS,
}


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Target, Path]:
    """A run of every new target, some with sample weights."""
    workdirs = {target: tmp_path_factory.mktemp(target.value) for target in SCORES}
    for target, workdir in workdirs.items():
        config = experiment(data, target, WEIGHTS.get(target, SampleWeight.NONE))
        config.eval.every_epochs = config.checkpoint.every_epochs = 100.0
        assert train(config, workdir) is ExitCode.DONE
    return workdirs


@pytest.mark.parametrize("target", SCORES)
def test_the_loss_falls_and_the_score_has_its_name(finished: dict[Target, Path], target: Target) -> None:
    lines = read_metrics(finished[target])
    losses = [line["train/byproduct_loss"] for line in lines if "train/byproduct_loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    assert all(line["train/valid_targets"] == 1 for line in lines if "train/valid_targets" in line) or target in (
        Target.TRACE_BOX,
        Target.TRACE_HEAT_MAP,
    )
    scores = {name for name in lines[-1] if name.startswith("eval/")}
    assert scores == {"eval/classification_loss", "eval/top1", "eval/top5", f"eval/{SCORES[target]}"}


def test_what_stands_on_the_image_is_learnt(finished: dict[Target, Path]) -> None:
    """The annotator and the time are those of the class, which is a colour; three guesses would get a third."""
    annotator = read_metrics(finished[Target.ANNOTATOR])
    assert annotator[-1]["eval/annotator_top1"] > 0.6
    assert [line["train/annotator_top1"] for line in annotator if "train/annotator_top1" in line][-1] > 0.6
    assert read_metrics(finished[Target.TIME_TO_CLICK])[-1]["eval/number_error"] < 0.6


def test_the_statistics_are_those_of_the_training_split(finished: dict[Target, Path]) -> None:
    stored = json.loads((finished[Target.NUM_CORRECTIONS] / "data.json").read_text())["byproduct_statistics"]
    labels = np.arange(32) % 3
    for name, logs in {"num_corrections": np.log1p(labels), "time_to_click": np.log(100 * (labels + 1) ** 2)}.items():
        assert stored["scales"][name] == {"mean": pytest.approx(logs.mean()), "std": pytest.approx(logs.std())}
    annotators = json.loads((finished[Target.ANNOTATOR] / "data.json").read_text())["byproduct_statistics"]
    assert annotators["annotators"] == ["SIMULATED_0", "SIMULATED_1", "SIMULATED_2"]
    assert annotators["scales"].keys() == {"num_corrections"}
    assert describe(finished[Target.ANNOTATOR], STEPS)["byproduct_statistics"] == annotators
    assert "byproduct_statistics" not in json.loads((finished[Target.TRACE_BOX] / "data.json").read_text())


def test_a_resumed_run_takes_the_annotators_it_began_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not even look at the data again; and a vocabulary of another size is another experiment."""
    config = experiment(data, Target.ANNOTATOR, SampleWeight.NUM_CORRECTIONS)
    with monkeypatch.context() as patched:
        patched.setattr(StopSignal, "at_step", lambda self, step: step == 1)
        assert train(config, tmp_path) is ExitCode.STOPPED_RESUMABLE
        patched.setattr(split_statistics, "Example", None)
        patched.setattr(StopSignal, "at_step", lambda self, step: step == 2)
        assert train(config, tmp_path) is ExitCode.STOPPED_RESUMABLE
    config.byproduct.max_annotators = 2
    with pytest.raises(UserError, match=r"byproduct\.max_annotators: 4096 there, 2 here"):
        train(config, tmp_path)


@pytest.mark.parametrize("target", SCORES)
def test_the_suites_run_on_its_checkpoint_and_say_that_its_head_is_no_point(
    finished: dict[Target, Path], data: Path, tmp_path: Path, target: Target
) -> None:
    if target is Target.NUM_CORRECTIONS:
        pytest.skip("the head of time_to_click")
    mesh = make_mesh(experiment(data, target).mesh)
    loaded = load(finished[target], "latest", mesh)
    results = engine.Results(tmp_path / "results.json", loaded)
    predictor = Predictor(loaded, mesh, 16, Reading(num_threads=1))
    missing = engine.evaluate(loaded, predictor, data, engine.choose_suites("imagenet,byproduct"), results)
    assert results.suites.keys() == {"imagenet"}
    assert results.suites["imagenet"]["top1"] == read_metrics(finished[target])[-1]["eval/top1"]
    assert [entry.suite.name for entry in missing] == ["byproduct"]
    assert f"predicts {target.value}, which is not scored" in missing[0].reason


# --- sample weights


@pytest.mark.parametrize(
    ("sample_weight", "expected"),
    [
        (SampleWeight.NUM_CORRECTIONS, [1.0, 1 / 2, 1 / 3]),
        (SampleWeight.TIME_TO_CLICK, [1 / (1 + 100 * (c + 1) ** 2 / math.exp(5.786)) for c in range(3)]),
    ],
)
def test_a_batch_has_the_weights_of_its_images(
    data: Path, tmp_path: Path, sample_weight: SampleWeight, expected: list[float]
) -> None:
    feed = _train_feed(set_up(experiment(data, Target.CLICK_LAST, sample_weight), tmp_path), 0)
    batch, _ = next(feed)
    feed.close()
    assert batch.weights is not None
    np.testing.assert_allclose(batch.weights, np.take(expected, np.asarray(batch.labels)), rtol=2e-3)


def test_without_a_sample_weight_a_batch_has_none(data: Path, tmp_path: Path) -> None:
    feed = _train_feed(set_up(experiment(data, Target.CLICK_LAST), tmp_path), 0)
    assert next(feed)[0].weights is None
    feed.close()


# --- what cannot be


def test_a_split_without_the_byproduct_is_refused_with_the_remedy(data: Path, tmp_path: Path) -> None:
    items = [tiny.Drawn(3 * i) for i in range(8)]  # all of one class, so by one annotator in one time
    tiny.prepare_split(tmp_path / "data", "train", 8, items=items)
    tiny.prepare_split(tmp_path / "data", "val", 8, items=items)

    def refused(target: Target, **changes: object) -> str:
        config = experiment(tmp_path / "data", target)
        for name, value in changes.items():
            setattr(config.byproduct, name, value)
        with pytest.raises(DataError) as error:
            set_up(config, tmp_path / "run")
        return str(error.value)

    assert "time_to_click is the same for all images" in refused(Target.TIME_TO_CLICK)
    assert "1 of 1 annotators selected config.byproduct.min_annotator_images=2 images" in refused(Target.ANNOTATOR)
    told = refused(Target.ANNOTATOR, min_annotator_images=9)
    assert "0 of 1 annotators" in told and "(the most selected 8)" in told and "lower it" in told


@pytest.mark.parametrize("target", [target for target in SCORES if not fits(target, 3)])
def test_what_does_not_exist_for_sets_of_labels_is_refused(target: Target) -> None:
    from tests.test_train_label_sets import experiment as label_sets

    with pytest.raises(ConfigError, match=f"target={target.value} does not exist for config.task=multi_label"):
        label_sets(Path("data"), byproduct=ByproductConfig(target=target)).validate()
    config = label_sets(Path("data"), byproduct=ByproductConfig(target=Target.COCO_FINAL))
    config.byproduct.sample_weight = SampleWeight.NUM_CORRECTIONS
    with pytest.raises(ConfigError, match="sample_weight=num_corrections is for one label per image"):
        config.validate()
