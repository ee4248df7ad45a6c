"""Configs that an earlier version of luab_jax stored in a workdir or a checkpoint, and what they mean now."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from luab_jax.byproducts.targets import Target
from luab_jax.config.experiment import Config
from luab_jax.config.identity import VALUES_BEFORE
from luab_jax.config.plain import flatten, from_dict, to_dict
from luab_jax.models.config import PRESETS


def updated(stored: dict[str, Any]) -> dict[str, Any]:
    """A whole stored config as this version would have written it; the argument is left as it is.

    A field that the earlier version did not have gets the value by which that version ran. Until `random` was matched
    to the clicks it meant what `random_in_image` means now.
    """
    values = copy.deepcopy(stored)
    if _is_earlier_random(stored):
        values["byproduct"]["target"] = Target.RANDOM_IN_IMAGE.value
    for name, value in VALUES_BEFORE.items():
        *groups, field = name.split(".")
        holder = values
        for group in groups:
            holder = holder.setdefault(group, {})
        holder.setdefault(field, value)
    model = values.get("model", {})
    if not hasattr(PRESETS.get(model.get("name")), "patch_size"):
        model["patch_size"] = None  # earlier configs of ResNets state the 16 of ViTs, which meant nothing
    return values


def _is_earlier_random(stored: dict[str, Any]) -> bool:
    byproduct = stored.get("byproduct", {})
    return byproduct.get("target") == Target.RANDOM.value and "random_point" not in byproduct


def from_stored(stored: dict[str, Any]) -> Config:
    """The config of a workdir or a checkpoint, of this version or an earlier one; raises `ConfigError` for a later."""
    return from_dict(Config, updated(stored))


def as_begun(config: Config, stored: dict[str, Any]) -> tuple[Config, list[str]]:
    """`config` for a run that began with the config `stored`, perhaps under an earlier version; and what that changed.

    Fields that the earlier version did not have, and that nobody has set, take the value by which that version ran, so
    that the command that began a run resumes it. The extensions of a run are taken from what is stored.
    """
    values, defaults = flatten(config), flatten(Config())
    there, before = flatten(stored), flatten(updated(stored))
    taken = {
        name: value
        for name, value in before.items()
        if name not in there and name in values and values[name] == defaults[name] != value
    }
    if _is_earlier_random(stored) and config.byproduct.target is Target.RANDOM:
        taken["byproduct.target"] = Target.RANDOM_IN_IMAGE.value
    lines = [f"  config.{name}={value}" for name, value in taken.items()]
    taken["extended_at"] = before["extended_at"]
    plain = to_dict(config)
    for name, value in taken.items():
        *groups, field = name.split(".")
        holder = plain
        for group in groups:
            holder = holder[group]
        holder[field] = value
    return dataclasses.replace(from_dict(Config, plain)), lines
