"""docs/recipes.md says what configs/ does: every value of its tables is right, and none of a recipe is missing."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from luab_jax import recipes
from luab_jax.config import Config, flatten, scientific_fields, to_dict
from luab_jax.config.byproduct import Byproduct

DOCUMENT = (Path(__file__).parents[1] / "docs/recipes.md").read_text(encoding="utf-8")
RECIPES = {
    "ImageNet-AB, ResNets": [recipes.imagenet_resnet(f"resnet{depth}") for depth in (18, 50, 101, 152)],
    "ImageNet-AB, ViTs": [recipes.imagenet_vit(name) for name in ("vit_ti", "vit_s", "vit_b", "deit3_s")],
    "ImageNet-AB, ConvNeXt": [recipes.imagenet_convnext("convnext_t")],
    "COCO-AB": [recipes.coco(name) for name in ("resnet18", "resnet50", "resnet152", "vit_ti", "vit_s", "vit_b")],
}
BUILT_AS_ABOVE = ("model.",)
"""What the section on COCO says in a sentence."""


def rows(section: str) -> dict[str, list[str]]:
    """The table of a section, by setting: source, file, here, why."""
    part = re.split(r"^## ", DOCUMENT, flags=re.M)
    (text,) = [each for each in part if each.startswith(section)]
    cells = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0].strip("`"): row[1:] for row in cells[2:] if len(row) == 5}


def value(text: str) -> Any:
    """As `flatten` has it: tuples are lists, enums their values, nothing is an empty text."""
    if text == "(empty)":
        return ""
    try:
        read = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return list(read) if isinstance(read, tuple) else read


@pytest.mark.parametrize("section", RECIPES)
def test_every_value_of_the_tables_is_that_of_the_configs(section: str) -> None:
    fields = {name: row for name, row in rows(section).items() if name in flatten(Config())}
    assert len(fields) > 14
    for config in RECIPES[section]:
        flat = flatten(config)
        for name, row in fields.items():
            assert flat[name] == value(row[2]), f"{config.model.name}: {name}"


@pytest.mark.parametrize("section", RECIPES)
def test_nothing_that_a_recipe_sets_is_missing(section: str) -> None:
    table, default = rows(section), flatten(Config()) | scientific_fields(Config())
    for config in RECIPES[section]:
        for name, found in scientific_fields(config).items():
            known = name in table or name == "model.name" or (section == "COCO-AB" and name.startswith(BUILT_AS_ABOVE))
            assert known or found == default[name], f"{config.model.name}: {name}={found}"


@pytest.mark.parametrize("section", RECIPES)
def test_every_setting_has_a_source_and_a_field_that_exists(section: str) -> None:
    for name, (at_source, file, here, why) in rows(section).items():
        assert file and here and (at_source or file == "here"), name
        if "." in name and " " not in name:
            assert name in flatten(Config()), name
        assert file != "here" or why or at_source == "not stated", name


def test_the_table_of_several_byproducts_is_what_the_config_adds() -> None:
    config, alone = flatten(recipes.several_byproducts()), flatten(recipes.imagenet_resnet("resnet18"))
    table = {name: value(row[2]) for name, row in rows("Several byproducts").items()}
    assert all(config[name] == expected for name, expected in table.items())
    usual = flatten(to_dict(Byproduct()))
    added = {name for name in config.keys() - alone.keys() if config[name] != usual[name.rpartition(".")[2]]}
    assert added | {name for name in config if name.endswith(".target") and ".more." in name} <= table.keys()
    assert {name for name in alone if alone[name] != config.get(name)} == {"byproduct.more"}
