"""A run whose data has nothing of its target is refused before its first step; one with a little says how little."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from data_prep.writing.shards import Outcome
from luab_jax.byproducts.kinds import DEFAULT_SETTINGS
from luab_jax.byproducts.targets import Target
from luab_jax.config import ByproductConfig, Config, Task
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.errors import DataError
from luab_jax.training import target_check
from luab_jax.training.loop import train
from luab_jax.training.target_check import check_targets
from tests import tiny

NUM_RECORDS = 40


class Bare(tiny.Drawn):
    """A photo and nothing else."""


def draw_unless_bare(item: tiny.Drawn) -> Outcome:
    outcome = tiny.draw(item)
    assert outcome.record is not None
    if not isinstance(item, Bare):
        return outcome
    return outcome._replace(record=dataclasses.replace(outcome.record, boxes=(), showings=()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train` has no byproducts, `one` has them in one record, `val` in all."""
    root = tmp_path_factory.mktemp("data")
    for split, items in (
        ("train", [Bare(i) for i in range(NUM_RECORDS)]),
        ("one", [*(Bare(i) for i in range(NUM_RECORDS - 1)), tiny.Drawn(99)]),
        ("val", [tiny.Drawn(i) for i in range(5)]),
    ):
        tiny.prepare_split(root, split, 0, items=items, read=draw_unless_bare)
    return root


def check(data: Path, config: Config, train_split: str, eval_split: str = "val") -> None:
    splits: list[PreparedSplit] = [open_split(data, name) for name in (train_split, eval_split)]
    num_classes = 3 if config.task is Task.MULTI_LABEL else None
    check_targets(config, splits[0], splits[1], num_classes, DEFAULT_SETTINGS)


@pytest.mark.parametrize(
    ("target", "lacking"),
    [
        (Target.CLICK_LAST, "a click_last"),
        (Target.CLICK_FIRST, "a click_first"),
        (Target.BOX, "a box"),
        (Target.TRACE_HEAT_MAP, "a trace_heat_map"),
        (Target.RANDOM, "the byproducts that the control is matched to"),
        (Target.RANDOM_IN_IMAGE, "a random_in_image"),
    ],
)
def test_without_a_single_target_a_run_is_refused(target: Target, lacking: str, data: Path) -> None:
    config = Config(byproduct=ByproductConfig(target=target))
    with pytest.raises(DataError, match=f"none of the {NUM_RECORDS} records of the split 'train' has {lacking}"):
        check(data, config, "train")


def test_the_run_itself_is_refused_and_claims_no_workdir_but_its_baseline_trains(data: Path, tmp_path: Path) -> None:
    config = tiny.experiment(data, total_steps=1)
    with pytest.raises(DataError, match=r"would train a baseline. .*config.byproduct.target=none for the baseline"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    config.byproduct.target = Target.NONE
    assert train(config, tmp_path / "run") == 0


@pytest.mark.parametrize("target", [Target.COCO_FINAL, Target.COCO_ADDED, Target.RANDOM])
def test_so_are_sets_of_labels_without_icons(target: Target, data: Path) -> None:
    config = Config(task=Task.MULTI_LABEL, byproduct=ByproductConfig(target=target))
    with pytest.raises(DataError, match="none of the 40 records"):
        check(data, config, "one")  # its clicks are no icons


def test_labels_that_are_to_follow_icons_need_some(data: Path) -> None:
    config = Config(task=Task.MULTI_LABEL, byproduct=ByproductConfig(target=Target.NONE, label_follows_point=True))
    with pytest.raises(DataError, match=r"has a coco_final, so config.byproduct.label_follows_point=True would"):
        check(data, config, "train")


def test_one_record_in_the_whole_split_is_enough_and_its_rarity_is_said(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(data, Config(), "one")
    assert "target click_last: found in 1 of the 40 records checked" in capsys.readouterr().err
    monkeypatch.setattr(target_check, "_SAMPLE", 3)
    monkeypatch.setattr(target_check, "_CHUNK", 4)
    monkeypatch.setattr(target_check.np, "linspace", lambda *_: target_check.np.arange(3))  # none of which has it
    check(data, Config(), "one")
    assert "target click_last: found in 0 of the 3 records checked" in capsys.readouterr().err


def test_a_weight_of_zero_and_an_evaluation_split_without_targets_are_said(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(data, Config(byproduct=ByproductConfig(weight=0.0)), "val", "train")
    said = capsys.readouterr().err
    assert "target click_last: found in 5 of the 5 records checked" in said
    assert "config.byproduct.weight is 0: the backbone is trained as a baseline's" in said
    assert "the split 'train' seems to have no click_last" in said
