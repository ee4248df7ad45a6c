"""One byproduct or several: in a Python file, on a command line, in a stored config; and what is refused."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from luab_jax.byproducts.kinds import DEFAULT_SETTINGS
from luab_jax.byproducts.responses import Response, SampleWeight
from luab_jax.byproducts.targets import Target
from luab_jax.config import Config, Task, config_hash, differences, flatten, from_dict, needed_responses, to_dict
from luab_jax.config.byproduct import Byproduct, ByproductConfig, WeightSchedule, head_specs, several
from luab_jax.config.flags import load_config
from luab_jax.config.help import describe
from luab_jax.config.versions import from_stored
from luab_jax.errors import ConfigError, UsageError
from luab_jax.models.config import ByproductPool, Head, ModelConfig
from luab_jax.recipes import RECIPES

THREE = (
    Byproduct(target=Target.CLICK_LAST, weight=10.0),
    Byproduct(target=Target.BOX, weight=2.0, head=Head.DENSE),
    Byproduct(
        target=Target.TIME_TO_CLICK, weight=0.4, weight_schedule=WeightSchedule.COSINE, weight_epochs=3.0, block=2
    ),
)

HASHES = {
    "resnet18": "3eb6f4bcdf1f",
    "resnet50": "8903fb6b8888",
    "resnet101": "4be10d299e3c",
    "resnet152": "3c07b27cd54f",
    "vit_ti": "015f9ec40c0b",
    "vit_s": "d20a2a393959",
    "vit_b": "2f48a5f364c9",
    "coco_resnet18": "4bd802820671",
    "coco_resnet50": "4009eabf9742",
    "coco_resnet152": "53c486aba364",
    "coco_vit_ti": "f346eb201de0",
    "coco_vit_s": "86b4a77b5696",
    "coco_vit_b": "f980d8444c40",
    "demo": "38e63a268fe2",
}
"""Of the recipes before there were several byproducts."""


def with_flags(text: str, recipe: str = "resnet18") -> Config:
    return load_config(recipe, [f"--config.byproduct.{flag}" for flag in shlex.split(text)])


@pytest.mark.parametrize("name", HASHES)
def test_an_experiment_with_one_byproduct_keeps_its_hash(name: str) -> None:
    assert config_hash(RECIPES[name]()) == HASHES[name]


def test_a_list_says_what_the_flags_say() -> None:
    listed = RECIPES["resnet18"]()
    listed.byproduct = [*THREE]  # pyright: ignore[reportAttributeAccessIssue]
    flags = "weight=10 more=box,time_to_click more.box.weight=2 more.box.head=dense more.time_to_click.weight=0.4"
    flags += " more.time_to_click.weight_schedule=cosine more.time_to_click.weight_epochs=3 more.time_to_click.block=2"
    assert with_flags(flags) == listed
    assert listed.byproduct == several(*THREE)
    assert listed.byproduct.targets == (Target.CLICK_LAST, Target.BOX, Target.TIME_TO_CLICK)
    listed.validate()


def test_a_field_of_an_entry_that_is_not_there_makes_it() -> None:
    assert with_flags("more.box.weight=3").byproduct.more == (Byproduct(target=Target.BOX, weight=3.0),)
    assert with_flags("more=box more=").byproduct.more == ()


def test_fields_are_of_the_entries_that_the_same_command_line_lists() -> None:
    told = r"more=time_to_click does not list box; write --config\.byproduct\.more=time_to_click,box"
    with pytest.raises(UsageError, match=rf"more\.box\.weight: --config\.byproduct\.{told}"):
        with_flags("more=time_to_click more.box.weight=3")
    with pytest.raises(UsageError, match=r"more= does not list box; write --config\.byproduct\.more=box"):
        with_flags("more.box.weight=3 more=")
    with pytest.raises(
        UsageError, match=r"more\.box\.weight: --config\.byproduct\.more comes after it and would undo it"
    ):
        with_flags("more.box.weight=3 more=box")


def test_a_stored_config_comes_back_and_a_printed_one_is_its_flags() -> None:
    config = RECIPES["resnet18"]()
    config.byproduct = several(*THREE)
    assert from_stored(json.loads(json.dumps(to_dict(config)))) == config
    printed = [line for line in describe(config).splitlines() if line.startswith("--config.byproduct.more")]
    again = RECIPES["resnet18"]()
    again.byproduct.weight = 10.0
    assert load_config("resnet18", [*printed, "--config.byproduct.weight=10"]) == config
    assert "--config.byproduct.more.box.weight=2.0" in printed


def test_a_list_of_plain_values_is_read_too() -> None:
    entries = [to_dict(entry) for entry in THREE]
    assert from_dict(Config, {"byproduct": entries}).byproduct == several(*THREE)


def test_a_config_from_before_has_one_and_another_list_is_another_experiment() -> None:
    before = to_dict(RECIPES["resnet18"]())
    for name in ("more", "weight_schedule", "weight_epochs", "head", "hidden", "pool", "block", "heat_sigma"):
        del before["byproduct"][name]
    del before["byproduct"]["target_sample_weight"]
    assert from_stored(before) == RECIPES["resnet18"]()
    config = RECIPES["resnet18"]()
    config.byproduct.more = (Byproduct(target=Target.BOX),)
    other = with_flags("more.box.weight=3")
    assert config_hash(config) not in (config_hash(other), HASHES["resnet18"])
    assert differences(config, other) == {"byproduct.more.box.weight": (1.0, 3.0)}
    assert flatten(other)["byproduct.more.box.target"] == "box"


def test_what_all_share_stays_with_the_first() -> None:
    shared = ByproductConfig(target=Target.BOX, heat_map_side=5, sample_weight=SampleWeight.NUM_CORRECTIONS)
    both = several(shared, Byproduct(target=Target.TIME_TO_CLICK))
    assert both.heat_map_side == 5 and both.targets == (Target.BOX, Target.TIME_TO_CLICK)
    assert several().target is Target.NONE and several().entries == ()
    config = Config(byproduct=both)
    assert needed_responses(config) == (Response.TIME_TO_CLICK, Response.NUM_CORRECTIONS)
    config.byproduct = several(Byproduct(target_sample_weight=SampleWeight.TIME_TO_CLICK))
    assert needed_responses(config) == (Response.TIME_TO_CLICK,)


def test_heads_follow_the_models_fields_where_an_entry_says_nothing() -> None:
    model = ModelConfig(name="vit_ti", byproduct_head=Head.MLP, byproduct_hidden=8, byproduct_pool=ByproductPool.MEAN)
    click, box, _ = head_specs(several(*THREE[:2], Byproduct(target=Target.BOX_CENTRE)), model, None, DEFAULT_SETTINGS)
    assert (click.head, click.hidden, click.pool, click.shape) == (Head.MLP, 8, ByproductPool.MEAN, (1, 2))
    assert (box.head, box.hidden, box.pool, box.shape) == (Head.DENSE, None, ByproductPool.MAP, (1, 2))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("more=box,box", "two entries of the target box: leave one out"),
        ("more=click_last", "two entries of the target click_last"),
        ("target=none more=box", "empty it too"),
        ("more=none", "an entry without a target"),
        ("more.box.weight=-1", "config.byproduct.more.box.weight=-1.0 must be a number of 0 or more"),
        ("weight_schedule=warmup", r"config.byproduct.weight_schedule=warmup has no length: set .*weight_epochs"),
        ("more.box.weight_schedule=cosine", r"more.box.weight_schedule=cosine has no length"),
        ("more.box.weight_epochs=3", "belongs to a schedule"),
        ("more.box.pool=token", r"more.box.pool=token belongs to a ViT, but model.name='resnet18'"),
        ("more.box.block=9", r"more.box.block=9: resnet18 has 8 residual blocks"),
        ("more.box.hidden=9", "hidden=9 belongs to head=mlp or dense"),
        ("more.time_to_click.head=dense", "the target time_to_click has no place; choose linear or mlp"),
        ("head=dense pool=classifier", "pool=classifier is one vector, and head=dense draws a map"),
        ("more=coco_final", r"more.coco_final.target=coco_final does not exist for config.task=single_label"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(flags: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        with_flags(flags).validate()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("more=bux", "names separated by commas, each one of none, random"),
        ("more.bux.weight=1", "no field"),
        ("more.box.wight=1", "has no field"),
        ("more.box.weight=x", "expected a number"),
    ],
)
def test_a_wrong_name_is_a_wrong_use(flag: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        with_flags(flag)


@pytest.mark.parametrize("value", [3, (1, 2), [Target.BOX]])
def test_another_type_names_the_field(value: Any) -> None:
    config = Config()
    config.byproduct = value
    with pytest.raises(ConfigError, match=r"config\.byproduct="):
        config.validate()
    box = Byproduct(target=Target.BOX)
    box.weight = "2"  # pyright: ignore[reportAttributeAccessIssue]
    config = Config(byproduct=several(Byproduct(), box))
    with pytest.raises(ConfigError, match=r"config\.byproduct\.more\.box\.weight='2': expected a number"):
        config.validate()


def test_weights_by_responses_are_for_one_label() -> None:
    config = Config(task=Task.MULTI_LABEL)
    config.byproduct = several(Byproduct(target=Target.COCO_FINAL, target_sample_weight=SampleWeight.NUM_CORRECTIONS))
    with pytest.raises(ConfigError, match="target_sample_weight=num_corrections is for one label"):
        config.validate()
