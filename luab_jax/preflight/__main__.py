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

from luab_jax import cli
from luab_jax.config import Config
from luab_jax.config.flags import load_config
from luab_jax.errors import CompilerError, ConfigError, ExitCode, UserError
from luab_jax.io.atomic import write_text
from luab_jax.preflight.chips import CHIPS
from luab_jax.preflight.gpus import GPUS, GpuCluster, parse_gpus
from luab_jax.preflight.topology import LOCAL, can_compile_for_gpus, find, parse

if TYPE_CHECKING:
    from luab_jax.preflight.experiment import Preflight
    from luab_jax.preflight.gpu_experiment import GpuPreflight

_COMMAND = cli.Command(
    "python -m luab_jax.preflight",
    "Compiles the training step for devices that need not be there: whether it fits into their memory,\nand how long"
    " a run would take.",
    (
        "--config=configs/vit_b.py --topology=v5e:16x16",
        "--config=configs/resnet50.py --config=configs/vit_s.py --topology=v5e:4x4 --json=preflight.json",
        "--config=configs/vit_b.py --topology=h100:8",
    ),
    takes_config=True,
    required=("config", "topology"),
)
_CONFIGS = flags.DEFINE_multi_string(
    "config",
    [],
    "An experiment of configs/; several make a table. Fields by --config.field=value.",
    flag_values=_COMMAND.flags,
)
_TOPOLOGY = flags.DEFINE_string(
    "topology",
    None,
    f"A TPU slice ({', '.join(f'{c.name}:{c.topologies[3]}' for c in CHIPS.values())}, ...), several (2*v5e:16x16),"
    f" GPUs ({', '.join(GPUS)}; h100:8 is a machine of eight, h100:4x8 are four), or local.",
    flag_values=_COMMAND.flags,
)
_CLASSES = flags.DEFINE_integer(
    "num_classes", None, "If not the data's, nor what ImageNet or COCO has.", flag_values=_COMMAND.flags
)
_EXAMPLES = flags.DEFINE_integer(
    "num_examples", None, "Training images; if not the data's, ImageNet's or COCO's.", flag_values=_COMMAND.flags
)
_PRICE = flags.DEFINE_float(
    "price_per_chip_hour", None, "In your currency; the cost of the run is printed then.", flag_values=_COMMAND.flags
)
_WHAT = flags.DEFINE_enum(
    "what",
    "all",
    ["all", "memory", "roofline"],
    "memory says whether it fits, and nothing of time, cost and input; roofline compiles nothing, for GPUs alone.",
    flag_values=_COMMAND.flags,
)
_PROBE = flags.DEFINE_float(
    "probe_s",
    10.0,
    "Seconds for which this machine's loader reads the data of config.data.root, to be compared with what a host of the"
    " topology needs; 0 leaves it out.",
    flag_values=_COMMAND.flags,
)
_JSON = flags.DEFINE_string("json", None, "A file for everything that is known, as JSON.", flag_values=_COMMAND.flags)


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Runs the command; see `--help`."""
    return _COMMAND.run(_main, argv)


def _main(arguments: cli.Arguments) -> ExitCode:
    if not _CONFIGS.value:
        cli.usage("--config=FILE is missing: which experiment?")
    configs = {_name(path, _CONFIGS.value): load_config(path, arguments.overrides) for path in _CONFIGS.value}
    _check_seconds(_PROBE.value)
    name = _TOPOLOGY.value
    if not name:
        cli.usage("--topology=... is missing: v5e:4x4, say, or local")
    cluster = parse_gpus(name)
    by_roofline = _WHAT.value == "roofline"
    if cluster is not None and (by_roofline or not can_compile_for_gpus()):
        return _by_roofline(configs, cluster)
    if by_roofline:
        cli.usage(f"--what=roofline is for GPUs ({', '.join(f'{name}:8' for name in GPUS)})")
    if cluster is None:
        parse(name)  # a wrong name is answered before jax is loaded
    flights, failures = _examine(configs, name)
    from luab_jax.preflight import text

    several = len(configs) > 1
    with_cost = _PRICE.value is not None
    sys.stdout.write(text.table(flights, failures, with_cost=with_cost) if several else text.page(flights[0]))
    needed = [(flight.name, flight.config, flight.estimate.images_per_s_per_host) for flight in flights]
    tried = _with_inputs([text.to_json(flight) for flight in flights], needed, failures)
    all_fit = not failures and all(flight.estimate.fits is not False for flight in flights)
    return ExitCode.DONE if all_fit and tried else ExitCode.FAILED


def _by_roofline(configs: dict[str, Config], cluster: GpuCluster) -> ExitCode:
    if _PRICE.value is not None:
        cli.usage("--price_per_chip_hour: a roofline is a lower bound, from which no cost follows")
    from luab_jax.preflight import gpu_text
    from luab_jax.preflight.experiment import check_counts
    from luab_jax.preflight.gpu_experiment import examine_on_gpus

    check_counts(_CLASSES.value, _EXAMPLES.value)
    flights: list[GpuPreflight] = []
    failures: dict[str, UserError] = {}
    for name, config in configs.items():
        try:
            flights.append(
                examine_on_gpus(
                    config,
                    cluster,
                    name=name,
                    num_classes=_CLASSES.value,
                    num_examples=_EXAMPLES.value,
                    with_time=_WHAT.value != "memory",
                )
            )
        except ConfigError as e:
            if len(configs) == 1:
                raise
            failures[name] = e
    sys.stdout.write(gpu_text.table(flights, failures) if len(configs) > 1 else gpu_text.page(flights[0]))
    needed = [(flight.name, flight.config, flight.images_per_s / flight.work.num_hosts) for flight in flights]
    tried = _with_inputs([gpu_text.to_json(flight) for flight in flights], needed, failures)
    all_fit = not failures and all(flight.fits is not False for flight in flights)
    return ExitCode.DONE if all_fit and tried else ExitCode.FAILED


def _check_seconds(seconds: float) -> None:
    if not 0 <= seconds < 3600:
        raise ConfigError(f"--probe_s={seconds:g} must lie in [0, 3600); 0 leaves the loader out")


def _with_inputs(
    values: Sequence[dict[str, Any]],
    needed: Sequence[tuple[str, Config, float | None]],
    failures: dict[str, UserError],
) -> bool:
    """Writes the JSON before the loader is tried, which may be interrupted, and again with what it gives.

    False if a loader could not be tried.
    """
    _write_json([value | {"input": None} for value in values], failures)
    found = _inputs(needed)
    _write_json([value | of_loader for value, of_loader in zip(values, found, strict=True)], failures)
    return not any("error" in (of_loader["input"] or {}) for of_loader in found)


def _inputs(needed: Sequence[tuple[str, Config, float | None]]) -> list[dict[str, Any]]:
    """Tries the loader of each experiment, prints what it gives, and returns what belongs into the JSON of each."""
    from luab_jax.preflight.loader import Prober, without_data  # loads jax

    prober, values = Prober(_PROBE.value), []
    if _WHAT.value == "memory" or not _PROBE.value:
        return [{"input": None} for _ in needed]
    if needed and not any(config.data.root for _, config, _ in needed):
        sys.stdout.write(f"\n{without_data()}\n")
    for name, config, per_host in needed:
        sys.stdout.flush()
        try:
            found = prober(name, config, per_host)
        except UserError as e:
            sys.stdout.write(f"\n{name}: the loader could not be tried: {e}\n")
            values.append({"input": {"error": str(e)}})
            continue
        if found is not None:
            sys.stdout.write("\n" + "\n".join(found.lines()) + "\n")
        values.append({"input": None if found is None else found.to_json()})
    return values


def _name(path: str, paths: Sequence[str]) -> str:
    """`vit_b` of `configs/vit_b.py`; the whole path where two are called the same."""
    stem = Path(path).stem
    return stem if [Path(other).stem for other in paths].count(stem) == 1 else path


def _examine(configs: dict[str, Config], name_of_topology: str) -> tuple[list[Preflight], dict[str, UserError]]:
    """In a table what is wrong with one experiment does not keep the others from being looked at."""
    topology = find(name_of_topology)  # before anything else loads jax
    from luab_jax.preflight.apart import CompilerApart
    from luab_jax.preflight.experiment import check_counts, examine

    check_counts(_CLASSES.value, _EXAMPLES.value)
    # The devices at hand can be held by one process only: this one.
    apart = topology.name != LOCAL
    flights: list[Preflight] = []
    failures: dict[str, UserError] = {}
    for name, config in configs.items():
        compiler = CompilerApart(config, topology.name, _CLASSES.value, _EXAMPLES.value) if apart else None
        try:
            flights.append(
                examine(
                    config,
                    topology,
                    name=name,
                    num_classes=_CLASSES.value,
                    num_examples=_EXAMPLES.value,
                    price_per_chip_hour=_PRICE.value,
                    with_time=_WHAT.value == "all",
                    compiler=compiler,
                )
            )
        except (ConfigError, CompilerError) as e:
            if len(configs) == 1:
                raise
            failures[name] = e
    return flights, failures


def _write_json(values: list[dict[str, Any]], failures: dict[str, UserError]) -> None:
    if _JSON.value:
        failed = [{"experiment": name, "error": str(error)} for name, error in failures.items()]
        write_text(_JSON.value, json.dumps([*values, *failed], indent=1) + "\n")


if __name__ == "__main__":
    cli.run_program(main)
