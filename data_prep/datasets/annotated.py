"""Images of one's own with a table of what is known of them, in class folders or in any others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from data_prep.annotations.image_tables import Row
from data_prep.datasets.leftovers import images_in
from data_prep.datasets.listing import Inputs, Item, Listing
from data_prep.datasets.matching import match
from data_prep.problems import Reason
from data_prep.sources.tree import File, Source, walk
from luab_jax.data.class_lists import ClassList
from luab_jax.errors import DataError


def classes_of(rows: Mapping[str, Row], images: Source) -> ClassList:
    """The distinct labels of the table, or the folders that hold images, sorted; numbers by their value."""
    found = {label for row in rows.values() for label in row.labels or ()}
    if not found:
        found = {folder.rpartition("/")[2] for folder, files in walk(images) if folder and files}
    if not found:
        raise DataError(
            f"{images.place}: neither the table nor a folder names a class; say with --label which column does"
        )
    by_value = all(label.isdecimal() for label in found)
    ids = tuple(sorted(found, key=(lambda label: (int(label), label)) if by_value else str))
    return ClassList(ids, ids)


def list_annotated(
    inputs: Inputs, rows: Mapping[str, Row], classes: ClassList, table: str, *, no_class: str
) -> Listing:
    """Lists the images that the table names, as `<class>/<path with - for />`; others are listed as not used.

    Raises `DataError` if it names none, or a class that the list has not; `no_class` is the end of that message: where
    the list came from, and the remedy.
    """
    images = inputs.images
    listing = Listing()
    files: dict[str, File] = {}
    masks: dict[str, File] = {}
    mask_of = {name: row.mask for name, row in sorted(rows.items()) if row.mask}
    if mask_of:  # which file is whose: those of one size are alike otherwise
        listing.reads = (f"masks {hashlib.blake2b(repr(mask_of).encode(), digest_size=12).hexdigest()}",)
    named = frozenset(mask_of.values())
    for folder, of_folder in walk(images):
        names = {f"{folder}/{file.name}" if folder else file.name: file for file in of_folder}
        masks |= {name: file for name, file in names.items() if name in named}
        others = [file for name, file in names.items() if name not in named]
        for file in images_in(listing, folder, others, frozenset((table.rpartition("/")[2],))):
            files[f"{folder}/{file.name}" if folder else file.name] = file
    found = match(rows, list(files))
    label_of = classes.label_of()
    for name, row_name in found.of_image.items():
        row = rows[row_name]
        mask = masks.get(row.mask)
        if row.mask and mask is None:
            listing.skip(row.mask, Reason.FOREGROUND_MASK, f"of {name}: no such file")
        names = row.labels if row.labels is not None else (name.rpartition("/")[0].rpartition("/")[2],)
        if unknown := [label for label in names if label not in label_of]:
            raise DataError(
                f"{table}: {row_name} is of class {unknown[0]!r}, which is not among the {len(classes)} classes"
                f" (the first is {classes.ids[0]!r}) of {no_class}"
            )
        labels = tuple(sorted({label_of[label] for label in names}))
        listing.items.append(
            Item(
                f"{names[0] if len(labels) == 1 else 'images'}/{name.replace('/', '-')}",
                labels[0] if len(labels) == 1 else -1,
                files[name].span,
                boxes=row.boxes,
                labels=() if len(labels) == 1 else labels,
                group=row.group,
                mask=None if mask is None else File(row.mask, mask.span),
                path=name,
            )
        )
    if not listing.items:
        raise DataError(
            f"{table}: none of its {len(rows):,} names is an image of {images.place}: {next(iter(rows))!r} here,"
            f" {next(iter(files), 'no image')!r} there"
        )
    for row_name in found.unmatched:
        listing.skip(row_name, Reason.ROW_ORPHAN)
    for row_name, why in found.ambiguous.items():
        listing.skip(row_name, Reason.ROW_ORPHAN, why)
    listing.counts["images_without_row"] = len(files) - len(found.of_image)
    listing.counts["classes_without_images"] = len(classes) - len(
        {label for item in listing.items for label in (item.labels or (item.label,))}
    )
    listing.problems.extend(images.problems)
    return listing
