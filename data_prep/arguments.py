"""The arguments of `python -m data_prep COMMAND`."""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from typing import Any

from data_prep.argument_types import columns, condition, num_bytes, positive, quality, share, split_name
from data_prep.collect import commands as collect
from data_prep.datasets.suites import NAMES as SUITE_NAMES
from data_prep.downscale import DEFAULT_QUALITY
from data_prep.own_suites import arguments as own_suites
from data_prep.writing.workers import default_workers
from luab_jax.io.home import with_home

Commands = Any
"""What `add_subparsers` returns, which argparse does not name in public."""


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """What `parse_args` does, but `~` is expanded, and an unknown flag is refused with the nearest of the command."""
    words = map(with_home, sys.argv[1:] if argv is None else argv)
    arguments, unknown = make_parser().parse_known_args(list(words))
    if unknown:
        near = difflib.get_close_matches(unknown[0].partition("=")[0], [f"--{name}" for name in vars(arguments)], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return arguments


def make_parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="python -m data_prep", description="`python -m data_prep COMMAND`: raw data in, prepared shards out."
    )
    commands = root.add_subparsers(dest="command", required=True)
    workers, with_beam, stored = _worker_options(), _beam_options(), _storage_options()
    writers = [with_beam, stored]
    _add_imagenet_ab(commands, writers)
    _add_suite(commands, writers)
    _add_folder(commands, writers)
    _add_coco_ab(commands, writers)
    _add_demo(commands, [workers])
    _add_inspect(commands, [with_beam])
    _add_verify(commands, [with_beam])
    own_suites.add_parser(commands)
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    collect.add_parser(commands)
    return root


def _worker_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workers", type=positive, default=default_workers(), help="processes (default: all cores)")
    return parser


def _beam_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, parents=[_worker_options()])
    parser.add_argument(
        "--beam_options",
        type=lambda text: tuple(shlex.split(text)),
        metavar="FLAGS",
        help='work on the shards with Apache Beam; flags of its pipeline: "--runner=DataflowRunner --project=..."',
    )
    return parser


def _storage_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--max_side", type=positive, help="store images with at most so many pixels on the longer side")
    parser.add_argument("--quality", type=quality, help=f"JPEG quality with --max_side (default: {DEFAULT_QUALITY})")
    parser.add_argument(
        "--no_decode_check",
        dest="decode",
        action="store_false",
        help="look at headers alone: damaged photos then pass, and stop a training later",
    )
    parser.add_argument(
        "--max_unpacked",
        type=num_bytes,
        metavar="BYTES",
        help="what a compressed archive may unpack to, such as 500G (default: 250 times its size, and 2T)",
    )
    return parser


def _add_imagenet_ab(commands: Commands, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("imagenet_ab", parents=parents, help="class folders and ImageNet-AB byproducts")
    parser.add_argument(
        "--images", required=True, help="folder or archive of <class>/<image>, or ILSVRC2012_img_val.tar"
    )
    parser.add_argument("--byproducts", help="folder or archive of <class>/<image name>.xml")
    parser.add_argument("--out", required=True, help="prepared directory; several splits may share one")
    parser.add_argument("--split", type=split_name, default="train")
    parser.add_argument(
        "--boxes", help="folder or archive of <class>/<image>.xml or <image>.xml; or <class>.txt, one .txt"
    )
    parser.add_argument(
        "--val_labels", help="lines `name wnid` for validation images without classes (default: built in)"
    )
    parser.add_argument(
        "--classes", default="imagenet", help="`imagenet`, or a file of lines `id TAB name` in label order"
    )
    parser.add_argument("--shards", type=positive, help="number of shards (default: about 1,250 images in each)")
    parser.add_argument("--strict", action="store_true", help="fail if any input is skipped or damaged")
    parser.add_argument("--min_match", type=share, default=0.5, help="least share of images and byproducts that match")


def _add_suite(commands: Commands, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("suite", parents=parents, help="the data of an evaluation suite")
    parser.add_argument("name", choices=SUITE_NAMES, metavar="NAME", help=", ".join(SUITE_NAMES))
    parser.add_argument("--source", required=True, help="the archive as downloaded, or the folder it unpacks to")
    parser.add_argument("--out", required=True, help="folder of all prepared suites; this one goes to OUT/NAME")
    parser.add_argument("--split", type=split_name, help="only this variant, or which one it is (default: all found)")
    parser.add_argument("--boxes", help="imagenet_localisation: ILSVRC2012_bbox_val_v3.tgz, its folder, or text")
    parser.add_argument(
        "--instances", help="coco: instances_val2014.json, or the zip that holds it (default: looked for)"
    )
    parser.add_argument("--real", help="imagenet, imagenet_real: real.json")
    parser.add_argument("--factors", help="imagenet_x: imagenet_x_val_multi_factor.jsonl, or ..._top_factor.jsonl")
    parser.add_argument("--font", help="imagenet_w: SourceHanSerifSC-ExtraLight.otf")
    parser.add_argument("--masks", help="hard_imagenet: hardImageNet.zip")
    parser.add_argument("--humans", help="cue_conflict: raw-data/cue-conflict, what people answered")
    parser.add_argument("--prototypes", help="imagenet_x: prototypical_paths.csv, whose images are left out")
    parser.add_argument("--val_labels", help="imagenet: lines `name wnid` (default: built in)")
    parser.add_argument("--password", help="objectnet: the phrase printed on its download page")
    parser.add_argument("--generate", action="store_true", help="imagenet_c: made of ILSVRC's val images in --source")
    parser.add_argument("--frost", help="--generate: folder of the photos of frost (default: package imagecorruptions)")
    parser.add_argument("--corruptions", help="--generate: only these kinds, with commas between (default: all 19)")
    parser.add_argument("--shards", type=positive, help="number of shards of each split")
    parser.add_argument("--strict", action="store_true", help="fail if any input is skipped or damaged")


def _add_folder(commands: Commands, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("folder", parents=parents, help="class folders of your own")
    parser.add_argument("--source", required=True, help="folder or archive of <class>/<image>")
    parser.add_argument("--out", required=True, help="prepared directory; several splits may share one")
    parser.add_argument("--split", type=split_name, default="train")
    parser.add_argument("--byproducts", help="clicks: .csv or .jsonl with file_name, x, y; or <class>/<image name>.xml")
    parser.add_argument("--annotations", help="labels, groups, boxes, masks by file name: .csv or .jsonl")
    parser.add_argument(
        "--file_name", default="file_name", metavar="COLUMN", help="of --annotations, with the file names"
    )
    parser.add_argument(
        "--label", metavar="COLUMN", help="with the class, or classes with | between (default: the folder)"
    )
    parser.add_argument("--groups", type=columns, default=(), metavar="A,B", help="columns whose values name the group")
    parser.add_argument(
        "--where", type=condition, action="append", default=[], metavar="COLUMN=VALUE", help="only such rows"
    )
    parser.add_argument(
        "--classes", help="lines `id TAB name` in label order (default: SOURCE/classes.txt, folder names)"
    )
    parser.add_argument("--shards", type=positive, help="number of shards (default: about 1,250 images in each)")
    parser.add_argument("--strict", action="store_true", help="fail if any input is skipped or damaged")


def _add_coco_ab(commands: Commands, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("coco_ab", parents=parents, help="COCO, and COCO-AB byproducts")
    parser.add_argument("--images", required=True, help="folder or archive of the images that the instances file names")
    parser.add_argument("--instances", required=True, help="instances_train2014.json or alike")
    parser.add_argument("--byproducts", help="coco_ab_v1_0.json")
    parser.add_argument("--out", required=True, help="prepared directory; several splits may share one")
    parser.add_argument("--split", type=split_name, default="train")
    parser.add_argument("--classes", default="coco", help="`coco`: all 80, or a file of COCO names in label order")
    parser.add_argument("--shards", type=positive, help="number of shards (default: about 1,250 images in each)")
    parser.add_argument("--strict", action="store_true", help="fail if any input is skipped or damaged")
    parser.add_argument("--min_match", type=share, default=0.5, help="least share of images and records that match")


def _add_demo(commands: Commands, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("demo", parents=parents, help="the drawn data set, with simulated clicks")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--correlation", type=share, default=0.75, help="share of images on their class's own background"
    )
    parser.add_argument("--num_train", type=positive, help="training images (default: 4000)")
    parser.add_argument(
        "--num_val", type=positive, help="validation images (default: 1000), and the most in a group of a suite"
    )
    parser.add_argument("--side", type=positive, help="pixels")


def _add_inspect(commands: Commands, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("inspect", parents=parents, help="what a directory holds, as text and as a page")
    parser.add_argument("directory", help="prepared by data_prep or by TFDS")
    parser.add_argument("--split", help="only this one (default: all)")
    parser.add_argument("--html", help="also write a page of images with clicks, traces, boxes and masks to this file")
    parser.add_argument(
        "--show_workers", action="store_true", help="name annotators on the page by their ids (default: hidden)"
    )
    parser.add_argument(
        "--images", dest="num_images", type=positive, default=60, help="images of each split on the page"
    )
    parser.add_argument("--seed", type=int, default=0, help="chooses these images")


def _add_verify(commands: Commands, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("verify", parents=parents, help="check every record: CRC, schema, image header")
    parser.add_argument("directory")
    parser.add_argument("--no_decode_check", dest="decode", action="store_false", help="look at image headers alone")
