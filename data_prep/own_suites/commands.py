"""The commands that make evaluation suites out of a prepared split."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from data_prep.datasets.imagenet_c import JPEG_QUALITY, choose_kinds, frost_photos
from data_prep.own_suites import backgrounds, changed, grids
from data_prep.own_suites.foregrounds import By
from data_prep.own_suites.prepare import Job, expected_bytes, print_left_out, write_set
from data_prep.own_suites.splits import SplitSource
from data_prep.problems import Reason
from data_prep.writing.shards import Outcome
from luab_jax.corruptions.parameters import VERSION as CORRUPTIONS_VERSION
from luab_jax.data import dataset
from luab_jax.data.dataset import Manifest, Skipped
from luab_jax.errors import DataError
from luab_jax.io import storage
from luab_jax.io.storage import Place

FOLDERS = {name: f"own_{name}" for name in ("backgrounds", "corruptions", "occlusions", "grids")}
"""Command to the folder below --out that it writes; the suite's data set has the same name."""
_MASKS_ONLY = "grids cut objects out by masks alone (`data_prep folder --annotations` takes them as a column `mask`)"
_SUITES = {
    "own_backgrounds": ("backgrounds", ("mixed_same", "mixed_rand")),
    "own_bgc_accuracy": ("backgrounds", ("original", "only_bg_t")),
    "own_corruptions": ("corruptions", ()),
    "own_occlusions": ("occlusions", ()),
    "own_size": ("grids", ("size",)),
    "own_position": ("grids", ("position",)),
    "own_rotation": ("grids", ("rotation",)),
}
"""What scores a command's images, and the splits that it needs of them."""
_OF_ONE_LABEL = ("own_bgc_accuracy",)
"""Without a suite `..._of_sets` for sets of labels."""


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
    there, of_sets = set(dataset.splits(job.out)), source.example(0).label < 0
    suites = [
        f"{name}_of_sets" if of_sets else name
        for name, (command, needed) in _SUITES.items()
        if command == arguments.command and there.issuperset(needed) and not (of_sets and name in _OF_ONE_LABEL)
    ]
    if suites:
        names = ",".join(suites)
        print(
            f"python -m luab_jax.evaluate --checkpoint=... --suites={names} --data={arguments.out} --out=results.json"
        )


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
    written: list[Manifest] = []
    for name in chosen:
        items = backgrounds.list_composites(name, photos, arguments.seed, job.classes.ids)
        read = backgrounds.Compose(source, name, found.by, arguments.quality)
        written.append(write_set(job, name, items, read, facts=facts, problems=listed.get(name, ())))
    print_left_out(written, job.out)


def _all_photos(arguments: argparse.Namespace, source: SplitSource) -> tuple[list[backgrounds.Photo], list[Skipped]]:
    """Those that have a label, or so many of each class, and those left out because they have none."""
    photos, problems = backgrounds.labelled(source)
    if arguments.per_class is not None:
        photos = backgrounds.at_most(photos, arguments.per_class, arguments.seed)
    return photos, problems


def _corruptions(arguments: argparse.Namespace, job: Job) -> None:
    kinds = choose_kinds(arguments.kinds, "--kinds")
    source = job.source
    photos, problems = _all_photos(arguments, source)
    sizes = backgrounds.sizes_of(source)
    side = arguments.side or (None if len(sizes) == 1 else 224)
    frost, of_frost = None, {}
    if "frost" in kinds:
        frost = str(storage.absolute(storage.place(arguments.frost))) if arguments.frost else None
        found = frost_photos(frost, "--kinds")
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
    _write_changed(job, changed.list_changes(photos, groups), photos, read, facts, problems)


def _occlusions(arguments: argparse.Namespace, job: Job) -> None:
    source = job.source
    _check_cells(arguments.cells, source)
    photos, problems = _all_photos(arguments, source)
    by = None
    objects: list[backgrounds.Photo] = []
    if backgrounds.has_objects(source):
        found = backgrounds.find_photos(source, None, 1.0)
        by = found.by
        kept, names = {photo.index for photo in photos}, {photo.file_name for photo in photos}
        problems += [problem for problem in found.problems if problem.file in names]
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
    read = changed.Occlude(source, arguments.cells, by, arguments.fill == "black", arguments.quality)
    print(f"{job.out}: {len(groups)} occlusions of {len(photos):,} images, {made_of}")
    print(f"  to be written: {len(items):,} images, about {expected_bytes(items, read) / 1e6:,.1f} MB", flush=True)
    _write_changed(job, items, photos, read, facts, problems)


def _check_cells(cells: int, source: SplitSource) -> None:
    """Raises `DataError` for cells that would hold no pixel."""
    smallest = min(min(size) for size in backgrounds.sizes_of(source))
    if cells > smallest:
        raise DataError(
            f"--cells={cells}: a side of {smallest} pixels, the smallest in split {source.split!r}, has no more cells"
            f" than that, and every image is written {cells:,} x {cells:,} times; the default is 3"
        )


def _write_changed(
    job: Job,
    items: list[changed.Change],
    photos: list[backgrounds.Photo],
    read: Callable[[changed.Change], Outcome],
    facts: Mapping[str, str | int | float | None],
    problems: list[Skipped],
) -> None:
    """The changed images, and beside them the same ones without a change."""
    test = write_set(job, "test", items, read, facts=facts, problems=problems)
    clean = write_set(job, changed.CLEAN, changed.list_changes(photos, [""]), read, facts=facts)
    print_left_out([test, clean], job.out)


def _grids(arguments: argparse.Namespace, job: Job) -> None:
    source = job.source
    kinds = _chosen_kinds(arguments.kinds)
    if arguments.places < 2:
        raise DataError(f"--places={arguments.places}: a grid of places has two on each side at least")
    found = backgrounds.find_photos(source, By.MASKS, 0.9, otherwise=_MASKS_ONLY)
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
    written: list[Manifest] = []
    for kind in kinds:
        items = grids.list_placed(kind, photos, arguments.places, arguments.seed)
        problems = found.problems if kind == kinds[0] else ()
        read = grids.Place(source, arguments.quality)
        written.append(write_set(job, kind, items, read, facts=facts, problems=problems))
    print_left_out(written, job.out)


def _chosen_kinds(text: str | None) -> tuple[str, ...]:
    chosen = grids.KINDS if text is None else tuple(name.strip() for name in text.split(","))
    for name in chosen:
        if name not in grids.KINDS:
            raise DataError(f"--kinds={text}: there is no {name!r}, but {', '.join(grids.KINDS)}")
    return tuple(name for name in grids.KINDS if name in chosen)


_COMMANDS = {"backgrounds": _backgrounds, "corruptions": _corruptions, "occlusions": _occlusions, "grids": _grids}
