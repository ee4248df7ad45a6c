"""Draws what a training step would eat: images as they are, and crops of them with the target Z.

    python -m luab_jax.preview --config=configs/resnet50.py --config.data.root=DATA --out=batches.png

The crops are the batches of the run that this config describes, after the augmentation on the device, but of a few
images only. --config.augmentation.enabled=False shows them before it.
"""

from __future__ import annotations

from absl import flags
from ml_collections import config_flags

from luab_jax import cli
from luab_jax.errors import ExitCode

_CONFIG = config_flags.DEFINE_config_file("config", None, "An experiment of configs/; fields by --config.field=value.")
_OUT = flags.DEFINE_string("out", None, "The picture to write: .png, .jpg or .webp.", required=True)
_IMAGES = flags.DEFINE_integer("images", 5, "Rows: images that have the target, drawn by config.seed.", lower_bound=1)
_CROPS = flags.DEFINE_integer("crops", 6, "Columns of crops: epochs of the run.", lower_bound=1)
_CELL = flags.DEFINE_integer("cell", 168, "Side of a cell, pixels.", lower_bound=32)


def main() -> ExitCode:
    from luab_jax.preview_grid import draw_preview  # after the flags, so that a usage error answers at once

    size = draw_preview(_CONFIG.value, _OUT.value, num_images=_IMAGES.value, num_crops=_CROPS.value, cell=_CELL.value)
    print(f"{_OUT.value}: {size.width} x {size.height} pixels")
    return ExitCode.DONE


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    cli.run(main)
