"""Runs with several byproducts, with a dense head and with a loss of one's own, from shards to scores."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import luab_jax
from luab_jax.byproducts.targets import Target
from luab_jax.checkpoints.store import describe
from luab_jax.config import Config
from luab_jax.config.byproduct import Byproduct, several
from luab_jax.distributed.stop import StopSignal
from luab_jax.errors import ConfigError, DataError, ExitCode, UserError
from luab_jax.metrics.history import read_metrics
from luab_jax.models.config import Head
from luab_jax.training.loop import train
from luab_jax.training.setup import set_up
from tests import tiny

DENSE = Byproduct(target=Target.CLICK_LAST, weight=1.0, head=Head.DENSE)
BOX = Byproduct(target=Target.BOX, weight=2.0)
ANNOTATOR = Byproduct(target=Target.ANNOTATOR, weight=0.1)
MISTAKES = """\
def broken(config):
    1 / 0
def nothing(config): return 3
def many(config): return lambda inputs: inputs.outputs.logits[:, 0]
import jax, jax.numpy as jnp
def misspelt(config):
    def loss(inputs):
        return inputs.outputs.logit.mean()
    return loss
def within_jax(config): return lambda inputs: jnp.dot(inputs.outputs.logits, inputs.outputs.logits[:2])
def three(config): return lambda inputs: (inputs.loss, {}, 1)
def listed(config): return lambda inputs: (inputs.loss, [1.0])
def forgotten(config): return lambda inputs: None
def mapping(config): return lambda inputs: {"loss": inputs.loss}
def keys(config): return lambda inputs: (inputs.loss, {"a": 1.0, 1: 2.0})
def top1(config): return lambda inputs: (inputs.loss, {"top1": 7.0})
def loss(config): return lambda inputs: (inputs.loss, {"loss": 9.0})
def own_byproduct(config): return lambda inputs: (inputs.loss, {"byproduct_loss": 9.0})
def text(config): return lambda inputs: (inputs.loss, {"note": "x"})
def constant(config): return lambda inputs: 1.5
def stopped(config): return lambda inputs: jax.lax.stop_gradient(inputs.loss)
def of_images(config): return lambda inputs: inputs.images.mean()
def of_parameters(config):
    return lambda inputs: sum(jnp.sum(p**2) for p in jax.tree.leaves(inputs.params))
"""
EXAMPLE = Path(__file__).parents[2] / "examples/distillation.py"


def experiment(data: Path, *entries: Byproduct, **changes: object) -> Config:
    config = tiny.experiment(data, byproduct=several(*(entries or (DENSE, BOX, ANNOTATOR))), **changes)
    config.byproduct.min_annotator_images = 1
    return config


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_data(tmp_path_factory.mktemp("data"), num_train=24, num_val=9)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run") / "three"
    assert train(experiment(data), workdir) is ExitCode.DONE
    return workdir


def test_metrics_and_checkpoint_tell_every_byproduct(finished: Path) -> None:
    last = {name: value for line in read_metrics(finished) for name, value in line.items()}
    for name in ("click_distance/click_last", "box_iou/box", "annotator_top1/annotator"):
        assert math.isfinite(last[f"eval/{name}"]), name
    for target in ("click_last", "box", "annotator"):
        assert last[f"train/byproduct_loss/{target}"] > 0
        assert 0 < last[f"train/valid_targets/{target}"] <= 1
    stored = describe(finished, 6)
    assert [entry["target"] for entry in stored["config"]["byproduct"]["more"]] == ["box", "annotator"]
    assert len(stored["byproduct_statistics"]["annotators"]) == 3


def test_the_suites_score_every_head_that_has_a_point(finished: Path, data: Path) -> None:
    model = luab_jax.load(finished)
    assert model.identity["target"] == "click_last+box+annotator"
    found = luab_jax.run_suites(model, data=data, suites="byproduct", batch_size=8).file.suites["byproduct"]
    scores = found.scores
    assert scores["median_distance"].role.value == "headline"
    for name in ("median_distance_of_box", "inside_box_of_box"):
        assert scores[name].role.value == "score" and scores[name].interval is not None, name
    assert (scores["median_distance"].unit, scores["inside_box_of_box"].unit) == ("fraction of a side", "fraction")
    assert found.details["not_scored"] == ["annotator"]


def test_the_api_gives_what_each_head_predicts(finished: Path) -> None:
    model = luab_jax.load(finished)
    image = np.zeros((2, 24, 30, 3), np.uint8)
    assert model.byproduct(image).shape == (2, 1, 2)  # the point that the heat map stands for
    assert model.byproduct(image, "box").shape == (2, 1, 4)
    assert model.byproduct([], "annotator").shape == (0, 1, 3)
    with pytest.raises(UserError, match="no byproduct head for 'trace_box'; it has click_last, box, annotator"):
        model.byproduct(image, "trace_box")


def test_saved_predictions_give_the_same_scores(finished: Path, data: Path, tmp_path: Path) -> None:
    model = luab_jax.load(finished)
    there = tmp_path / "saved"
    first = luab_jax.run_suites(model, data=data, suites="byproduct", batch_size=8, predictions=there)
    with np.load(next(there.glob("*.npz"))) as saved:
        assert saved["byproduct.box"].shape == (9, 1, 4)
    again = luab_jax.run_suites(f"predictions:{there}", data=data, suites="byproduct", batch_size=8)
    for name, entry in first.file.suites["byproduct"].scores.items():
        assert again.file.suites["byproduct"].scores[name].value == pytest.approx(entry.value, abs=1e-3), name


def test_a_stopped_run_goes_on_to_the_same_weights(
    finished: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(StopSignal, "at_step", lambda self, step: step == 3)
        assert train(experiment(data), tmp_path) is ExitCode.STOPPED_RESUMABLE
    assert train(experiment(data), tmp_path) is ExitCode.DONE
    whole, resumed = (luab_jax.load(run).identity["weights_hash"] for run in (finished, tmp_path))
    assert whole == resumed
    other = experiment(data, DENSE, Byproduct(target=Target.BOX, weight=3.0), ANNOTATOR)
    with pytest.raises(UserError, match=r"byproduct\.more\.box\.weight: 2\.0 there, 3\.0 here"):
        train(other, tmp_path)


def test_heads_of_the_same_targets_are_taken_over(finished: Path, data: Path, tmp_path: Path) -> None:
    assert train(experiment(data, init_from=str(finished)), tmp_path / "next") is ExitCode.DONE
    assert "byproduct_heads" in describe(tmp_path / "next", 6)["initial_weights"]["taken"]


def test_a_target_that_the_data_lack_is_named_with_its_entry(data: Path, tmp_path: Path) -> None:
    config = experiment(data, DENSE, Byproduct(target=Target.TRACE_BOX))
    bare = tiny.prepare_split(tmp_path, "train", 6, read=_without_traces)
    config.data.root, config.data.eval_split = str(bare), "train"
    with pytest.raises(DataError, match=r"has a trace_box, so config\.byproduct\.more\.trace_box\.target=trace_box"):
        train(config, tmp_path / "run")


def _without_traces(item: tiny.Drawn) -> tiny.Outcome:
    import dataclasses

    outcome = tiny.draw(item)
    showings = tuple(dataclasses.replace(showing, trace=()) for showing in outcome.record.showings)
    return outcome._replace(record=dataclasses.replace(outcome.record, showings=showings))


def test_a_map_of_one_cell_is_none_to_draw_on(data: Path, tmp_path: Path) -> None:
    config = experiment(data, DENSE)
    config.model.stage_sizes = (1, 1, 1)
    with pytest.raises(
        ConfigError, match=r"dense head of click_last has no map to draw on: .* are 1x1 for images of 16"
    ):
        train(config, tmp_path)


# A loss of one's own.


def test_the_example_distils_a_teacher(finished: Path, data: Path, tmp_path: Path) -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
    config = experiment(data, BOX, loss=f"python:{EXAMPLE}:distil", loss_argument=str(finished), total_steps=4)
    assert train(config, tmp_path / "student") is ExitCode.DONE
    lines = [line for line in read_metrics(tmp_path / "student") if "train/distillation_loss" in line]
    assert lines and all(line["train/distillation_loss"] >= 0 for line in lines)
    for line in lines:
        luab = line["train/classification_loss"] + 2.0 * line["train/byproduct_loss"]
        assert line["train/loss"] == pytest.approx(0.5 * luab + 0.5 * line["train/distillation_loss"], rel=1e-4)
    luab_jax.load(tmp_path / "student")  # needs neither the example nor the teacher


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ("distil", "expected python:MODULE:FUNCTION"),
        ("python:nowhere.at_all:f", r"config\.loss=python:nowhere\.at_all:f: nowhere\.at_all cannot be imported"),
        ("python:FILE:absent", "has no function absent"),
        ("python:FILE:broken", r"failed \(ZeroDivisionError: division by zero, mine\.py line 2\)"),
        ("python:FILE:nothing", "returned an int; expected the loss"),
        ("python:FILE:many", r"the loss is float32 \(8,\); expected one float, the mean over the images"),
        ("python:FILE:misspelt", r"the loss failed \(AttributeError: .* 'logit'.*, mine\.py line 8\)"),
        ("python:FILE:within_jax", r"the loss failed \(TypeError: .*, mine\.py line 10\)"),
        ("python:FILE:three", r"the loss returned a tuple of .*, dict, int; expected one float, or \(float, \{name"),
        ("python:FILE:listed", "the loss returned a tuple of .*, list; expected one float, or"),
        ("python:FILE:forgotten", "the loss is None .is there a return.*; expected one float"),
        ("python:FILE:mapping", "the loss returned a dict; expected one float, or"),
        ("python:FILE:keys", "the loss logs under 1; expected a name"),
        ("python:FILE:top1", "the loss logs 'top1', which training logs itself; rename it"),
        ("python:FILE:loss", "the loss logs 'loss', which training logs itself; rename it"),
        ("python:FILE:own_byproduct", "the loss logs 'byproduct_loss', which training logs itself"),
        ("python:FILE:text", "note is a str; expected one float"),
        ("python:FILE:constant", "the loss does not depend on the parameters, so nothing would be learnt"),
        ("python:FILE:stopped", "the loss does not depend on the parameters"),
        ("python:FILE:of_images", "the loss does not depend on the parameters"),
    ],
)
def test_a_loss_that_is_none_is_refused_in_one_line(loss: str, told: str, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MISTAKES)
    with pytest.raises(UserError, match=told) as error:
        train(experiment(data, BOX, loss=loss.replace("FILE", str(file))), tmp_path / "run")
    assert "\n" not in str(error.value) and (
        loss in ("distil", "python:nowhere.at_all:f") or str(file) in str(error.value)
    )
    assert not (tmp_path / "run" / "config.json").exists()  # so that another loss can be named for the same workdir


def test_a_loss_of_no_parameter_is_found_in_microbatches_too(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MISTAKES)
    config = experiment(data, BOX, loss=f"python:{file}:constant", batch_size=16, accumulation_steps=2)
    with pytest.raises(UserError, match="does not depend on the parameters"):
        set_up(config, tmp_path / "run")
    config.loss = f"python:{file}:of_parameters"
    set_up(config, tmp_path / "run")


def test_an_argument_without_a_loss_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.loss_argument='x' is for a loss of one's own: name it by config"):
        train(experiment(data, BOX, loss_argument="x"), tmp_path / "run")


def test_the_config_says_which_loss(data: Path) -> None:
    told = experiment(data, BOX, loss="python:mine:f", loss_argument="x")
    stored = json.loads(json.dumps(luab_jax.config.to_dict(told)))  # pyright: ignore[reportAttributeAccessIssue]
    assert (stored["loss"], stored["loss_argument"]) == ("python:mine:f", "x")
