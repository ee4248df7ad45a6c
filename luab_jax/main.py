"""Trains one experiment: `python -m luab_jax.main --config=configs/vit_b.py --workdir=DIR [--config.field=value]`."""

from __future__ import annotations

from absl import flags
from ml_collections import config_flags

from luab_jax import cli
from luab_jax.errors import ExitCode

_CONFIG = config_flags.DEFINE_config_file("config", None, "An experiment of configs/; fields by --config.field=value.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints and metrics go; a run in it resumes.")
_PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print every field with its value, and stop.")


def main() -> ExitCode:
    from luab_jax.config import flatten

    config = _CONFIG.value
    if _PRINT_CONFIG.value:
        print("\n".join(f"--config.{name}={value}" for name, value in flatten(config).items()))
        return ExitCode.DONE
    if not _WORKDIR.value:
        cli.usage("--workdir=DIR is missing: where should checkpoints and metrics go?")
    from luab_jax.train import train  # after the flags, so that a usage error answers at once

    return train(config, _WORKDIR.value)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
