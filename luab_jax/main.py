"""Trains one experiment: `python -m luab_jax.main --config=configs/vit_b.py --workdir=DIR [--config.field=value]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from absl import flags

from luab_jax import cli
from luab_jax.config.flags import load_config
from luab_jax.errors import ExitCode


def _lists() -> str:
    from luab_jax.byproducts.targets import Target
    from luab_jax.recipes import RECIPES

    targets = ", ".join(target.value for target in Target)
    return f"recipes (--config=NAME): {', '.join(RECIPES)}\n\ntargets (--config.byproduct.target=NAME): {targets}"


_COMMAND = cli.Command(
    "python -m luab_jax.main",
    "Trains one experiment: a baseline, or a model that also regresses annotation byproducts.\nThe same command resumes"
    " what is in --workdir, after whatever ended it.",
    (
        "--config=configs/resnet50.py --workdir=RUNS/r50 --config.data.root=DATA",
        "--config=configs/vit_b.py --workdir=RUNS/baseline --config.data.root=DATA --config.byproduct.target=none",
        "--config=configs/coco_resnet50.py --print_config",
    ),
    takes_config=True,
    required=("config", "workdir"),
    lists=_lists,
)
_CONFIG = flags.DEFINE_string(
    "config", None, "An experiment of configs/; fields by --config.field=value.", flag_values=_COMMAND.flags
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Where checkpoints and metrics go; a run in it resumes. Not needed with --print_config.",
    flag_values=_COMMAND.flags,
)
_EXTEND = flags.DEFINE_bool(
    "extend",
    False,
    "Continue the run in --workdir, perhaps a finished one, for more epochs than it began with; the learning rate then"
    " follows the longer schedule from where it stopped.",
    flag_values=_COMMAND.flags,
)
_PRINT_CONFIG = flags.DEFINE_bool(
    "print_config",
    False,
    "Print every field with its meaning, choices, default and value, and stop.",
    flag_values=_COMMAND.flags,
)


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Runs the command; see `--help`."""
    words = list(sys.argv[1:] if argv is None else map(str, argv))
    return _COMMAND.run(partial(_main, words), argv)


def _main(words: Sequence[str], arguments: cli.Arguments) -> ExitCode:
    if not _CONFIG.value:
        cli.usage("--config=... is missing: which experiment?")
    config = load_config(_CONFIG.value or "", arguments.overrides)
    config.validate()
    if _PRINT_CONFIG.value:
        from luab_jax.config.help import describe

        print(describe(config))
        return ExitCode.DONE
    if not _WORKDIR.value:
        cli.usage("--workdir=DIR is missing: where should checkpoints and metrics go?")
    if config.distributed.enabled or config.distributed.coordinator_address:
        from luab_jax.distributed import parent

        if parent.is_parent():
            return parent.watch("luab_jax.main", words)
    from luab_jax.api import train  # after the flags, so that a usage error answers at once

    return train(config, _WORKDIR.value, extend=_EXTEND.value)


if __name__ == "__main__":
    cli.run_program(main)
