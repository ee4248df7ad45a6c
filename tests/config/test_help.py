"""`--print_config`: every field with its meaning, choices, default and value."""

from __future__ import annotations

import itertools

from luab_jax.config import Config, flatten
from luab_jax.config.flags import PREFIX, load_config
from luab_jax.config.help import describe
from luab_jax.recipes import recipe


def test_every_field_has_a_meaning() -> None:
    lines = describe(Config()).splitlines()
    without = [flag for text, flag in itertools.pairwise(lines) if text.startswith("# (")]
    assert not without, "write a sentence below these fields"


def test_the_lines_that_are_no_comments_are_flags_that_give_the_same_config() -> None:
    config = recipe("coco_vit_s")
    config.total_steps = 7
    flags = [line for line in describe(config).splitlines() if not line.startswith("#")]
    assert {flag.partition("=")[0].removeprefix(PREFIX) for flag in flags} == set(flatten(config))
    assert load_config("demo", flags) == config


def test_a_field_shows_choices_and_default() -> None:
    text = describe(recipe("vit_b"))
    assert "Peak, for the global batch as it is: no scaling rule is applied. (a number; default 0.1)" in text
    assert "(one of sgd, adamw; default sgd)\n--config.optim.name=adamw" in text
