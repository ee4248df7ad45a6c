"""What a workdir that holds a run already means for a config: which run it resumes, extends, or is refused by."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from etils import epath

from luab_jax import config as config_lib
from luab_jax.checkpoints.store import latest_undamaged_step
from luab_jax.config import Byproduct, Config
from luab_jax.config.versions import as_begun, from_stored, updated
from luab_jax.errors import CheckpointError, ConfigError, UserError, option
from luab_jax.io.wording import counted
from luab_jax.training.optim import schedule_of

LENGTHS = ("epochs", "total_steps")
"""Fields that an extension changes."""
_MORE = "byproduct.more"


def read_json(path: epath.Path) -> Any:
    """A file that a run wrote; raises `UserError` for anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path}: not written by a run ({e}); choose another {option('workdir')}") from e
    if not isinstance(values, dict):
        raise UserError(f"{path}: not written by a run (no object); choose another {option('workdir')}")
    return values


def stored_config(workdir: epath.Path) -> dict[str, Any] | None:
    """The config of the run in a workdir as it is written there; `None` for a new one."""
    path = workdir / "config.json"
    return read_json(path) if path.exists() else None


def resumed_config(config: Config, workdir: epath.Path) -> tuple[Config, list[str]]:
    """The config by which a run in `workdir` goes on, and lines that say what an earlier version had otherwise."""
    stored = stored_config(workdir)
    if stored is None:
        return config, []
    resumed, taken = _of_stored(as_begun, workdir, config, stored)
    if not taken:
        return resumed, []
    return resumed, [f"{workdir} was begun by an earlier version of luab_jax; the run goes on with", *taken]


def _of_stored(function: Any, workdir: epath.Path, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (ConfigError, AttributeError, TypeError, KeyError, ValueError) as e:
        raise UserError(f"{workdir / 'config.json'}: cannot be read ({e}); choose another {option('workdir')}") from e


def extended_config(config: Config, workdir: epath.Path, num_examples: int) -> tuple[Config, list[str]]:
    """`config` as an extension of the run in `workdir`, which it continues for more steps, and lines that say so.

    Nothing changes where the run has this length already: the command that extended it resumes it too. Raises
    `UserError` where there is no run, or one that differs in more than its length, or is longer.
    """
    stored = stored_config(workdir)
    if stored is None:
        raise UserError(f"{option('extend', True)}: {workdir} holds no run yet; leave it out to begin one")
    changed = config_lib.differences(updated(stored), config)
    if not changed.keys() & set(LENGTHS):
        return config, []
    old = _of_stored(from_stored, workdir, stored)
    before, after = (config_lib.total_steps(each, num_examples) for each in (old, config))
    if after < before:
        raise UserError(
            f"{option('extend', True)}: the run in {workdir} has {counted(before, 'step')}, and this config"
            f" only {after:,}"
        )
    step = latest_undamaged_step(workdir)
    if step is None:
        raise CheckpointError(f"{option('extend', True)}: {workdir} holds no undamaged checkpoint to continue from")
    extended = dataclasses.replace(config, extended_at=(*old.extended_at, step))
    rates = [np.asarray(schedule_of(each, num_examples)(step)).item() for each in (old, config)]
    return extended, [
        f"extends the run in {workdir} from {before:,} to {after:,} steps: from step {step:,} on the learning rate"
        f" follows the schedule of the longer run and is {rates[1]:.3g} there, where the shorter has {rates[0]:.3g}."
        " The result is that of no run of a single length; config.extended_at says so in every checkpoint"
    ]


def latest_step(workdir: epath.Path) -> int | None:
    directory = workdir / "checkpoints"
    steps = [int(path.name) for path in directory.iterdir() if path.name.isdigit()] if directory.exists() else []
    return max(steps, default=None)


def refuse_another(workdir: epath.Path, changed: dict[str, tuple[Any, Any]], stored: dict[str, Any]) -> None:
    """Raises `UserError` if a run differs from the one in its workdir, saying in what and how to resume that one.

    stored: The config of the run in the workdir, as this version would have written it.
    """
    if not changed:
        return
    other = f"choose another {option('workdir')}"
    lines = [f"  {name}: {old!r} there, {new!r} here" for name, (old, new) in changed.items()]
    if latest_step(workdir) is None and not (workdir / "damaged-checkpoints").exists():
        head = (
            f"{workdir}: holds a run of another config or other data, which ended before its first checkpoint. There is"
            f" nothing to resume: delete the folder, or {other}. They differ in"
        )
        raise UserError("\n".join([head, *lines]))
    head = f"{workdir}: holds a run of another config or other data; {other}. They differ in"
    raise UserError("\n".join([head, *lines, *_remedy(changed, stored)]))


def _remedy(changed: dict[str, tuple[Any, Any]], stored: dict[str, Any]) -> list[str]:
    if changed.keys() <= set(LENGTHS):
        return [
            f"Another length is another schedule. {option('extend', True)} continues this run for more epochs;"
            f" config.init_from begins a new one, in another {option('workdir')}, with its weights"
        ]
    if any(name.startswith("data ") for name in changed):
        return []
    return ["To resume the run that is there:", "  " + " ".join(_flag(*each) for each in _as_stored(changed, stored))]


def _as_stored(changed: Iterable[str], stored: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The changed fields with their values there, in the order of a command line."""
    there = config_lib.flatten(stored)
    listed = {name for name in changed if name.startswith(f"{_MORE}.")}
    other_list = any(name.endswith(".target") for name in listed)
    for name in changed:
        if name in there and not (other_list and name in listed):
            yield name, there[name]  # the difference itself has None for a field without effect there
    if other_list:
        yield from config_lib.entry_values(_MORE, stored["byproduct"]["more"], Byproduct())


def _flag(name: str, value: Any) -> str:
    text = f"({', '.join(map(str, value))}{',' if len(value) == 1 else ''})" if isinstance(value, list) else str(value)
    return f"{option(f'config.{name}')}={shlex.quote(text) if text else ''}"


def same_replicas(old: dict[str, Any], replicas: int | None) -> None:
    """Raises `ConfigError` where statistics per device would be those of another number of devices than before.

    old: The data.json of the run, which lacks the number for runs of earlier versions.
    """
    before = old.get(REPLICAS)
    if before is None or replicas is None or before == replicas:
        return
    raise ConfigError(
        f"config.model.batch_norm=per_replica: this run began on {before} devices, and here are {replicas}, so a ResNet"
        f" would be normalised over other numbers of images. Resume it on {before} devices; batch_norm=global or groups"
        " make a run independent of their number"
    )


REPLICAS = "batch_norm_replicas"
"""Entry of data.json: the devices of a run whose statistics are per device."""
