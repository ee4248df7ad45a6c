"""Draws what a training step would eat: images as they are, and crops of them with the target Z.

    python -m luab_jax.preview --config=configs/resnet50.py --config.data.root=DATA --out=batches.png

The crops are the batches of the run that this config describes, after the augmentation on the device, but of a few
images only. --config.augmentation.enabled=False shows them before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from luab_jax import cli
from luab_jax.config.flags import load_config
from luab_jax.errors import ExitCode

_COMMAND = cli.Command(
    "python -m luab_jax.preview",
    "Plots the batches that training would see: whole images with what annotators left on them,\nand crops of them with"
    " the target.",
    (
        "--config=configs/resnet50.py --config.data.root=DATA --out=batches.png",
        "--config=configs/vit_b.py --config.data.root=DATA --out=batches.jpg --images=6 --crops=8",
        "--config=configs/resnet50.py --config.data.root=DATA --config.augmentation.enabled=False --out=plain.png",
    ),
    takes_config=True,
    required=("config",),
)
_CONFIG = flags.DEFINE_string(
    "config", None, "An experiment of configs/; fields by --config.field=value.", flag_values=_COMMAND.flags
)
_OUT = flags.DEFINE_string(
    "out", None, "The picture to write: .png, .jpg or .webp.", required=True, flag_values=_COMMAND.flags
)
_IMAGES = flags.DEFINE_integer(
    "images", 5, "Rows: images that have the target, drawn by config.seed.", lower_bound=1, flag_values=_COMMAND.flags
)
_CROPS = flags.DEFINE_integer(
    "crops", 6, "Columns of crops: epochs of the run.", lower_bound=1, flag_values=_COMMAND.flags
)
_CELL = flags.DEFINE_integer("cell", 168, "Side of a cell, pixels.", lower_bound=32, flag_values=_COMMAND.flags)


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Runs the command; see `--help`."""
    return _COMMAND.run(_main, argv)


def _main(arguments: cli.Arguments) -> ExitCode:
    if not _CONFIG.value:
        cli.usage("--config=... is missing: which experiment?")
    config = load_config(_CONFIG.value or "", arguments.overrides)
    from luab_jax.api import draw_preview  # after the flags, so that a usage error answers at once

    size = draw_preview(config, _OUT.value, images=_IMAGES.value, crops=_CROPS.value, cell=_CELL.value)
    print(f"{_OUT.value}: {size.width} x {size.height} pixels")
    return ExitCode.DONE


if __name__ == "__main__":
    cli.run_program(main)
