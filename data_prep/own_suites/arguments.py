"""The options of the commands that make evaluation suites out of a prepared split."""

from __future__ import annotations

import argparse

from data_prep.argument_types import natural, positive, quality
from data_prep.own_suites import backgrounds, grids
from data_prep.own_suites.foregrounds import By
from data_prep.writing.workers import default_workers
from luab_jax.corruptions.parameters import SEVERITIES


def _area(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds these commands to those of `data_prep`."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--from", required=True, metavar="DIR", help="prepared directory, by data_prep or by TFDS")
    common.add_argument("--split", default="val", help="of that directory (default: val)")
    common.add_argument("--out", required=True, help="folder of all prepared suites; this one goes to OUT/own_...")
    common.add_argument("--seed", type=natural, default=0, help="of all that is drawn (default: 0)")
    common.add_argument(
        "--quality", type=quality, help="store JPEG of this quality (default: PNG, without loss; of corruptions 85)"
    )
    common.add_argument("--workers", type=positive, default=default_workers(), help="processes (default: all cores)")
    common.add_argument("--shards", type=positive, help="number of shards of each split")
    common.add_argument("--strict", action="store_true", help="fail if any image is left out")
    common.add_argument("--per_class", type=positive, help="at most so many images of each class (default: all)")
    of_backgrounds = commands.add_parser(
        "backgrounds", parents=[common], help="a backgrounds challenge: objects on the backgrounds of others"
    )
    of_backgrounds.add_argument(
        "--by",
        choices=[by.value for by in By],
        help="what cuts objects out (default: masks where half of the images have them, else boxes)",
    )
    of_backgrounds.add_argument(
        "--sets",
        help=f"only these, with commas between (default: {','.join(backgrounds.SETS)}; by boxes without no_fg)",
    )
    of_backgrounds.add_argument(
        "--max_area",
        type=_area,
        default=0.9,
        help="leave out images of which the object's rectangle covers more (default: 0.9)",
    )
    of_corruptions = commands.add_parser(
        "corruptions", parents=[common], help="the 19 corruptions of ImageNet-C, at five severities"
    )
    of_corruptions.add_argument("--kinds", help="only these, with commas between (default: all 19)")
    of_corruptions.add_argument(
        "--severities", type=_severities, default=SEVERITIES, help="such as 1,3,5 (default: all)"
    )
    of_corruptions.add_argument(
        "--side",
        type=positive,
        help="squares of so many pixels (default: images as they are where all have one size, else 224)",
    )
    of_corruptions.add_argument("--frost", help="folder of the photos of frost (default: package imagecorruptions)")
    of_occlusions = commands.add_parser(
        "occlusions", parents=[common], help="centre, cells of a grid, and object hidden"
    )
    of_occlusions.add_argument("--cells", type=positive, default=3, help="of the grid on each side (default: 3)")
    of_occlusions.add_argument(
        "--fill", choices=("mean", "black"), default="mean", help="mean colour of the image, or black"
    )
    of_grids = commands.add_parser(
        "grids", parents=[common], help="objects at other sizes, places and angles, by masks"
    )
    of_grids.add_argument("--kinds", help=f"only these, with commas between (default: {','.join(grids.KINDS)})")
    of_grids.add_argument("--places", type=positive, default=5, help="of the grid on each side (default: 5)")


def _severities(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part in map(str, SEVERITIES) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: severities are numbers from 1 to 5 with commas between")
    return tuple(sorted({int(part) for part in parts}))
