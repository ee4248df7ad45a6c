"""Compiles a training step for devices that need not be there, and says what it needs and how long a run would take.

    python -m luab_jax.preflight --config=configs/vit_b.py --topology=v5e:16x16 [--config.batch_size=4096] [--json=FILE]

Several --config=FILE give a table, one row each; fields set by --config.field=value hold for all of them. A shell
writes them for you: --config=configs/{resnet{18,50},vit_{ti,s,b}}.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from etils import epath
from ml_collections import config_flags

from luab_jax import cli
from luab_jax.compiled.chips import CHIPS
from luab_jax.compiled.topology import find, parse
from luab_jax.config import Config
from luab_jax.errors import ConfigError, ExitCode, UserError

if TYPE_CHECKING:
    from luab_jax.compiled.experiment import Preflight

_CONFIGS = flags.DEFINE_multi_string(
    "config", [], "An experiment of configs/; several make a table. Fields by --config.field=value."
)
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, f"A TPU slice ({', '.join(f'{c.name}:{c.topologies[3]}' for c in CHIPS.values())}, ...) or local."
)
_CLASSES = flags.DEFINE_integer("num_classes", None, "If not the data's, nor what ImageNet or COCO has.")
_EXAMPLES = flags.DEFINE_integer("num_examples", None, "Training images; if not the data's, ImageNet's or COCO's.")
_PRICE = flags.DEFINE_float("price_per_chip_hour", None, "In your currency; the cost of the run is printed then.")
_JSON = flags.DEFINE_string("json", None, "A file for everything that is known, as JSON.")


def main(overrides: Sequence[str]) -> ExitCode:
    if stray := [argument for argument in overrides if not argument.startswith("--config.")]:
        cli.usage(f"unexpected argument {stray[0]!r}; options are written --name=value")
    if not _CONFIGS.value:
        cli.usage("--config=FILE is missing: which experiment?")
    name = _TOPOLOGY.value
    if not name:
        cli.usage("--topology=... is missing: v5e:4x4, say, or local")
    parse(name)  # a wrong name is answered before jax is loaded
    configs = {_name(path, _CONFIGS.value): _load(path, overrides) for path in _CONFIGS.value}
    flights, failures = _examine(configs, name)
    if _JSON.value:
        _write_json(_JSON.value, flights, failures)
    from luab_jax.compiled import text

    if len(configs) > 1:
        sys.stdout.write(text.table(flights, failures, with_cost=_PRICE.value is not None))
    else:
        sys.stdout.write(text.page(flights[0]))
    all_fit = not failures and all(flight.estimate.fits is not False for flight in flights)
    return ExitCode.DONE if all_fit else ExitCode.FAILED


def _name(path: str, paths: Sequence[str]) -> str:
    """`vit_b` of `configs/vit_b.py`; the whole path where two are called the same."""
    stem = Path(path).stem
    return stem if [Path(other).stem for other in paths].count(stem) == 1 else path


def _load(path: str, overrides: Sequence[str]) -> Config:
    """One config with the overrides. ml_collections knows one per set of flags, hence a set for each."""
    argv = ["preflight", f"--config={path}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=argv)
    try:
        values(argv)
    except flags.Error as e:
        cli.usage(str(e))
    config = values["config"].value
    assert isinstance(config, Config)
    return config


def _examine(configs: dict[str, Config], name_of_topology: str) -> tuple[list[Preflight], dict[str, UserError]]:
    """In a table what is wrong with one experiment does not keep the others from being looked at."""
    topology = find(name_of_topology)  # before anything else loads jax
    from luab_jax.compiled.experiment import check_counts, examine

    check_counts(_CLASSES.value, _EXAMPLES.value)
    flights: list[Preflight] = []
    failures: dict[str, UserError] = {}
    for name, config in configs.items():
        try:
            flights.append(
                examine(
                    config,
                    topology,
                    name=name,
                    num_classes=_CLASSES.value,
                    num_examples=_EXAMPLES.value,
                    price_per_chip_hour=_PRICE.value,
                )
            )
        except ConfigError as e:
            if len(configs) == 1:
                raise
            failures[name] = e
    return flights, failures


def _write_json(path: str, flights: Sequence[Preflight], failures: dict[str, UserError]) -> None:
    from luab_jax.compiled import text

    values: list[dict[str, Any]] = [text.to_json(flight) for flight in flights]
    values += [{"experiment": name, "error": str(error)} for name, error in failures.items()]
    try:
        epath.Path(path).write_text(json.dumps(values, indent=1) + "\n")
    except OSError as e:
        raise UserError(f"--json={path}: cannot be written ({e.strerror or e})") from e


if __name__ == "__main__":
    cli.run(main, takes_arguments=True, unparsed="--config.")
