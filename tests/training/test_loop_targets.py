"""Every kind of target trains end to end, resumes with the statistics it began with, and is scored as what it is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target
from luab_jax.checkpoints.load import load
from luab_jax.checkpoints.store import describe
from luab_jax.config import ByproductConfig, Config, LogConfig, OptimConfig, Optimizer, Task
from luab_jax.data.pipeline import Reading
from luab_jax.distributed.sharding import make_mesh
from luab_jax.distributed.stop import StopSignal
from luab_jax.errors import ConfigError, DataError, ExitCode, UserError
from luab_jax.evaluation import runner
from luab_jax.evaluation.predictor import Predictor
from luab_jax.metrics.history import read_metrics
from luab_jax.training import target_statistics
from luab_jax.training.loop import _train_feed, train
from luab_jax.training.setup import set_up
from tests import tiny

STEPS = 80


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_data(tmp_path_factory.mktemp("data"))


def experiment(data: Path, target: Target, sample_weight: SampleWeight = SampleWeight.NONE) -> Config:
    return tiny.experiment(
        data,
        total_steps=STEPS,
        byproduct=ByproductConfig(target=target, sample_weight=sample_weight, heat_map_side=3, min_annotator_images=2),
        optim=OptimConfig(name=Optimizer.ADAMW, learning_rate=0.03, warmup_epochs=0.5),
        log=LogConfig(every_steps=20, tensorboard=False),
    )


SCORES = {
    Target.TRACE_BOX: "box_iou",
    Target.TRACE_HEAT_MAP: "heat_map_divergence",
    Target.TIME_TO_CLICK: "number_error",
    Target.ANNOTATOR: "annotator_top1",
}
"""One of every kind: each costs a compilation."""
WEIGHTS = {Target.TIME_TO_CLICK: SampleWeight.TIME_TO_CLICK, Target.ANNOTATOR: SampleWeight.NUM_CORRECTIONS}


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Target, Path]:
    """Runs of all kinds, two of them with sample weights."""
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
    # A pointer's way from the rim to a spot that may be anywhere says little of itself: 1.24 after 1.38.
    assert losses[-1] < (0.95 if target is Target.TRACE_HEAT_MAP else 0.6) * losses[0]
    scores = {name for name in lines[-1] if name.startswith("eval/")}
    assert scores == {"eval/classification_loss", "eval/top1", "eval/top5", f"eval/{SCORES[target]}"}


LABELS = np.arange(32) % 3
LOG_TIMES = np.log(100 * (LABELS + 1) ** 2)
"""Of the training split; see `tiny.simulate`."""


def scale_of(logs: np.ndarray) -> dict[str, object]:
    return {"mean": pytest.approx(logs.mean()), "std": pytest.approx(logs.std())}


def test_what_stands_on_the_image_is_learnt(finished: dict[Target, Path]) -> None:
    """The annotator and the time are those of the class, which is a colour; three guesses would get a third."""
    annotator = read_metrics(finished[Target.ANNOTATOR])
    assert annotator[-1]["eval/annotator_top1"] > 0.6
    assert [line["train/annotator_top1"] for line in annotator if "train/annotator_top1" in line][-1] > 0.6
    assert read_metrics(finished[Target.TIME_TO_CLICK])[-1]["eval/number_error"] < 0.6


def test_the_statistics_are_those_of_the_training_split(finished: dict[Target, Path]) -> None:
    stored = {target: json.loads((finished[target] / "data.json").read_text()) for target in SCORES}
    of_time = stored[Target.TIME_TO_CLICK]["byproduct_statistics"]
    of_annotator = stored[Target.ANNOTATOR]["byproduct_statistics"]
    assert of_time == {"scales": {"time_to_click": scale_of(LOG_TIMES)}, "annotators": []}
    assert of_annotator == {
        "scales": {"num_corrections": scale_of(np.log1p(LABELS))},
        "annotators": ["SIMULATED_0", "SIMULATED_1", "SIMULATED_2"],
    }
    assert describe(finished[Target.ANNOTATOR], STEPS)["byproduct_statistics"] == of_annotator
    assert "byproduct_statistics" not in stored[Target.TRACE_BOX]


def test_a_resumed_run_takes_the_annotators_it_began_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not even look at the data again; and a vocabulary of another size is another experiment."""
    config = experiment(data, Target.ANNOTATOR, SampleWeight.NUM_CORRECTIONS)
    with monkeypatch.context() as patched:
        patched.setattr(StopSignal, "at_step", lambda self, step: step == 1)
        assert train(config, tmp_path) is ExitCode.STOPPED_RESUMABLE
        patched.setattr(target_statistics, "Example", None)
        patched.setattr(StopSignal, "at_step", lambda self, step: step == 2)
        assert train(config, tmp_path) is ExitCode.STOPPED_RESUMABLE
    config.byproduct.max_annotators = 2
    with pytest.raises(UserError, match=r"byproduct\.max_annotators: 4096 there, 2 here"):
        train(config, tmp_path)


@pytest.mark.parametrize("target", SCORES)
def test_the_suites_run_on_its_checkpoint_and_say_that_its_head_is_no_point(
    finished: dict[Target, Path], data: Path, tmp_path: Path, target: Target
) -> None:
    mesh = make_mesh(experiment(data, target).mesh)
    loaded = load(finished[target], "latest", mesh)
    results = runner.Results(tmp_path / "results.json", loaded)
    predictor = Predictor(loaded, mesh, 16, Reading(num_threads=1))
    missing = runner.evaluate(loaded, predictor, data, runner.choose_suites("imagenet,byproduct"), results)
    assert results.suites.keys() == {"imagenet"}
    assert results.suites["imagenet"]["top1"] == read_metrics(finished[target])[-1]["eval/top1"]
    assert [entry.suite.name for entry in missing] == ["byproduct"]
    assert f"predicts {target.value}, which is not scored" in missing[0].reason


# --- sample weights


@pytest.mark.parametrize(
    ("sample_weight", "expected"),
    [
        (SampleWeight.NUM_CORRECTIONS, [1.0, 1 / 2, 1 / 3]),
        (SampleWeight.TIME_TO_CLICK, [1 / (1 + 100 * (c + 1) ** 2 / math.exp(LOG_TIMES.mean())) for c in range(3)]),
    ],
)
def test_a_batch_has_the_weights_of_its_images(
    data: Path, tmp_path: Path, sample_weight: SampleWeight, expected: list[float]
) -> None:
    feed = _train_feed(set_up(experiment(data, Target.CLICK_LAST, sample_weight), tmp_path), 0)
    batch, _ = next(feed)
    feed.close()
    assert batch.weights is not None
    np.testing.assert_allclose(batch.weights, np.take(expected, np.asarray(batch.labels)), rtol=1e-5)


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


@pytest.mark.parametrize("target", SCORES)
def test_what_does_not_exist_for_sets_of_labels_is_refused(target: Target) -> None:
    config = experiment(Path("data"), target)
    config.task = Task.MULTI_LABEL
    with pytest.raises(ConfigError, match=f"target={target.value} does not exist for config.task=multi_label"):
        config.validate()


def test_sample_weights_are_for_one_label_per_image() -> None:
    config = experiment(Path("data"), Target.NUM_CORRECTIONS, SampleWeight.NUM_CORRECTIONS)
    config.task = Task.MULTI_LABEL
    with pytest.raises(ConfigError, match="sample_weight=num_corrections is for one label per image"):
        config.validate()
