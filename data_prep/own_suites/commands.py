"""The commands that make evaluation suites out of a prepared split."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_prep.argument_types import natural, positive, quality
from data_prep.datasets.imagenet_c import JPEG_QUALITY, choose_kinds
from data_prep.own_suites import backgrounds, changed, grids
from data_prep.own_suites.foregrounds import By
from data_prep.own_suites.prepare import Job, print_problems, write_set
from data_prep.own_suites.splits import SplitSource
from data_prep.problems import Reason
from data_prep.writing.workers import default_workers
from luab_jax.corruptions.frost_photos import packaged_photos, read_photos
from luab_jax.corruptions.parameters import SEVERITIES
from luab_jax.corruptions.parameters import VERSION as CORRUPTIONS_VERSION
from luab_jax.data.dataset import Skipped
from luab_jax.errors import DataError
from luab_jax.io import storage
from luab_jax.io.storage import Place

FOLDERS = {name: f"own_{name}" for name in ("backgrounds", "corruptions", "occlusions", "grids")}
"""Command to the folder below --out that it writes; the suite's data set has the same name."""
_SUITES = {
    "backgrounds": (("own_backgrounds", "own_bgc_accuracy"), ("own_backgrounds_of_sets",)),
    "corruptions": (("own_corruptions",), ("own_corruptions_of_sets",)),
    "occlusions": (("own_occlusions",), ("own_occlusions_of_sets",)),
    "grids": (("own_size", "own_position", "own_rotation"), ("own_size_of_sets", "own_position_of_sets",
                                                             "own_rotation_of_sets")),
}  # fmt: skip
"""What scores a command's images, where these have one label, and where they have sets of labels."""


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


def run(arguments: argparse.Namespace) -> None:
    """Carries out one of the commands; raises `UserError`."""
    source = SplitSource.find(getattr(arguments, "from"), arguments.split)
    folder = FOLDERS[arguments.command]
    job = Job(
        out=folder_of(arguments),
        dataset=folder,
        source=source,
        workers=arguments.workers,
        num_shards=arguments.shards,
        strict=arguments.strict,
    )
    _COMMANDS[arguments.command](arguments, job)
    names = ",".join(_SUITES[arguments.command][source.example(0).label < 0])
    print(f"python -m luab_jax.evaluate --checkpoint=... --suites={names} --data={arguments.out} --out=results.json")


def folder_of(arguments: argparse.Namespace) -> Place:
    """What one of the commands writes."""
    return storage.place(arguments.out) / FOLDERS[arguments.command]


def _chosen_sets(text: str | None, by: By) -> tuple[str, ...]:
    possible = tuple(name for name in backgrounds.SETS if by is By.MASKS or name != "no_fg")
    if text is None:
        return possible
    chosen = [name.strip() for name in text.split(",")]
    for name in chosen:
        if name not in backgrounds.SETS:
            raise DataError(f"--sets={text}: there is no {name!r}, but {', '.join(backgrounds.SETS)}")
        if name not in possible:
            raise DataError(f"--sets={text}: {name} needs masks; by boxes it would be only_bg_b")
    return tuple(name for name in possible if name in chosen)


def _backgrounds(arguments: argparse.Namespace, job: Job) -> None:
    place, source = getattr(arguments, "from"), job.source
    asked = By(arguments.by) if arguments.by else None
    _chosen_sets(arguments.sets, asked or By.MASKS)  # before all images are looked at
    found = backgrounds.find_photos(source, asked, arguments.max_area)
    chosen = _chosen_sets(arguments.sets, found.by)
    photos = found.photos
    if arguments.per_class is not None:
        photos = backgrounds.at_most(photos, arguments.per_class, arguments.seed)
    lone: list[backgrounds.Photo] = []
    if set(chosen) & set(backgrounds.MIXED):
        backgrounds.check_classes(photos, place)
        lone = backgrounds.without_partner(photos)
    alone = [Skipped(file=photo.file_name, reason=Reason.NO_PARTNER) for photo in lone]
    made_of = f"objects by {found.by}, of {source}"
    facts = {
        "layout": job.dataset,
        "generated": f"composites by luab_jax {backgrounds.VERSION}, {made_of}",
        "objects_by": found.by.value,
        "seed": arguments.seed,
        "max_area": arguments.max_area,
        "per_class": arguments.per_class,
        "quality": arguments.quality,
        "notes": made_of,
    }
    print(f"{job.out}: {made_of}, {len(photos):,} images of {source.opened().manifest.num_records:,}")
    # Listed once, so that a result that reads several sets counts them once.
    listed = {chosen[0]: found.problems}
    if first_mixed := next((name for name in chosen if name in backgrounds.MIXED), None):
        listed[first_mixed] = [*listed.get(first_mixed, ()), *alone]
    for name in chosen:
        items = backgrounds.list_composites(name, photos, arguments.seed, job.classes.ids)
        read = backgrounds.Compose(source, name, found.by, arguments.quality)
        write_set(job, name, items, read, facts=facts, problems=listed.get(name, ()))
    print_problems([*found.problems, *alone], job.out, list(listed))


def _all_photos(arguments: argparse.Namespace, source: SplitSource) -> list[backgrounds.Photo]:
    photos = backgrounds.labelled(source)
    if arguments.per_class is not None:
        photos = backgrounds.at_most(photos, arguments.per_class, arguments.seed)
    return photos


def _corruptions(arguments: argparse.Namespace, job: Job) -> None:
    kinds = choose_kinds(arguments.kinds, "--kinds")
    source = job.source
    photos = _all_photos(arguments, source)
    sizes = backgrounds.sizes_of(source)
    side = arguments.side or (None if len(sizes) == 1 else 224)
    frost, of_frost = None, {}
    if "frost" in kinds:
        frost = str(storage.absolute(storage.place(arguments.frost))) if arguments.frost else None
        found = packaged_photos() if frost is None else read_photos(Path(frost))
        found.check_fit(side or max(sizes)[1], side or max(sizes)[0])
        of_frost = {"frost": found.digest}
    quality = arguments.quality or JPEG_QUALITY
    facts = {
        "layout": job.dataset,
        "generated": f"corrupted by luab_jax, corruptions {CORRUPTIONS_VERSION}, of {source}",
        "corruptions": ", ".join(kinds),
        **of_frost,
        "severities": ", ".join(map(str, arguments.severities)),
        "side": side,
        "per_class": arguments.per_class,
        "quality": quality,
        "notes": f"of {source}",
    }
    groups = [f"{kind},severity={severity}" for kind in kinds for severity in arguments.severities]
    print(f"{job.out}: {len(groups)} corruptions of {len(photos):,} images of {source}")
    read = changed.Corrupt(source, changed.Square(side), quality, frost)
    write_set(job, "test", changed.list_changes(photos, groups), read, facts=facts)
    write_set(job, changed.CLEAN, changed.list_changes(photos, [""]), read, facts=facts)


def _occlusions(arguments: argparse.Namespace, job: Job) -> None:
    source = job.source
    photos = _all_photos(arguments, source)
    by = None
    problems: list[Skipped] = []
    objects: list[backgrounds.Photo] = []
    if backgrounds.has_objects(source):
        found = backgrounds.find_photos(source, None, 1.0)
        by, problems = found.by, found.problems
        kept = {photo.index for photo in photos}
        objects = [photo for photo in found.photos if photo.index in kept]
    made_of = f"objects by {by}, of {source}" if by else f"of {source}, whose images have neither boxes nor masks"
    facts = {
        "layout": job.dataset,
        "generated": f"occluded by luab_jax {backgrounds.VERSION}, {made_of}",
        "cells": arguments.cells,
        "fill": arguments.fill,
        "per_class": arguments.per_class,
        "seed": arguments.seed,
        "quality": arguments.quality,
        "notes": made_of,
    }
    groups = changed.occlusion_groups(arguments.cells, by)
    of_all = [group for group in groups if not group.startswith("object=")]
    items = changed.list_changes(photos, of_all)
    items += changed.list_changes(objects, [group for group in groups if group not in of_all])
    print(f"{job.out}: {len(groups)} occlusions of {len(photos):,} images, {made_of}")
    read = changed.Occlude(source, arguments.cells, by, arguments.fill == "black", arguments.quality)
    write_set(job, "test", items, read, facts=facts, problems=problems)
    write_set(job, changed.CLEAN, changed.list_changes(photos, [""]), read, facts=facts)
    print_problems(problems, job.out, ["test"])


def _grids(arguments: argparse.Namespace, job: Job) -> None:
    source = job.source
    kinds = _chosen_kinds(arguments.kinds)
    if arguments.places < 2:
        raise DataError(f"--places={arguments.places}: a grid of places has two on each side at least")
    remedy = "grids cut objects out by masks, so prepare the split with these"
    found = backgrounds.find_photos(source, By.MASKS, 0.9, remedy=remedy)
    photos = found.photos
    if arguments.per_class is not None:
        photos = backgrounds.at_most(photos, arguments.per_class, arguments.seed)
    if len(photos) < 2:
        raise DataError(f"--from={source.directory}: a single object can be cut out, and there is no other background")
    facts = {
        "layout": job.dataset,
        "generated": f"objects moved by luab_jax {backgrounds.VERSION}, of {source}",
        "places": arguments.places,
        "per_class": arguments.per_class,
        "seed": arguments.seed,
        "quality": arguments.quality,
        "notes": f"of {source}",
    }
    print(f"{job.out}: objects of {len(photos):,} images of {source.opened().manifest.num_records:,}")
    for kind in kinds:
        items = grids.list_placed(kind, photos, arguments.places, arguments.seed)
        problems = found.problems if kind == kinds[0] else ()
        write_set(job, kind, items, grids.Place(source, arguments.quality), facts=facts, problems=problems)
    print_problems(found.problems, job.out, [kinds[0]])


def _chosen_kinds(text: str | None) -> tuple[str, ...]:
    chosen = grids.KINDS if text is None else tuple(name.strip() for name in text.split(","))
    for name in chosen:
        if name not in grids.KINDS:
            raise DataError(f"--kinds={text}: there is no {name!r}, but {', '.join(grids.KINDS)}")
    return tuple(name for name in grids.KINDS if name in chosen)


_COMMANDS = {"backgrounds": _backgrounds, "corruptions": _corruptions, "occlusions": _occlusions, "grids": _grids}
