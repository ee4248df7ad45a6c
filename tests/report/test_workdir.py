"""Training curves are those of the run that was evaluated, not of what its workdir holds now."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from luab_jax import config as config_lib
from luab_jax.byproducts.targets import Target
from luab_jax.config.identity import _OPERATIONAL
from luab_jax.report.page.training import Curves, training_curves
from luab_jax.report.page.workdir import NOT_STATED
from luab_jax.report.runs import Run, compare
from tests.report import made
from tests.report.test_page import Read, page_of

CONFIG = config_lib.Config(total_steps=3)
CONFIG.byproduct.target = Target.CLICK_LAST


def evaluated(workdir: Path, config: config_lib.Config = CONFIG, step: int = 3, seed: int = 0) -> Run:
    """Results of a run that was trained by a config."""
    stated = {name: value for name, value in config_lib.scientific_fields(config).items() if name != "seed"}
    return made.run("click_last", seed, workdir=str(workdir), step=step, experiment=json.loads(json.dumps(stated)))


def trained(workdir: Path, stored: Any = CONFIG, last_step: int = 3) -> None:
    """What a training leaves, perhaps that of another run."""
    plain = config_lib.to_dict(stored) if isinstance(stored, config_lib.Config) else stored
    (workdir / "config.json").write_text(json.dumps(plain))
    lines = [
        json.dumps({"step": step, "train/classification_loss": 2.0 - step / 10}) for step in range(1, 1 + last_step)
    ]
    (workdir / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def curves(*runs: Run) -> Curves:
    return training_curves(compare(runs).experiments)


def changed(**fields: Any) -> config_lib.Config:
    """`augmentation__mixup` is a field of a group."""
    config = copy.deepcopy(CONFIG)
    for name, value in fields.items():
        group, _, field = name.rpartition("__")
        setattr(getattr(config, group) if group else config, field, value)
    return config


def test_the_run_that_was_evaluated_is_drawn(tmp_path: Path) -> None:
    trained(tmp_path)
    found = curves(evaluated(tmp_path))
    assert len(found.figures) == 1 and found.drawn == [0] and not found.notes


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"seed": 1}, "its seed is 1, that of the results 0"),
        ({"total_steps": 4}, "its total_steps is 4, that of the results 3"),
        ({"byproduct__target": Target.NONE}, "its byproduct.target is 'none', that of the results 'click_last'"),
        ({"augmentation__mixup": 0.8}, "its augmentation.mixup is 0.8, that of the results 0.0"),
        ({"batch_size": 8, "seed": 1}, "its batch_size is 8, that of the results 1024, and 1 field more"),
        (
            {"byproduct__more": (config_lib.Byproduct(target=Target.BOX),)},
            "its byproduct.more.box.target is 'box', that of the results None",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_workdir_that_holds_another_run_now_is_not_drawn(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    trained(tmp_path, changed(**fields))
    found = curves(evaluated(tmp_path))
    assert not found.figures and not found.drawn
    (note,) = found.notes
    who = "resnet18 LUAB click_last λ=20, seed 0"
    assert note.startswith(f"No training curves of {who}: {tmp_path} holds another run now: ")
    assert told in note
    assert f"{tmp_path} holds another run now" in Read(page_of([evaluated(tmp_path)])).text


def test_a_run_that_was_begun_anew_is_not_drawn_before_it_comes_as_far(tmp_path: Path) -> None:
    trained(tmp_path, last_step=2)
    (note,) = curves(evaluated(tmp_path)).notes
    assert "its metrics.jsonl ends at step 2, the results are of step 3" in note
    assert curves(evaluated(tmp_path, step=2)).figures


def test_where_a_run_runs_and_what_it_evaluates_does_not_matter(tmp_path: Path) -> None:
    trained(tmp_path, changed(data__root="elsewhere", eval__every_epochs=0.5, data__workers=4))
    assert curves(evaluated(tmp_path)).figures


def test_a_run_that_was_extended_since_is_still_that_run(tmp_path: Path) -> None:
    trained(tmp_path, changed(total_steps=9, extended_at=(3,)), last_step=9)
    assert curves(evaluated(tmp_path)).figures
    assert curves(evaluated(tmp_path, changed(total_steps=9, extended_at=(3,)), step=9)).figures
    trained(tmp_path, changed(total_steps=9, extended_at=(2,)), last_step=9)
    assert not curves(evaluated(tmp_path)).figures, "another run, which was extended before it came as far"


def test_what_older_versions_stored_is_the_run_it_was(tmp_path: Path) -> None:
    """They had no augmentation, stated a patch of 16 for ResNets, and called `random_in_image` random."""
    stored = config_lib.to_dict(CONFIG)
    del stored["augmentation"], stored["byproduct"]["random_point"], stored["extended_at"]
    stored["model"]["patch_size"] = 16
    stored["byproduct"]["target"] = "random"
    trained(tmp_path, stored)
    assert curves(evaluated(tmp_path, changed(byproduct__target=Target.RANDOM_IN_IMAGE))).figures


@pytest.mark.parametrize("text", ["", "[1]", "{torn", "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, "\x00"])
def test_a_config_that_no_run_wrote_costs_the_curves_only(tmp_path: Path, text: str) -> None:
    trained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    found = curves(evaluated(tmp_path))
    assert not found.figures and len(found.notes) == 1 and "No training curves of" in found.notes[0]


def test_fields_that_an_experiment_does_not_state_have_the_values_of_the_config() -> None:
    before = {k: v for k, v in config_lib.VALUES_BEFORE.items() if not k.startswith(_OPERATIONAL)}
    of_others = {"optim.warmup_learning_rate", "model.batch_norm_images"}
    """Left out of an experiment where another field makes them meaningless too."""
    assert {k: v for k, v in before.items() if k not in of_others} == NOT_STATED
