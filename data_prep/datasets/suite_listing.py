"""What was downloaded for a suite, listed by split, and refused where it is another suite."""

from __future__ import annotations

import json
from collections import Counter

from data_prep.datasets.class_folders import list_images
from data_prep.datasets.leftovers import images_in
from data_prep.datasets.listing import Inputs, Item, Listing, stem_of
from data_prep.datasets.suites import SUITES, Meaning, Suite
from data_prep.datasets.val_labels import NUM_VAL, number_of
from data_prep.problems import Reason
from data_prep.sources.tree import File, Source, walk
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.dataset import IMAGES_WITH_REAL_LABELS
from luab_jax.data.texts import read_text
from luab_jax.errors import DataError, reason_of
from luab_jax.io.console import watched


def list_suite(suite: Suite, source: Source, split: str | None) -> dict[str, Listing]:
    """Every split of the suite that is there, or the one that is asked for. Raises `DataError`."""
    listings: dict[str, Listing] = {}
    left_out: Counter[str] = Counter()
    others: set[str] = set()
    masks: dict[str, File] = {}
    found = watched(walk(source), f"list {source.name}", unit="files", size=lambda pair: len(pair[1]))
    for folder, files in found:
        path = tuple(part for part in (source.name, *folder.split("/")) if part)
        meaning = suite.meaning(path) if path else None
        if meaning is not None and suite.masks and meaning.split == suite.masks[0]:
            _add_masks(masks, meaning, folder, files, source)
            continue
        listing = Listing()
        images = list(images_in(listing, folder, files))
        if meaning is None:
            left_out[folder] += len(images)
            continue
        name = meaning.split or split or ""
        if split is None or name == split:
            _add(listings.setdefault(name, Listing()), listing, meaning, folder, images)
        elif images:
            others.add(name)
    if others and not any(listing.items for listing in listings.values()):
        raise DataError(
            f"{source.place}: holds no image of split {split} of {suite.name}, but of {', '.join(sorted(others))}"
        )
    _check(suite, source, listings, split, left_out)
    for listing in listings.values():
        listing.counts["images_of_other_folders_left_out"] = left_out.total()
        listing.problems.extend(source.problems)
        if not suite.has_other_folders:
            for folder, count in sorted(left_out.items()):
                if count:
                    listing.skip(folder or source.name, Reason.FOLDER_UNUSED, f"{count:,} images")
    if suite.masks and suite.masks[1] in listings:
        _attach(listings[suite.masks[1]], masks)
    return listings


def _add(listing: Listing, found: Listing, meaning: Meaning, folder: str, images: list[File]) -> None:
    listing.counts += found.counts
    listing.problems += found.problems
    for name, span in images:
        listing.items.append(
            Item(
                f"{meaning.key}/{name}",
                meaning.label,
                span,
                labels=meaning.labels,
                group=meaning.group,
                path=f"{folder}/{name}" if folder else name,
            )
        )


def _add_masks(masks: dict[str, File], meaning: Meaning, folder: str, files: list[File], source: Source) -> None:
    for file in files:
        mask = File(f"{folder}/{file.name}", file.span)
        if masks.setdefault(f"{meaning.key}/{stem_of(file.name)}", mask) is not mask:
            raise DataError(f"{source.place}: {mask.name} is the second mask of one image; give the folder of one copy")


def _attach(listing: Listing, masks: dict[str, File]) -> None:
    listing.items = [item._replace(mask=masks.get(stem_of(item.file_name))) for item in listing.items]


def _check(
    suite: Suite, source: Source, listings: dict[str, Listing], split: str | None, left_out: Counter[str]
) -> None:
    wanted = f"{suite.name} as {suite.layout}"
    if not any(listing.items for listing in listings.values()):
        folders = [f"{folder}/" for folder in left_out if folder][:3]
        there = f"; it has folders such as {', '.join(folders)}" if folders else "; it has no images in folders"
        if source.problems:
            there += f"; not used: {source.problems[0].file} ({source.problems[0].reason})"
        raise DataError(f"{source.place}: holds no image of {wanted}{f' in split {split}' if split else ''}{there}")
    if "" in listings:
        raise DataError(
            f"{source.place}: its folders do not tell which split this is; say it with --split, one of"
            f" {', '.join(suite.published)}"
        )
    if unknown := listings.keys() - suite.published.keys():
        raise DataError(f"{source.place}: {suite.name} has no split {min(unknown)!r}, but {', '.join(suite.published)}")
    for name, listing in listings.items():
        _check_classes(suite, source, listing)
        published = suite.published[name]
        if published is not None and len(listing.items) > published:
            raise DataError(
                f"{source.place}: {len(listing.items):,} images, but split {name!r} of {suite.name} was published with"
                f" {published:,}; this is another set"
            )
        twice = [name for name, count in Counter(item.file_name for item in listing.items).items() if count > 1]
        if twice:
            raise DataError(f"{source.place}: {twice[0]} is there twice; give the folder of one copy")


def _check_classes(suite: Suite, source: Source, listing: Listing) -> None:
    """Suites of wnid folders look alike; what tells them apart is which classes they have."""
    if not suite.by_wnid:
        return
    label_of = imagenet().label_of()
    found = {label_of[item.file_name.partition("/")[0]] for item in listing.items}
    others = [s.name for s in SUITES.values() if s.subset is not None and s.name != suite.name]
    like = [name for name in others if found == set(SUITES[name].subset or ())]
    outside = found - set(suite.subset) if suite.subset is not None else set()
    hint = f": these are the classes of {like[0]}" if like else ""
    if outside or like:
        example = imagenet().ids[min(outside or found)]
        raise DataError(
            f"{source.place}: not {suite.name}{hint}; {len(outside)} of its {len(found)} classes are not of"
            f" {suite.name}'s {len(suite.subset or label_of)}, such as {example}"
        )


def list_val(inputs: Inputs, classes: ClassList, real: str | None) -> Listing:
    """ILSVRC's validation images, with ReaL's labels if its file is given."""
    listing = list_images(inputs, classes, min_match=0)
    if len(listing.items) > NUM_VAL:
        raise DataError(
            f"{inputs.images.place}: {len(listing.items):,} images, but the validation set has {NUM_VAL:,}; is this"
            " the training set?"
        )
    if real is not None:
        labels = read_real(real)
        listing.items = [item._replace(labels=labels[_number(item)]) for item in listing.items]
        listing.counts[IMAGES_WITH_REAL_LABELS] = sum(bool(item.labels) for item in listing.items)
    return listing


def _number(item: Item) -> int:
    number = number_of(item.file_name.rpartition("/")[2])
    if number is None:
        raise DataError(f"{item.file_name}: ReaL's labels go by the number in ILSVRC2012_val_<number>.JPEG")
    return number - 1


def read_real(path: str) -> tuple[tuple[int, ...], ...]:
    """`real.json`: the labels of each image in the order of file numbers; an empty list is not scored."""
    try:
        rows = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as e:
        raise DataError(f"{path}: cannot be read as real.json ({reason_of(e)})") from e
    if not (isinstance(rows, list) and len(rows) == NUM_VAL and all(_is_label_list(row) for row in rows)):
        raise DataError(f"{path}: expected {NUM_VAL:,} lists of labels from 0 to 999, as in real.json of ReaL")
    return tuple(map(tuple, rows))


def _is_label_list(row: object) -> bool:
    return isinstance(row, list) and all(type(label) is int and 0 <= label < 1000 for label in row)
