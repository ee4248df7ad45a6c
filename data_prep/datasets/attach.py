"""Tables and files beside the images given to the images they belong to; what belongs to none of them is listed."""

from __future__ import annotations

import os
from collections import Counter

from data_prep.annotations.tables import Points
from data_prep.datasets.boxes import BoxSource
from data_prep.datasets.listing import Listing, stem_of
from data_prep.datasets.matching import match
from data_prep.problems import Reason
from data_prep.sources.tree import Source, readable
from luab_jax.errors import DataError


def attach_points(listing: Listing, points: dict[str, Points], place: str, min_match: float) -> None:
    """Gives clicks of a table to their images. Raises `DataError` if too few of its names are of an image."""
    found = match(points, [item.file_name for item in listing.items])
    for i, item in enumerate(listing.items):
        if (row := found.of_image.get(item.file_name)) is not None:
            listing.items[i] = item._replace(points=points[row])
    lost = [*found.unmatched, *found.ambiguous]
    if len(points) - len(lost) < min_match * len(points):
        why = f": {lost[0]!r} here, {listing.items[0].file_name!r} there"
        if lost[0] in found.ambiguous:
            why = f" alone: {lost[0]!r} may be {found.ambiguous[lost[0]]}; write <class>/<name>"
        raise DataError(f"--byproducts: {len(lost)} of its {len(points)} file names are no image of {place}{why}")
    for row in found.unmatched:
        listing.skip(row, Reason.XML_ORPHAN)
    for row, why in found.ambiguous.items():
        listing.skip(row, Reason.XML_SHARED, why)
    listing.counts["byproduct_files"] = len(points)
    listing.counts["byproduct_files_without_image"] = len(lost)


def attach_boxes(listings: list[Listing], boxes: BoxSource, place: str) -> None:
    """Gives boxes to their images, those of one split: what fits into several is refused.

    Raises `DataError` also if not one of them belongs to an image.
    """
    if boxes.place is None:
        return
    if boxes.xml is not None:
        attached = [_attach_xml(listing, boxes.xml, flat=boxes.flat) for listing in listings]
        example = "no XML of the same class and name"
    else:
        attached = _attach_text(listings, boxes)
        example = repr(next(iter(boxes.text), "no box"))
    if not any(attached):
        first = next(item for listing in listings for item in listing.items)
        raise DataError(f"--boxes: none of its names is an image of {place}: {example} here, {first.file_name!r} there")
    if sum(map(bool, attached)) > 1:
        raise DataError(
            f"--boxes={boxes.place}: its names are of images of {sum(map(bool, attached))} splits; say with --split"
            " whose boxes they are"
        )


def _attach_text(listings: list[Listing], boxes: BoxSource) -> list[int]:
    """Returns how many images of each listing got boxes. A row is missing if no listing has its image."""
    attached, unmatched = [], list(boxes.text)
    ambiguous: dict[str, str] = {}
    for listing in listings:
        found = match(boxes.text, [item.file_name for item in listing.items])
        for i, item in enumerate(listing.items):
            if (row := found.of_image.get(item.file_name)) is not None:
                listing.items[i] = item._replace(boxes=boxes.text[row])
        attached.append(len(found.of_image))
        taken = {*found.of_image.values(), *found.ambiguous}
        unmatched = [row for row in unmatched if row not in taken]
        ambiguous |= found.ambiguous
    for row, why in ambiguous.items():
        listings[0].skip(row, Reason.BOX_SHARED, why)
    for row in unmatched:
        listings[0].skip(row, Reason.BOX_ORPHAN)
    return attached


def _attach_xml(listing: Listing, xml: Source, *, flat: bool) -> int:
    """By `<class>/<stem>`, or by the stem alone where the XML lies in one folder. Returns how many images got one."""
    keys = [item.key.rpartition("/")[2] if flat else item.key for item in listing.items]
    num_of = Counter(keys)
    folders = [""] if flat else sorted({key.rpartition("/")[0] for key in keys} & set(xml.folders()))
    spans = {}
    for folder in folders:
        for file in xml.files(folder):
            if file.name.lower().endswith(".xml"):
                spans[f"{folder}/{stem_of(file.name)}".lstrip("/")] = file
    attached = 0
    for i, (item, key) in enumerate(zip(listing.items, keys, strict=True)):
        if (file := spans.get(key)) is None:
            continue
        if num_of[key] > 1:
            listing.skip(item.file_name, Reason.BOX_SHARED, f"{num_of[key]} images of {readable(key)}.xml")
            continue
        path = "/".join(filter(None, (key.rpartition("/")[0], file.name)))
        listing.items[i] = item._replace(box_xml=file.span, box_path="" if path == f"{key}.xml" else path)
        attached += 1
    for key in spans.keys() - num_of.keys():
        listing.skip(readable(f"{key}.xml"), Reason.BOX_ORPHAN)
    if not flat:
        for folder in sorted(set(xml.folders()) - set(folders)):
            listing.skip(readable(folder), Reason.BOX_FOLDER)
    return attached


def names_of(*places: str | None) -> frozenset[str]:
    """The names of files that are read as tables, wherever they lie."""
    return frozenset(os.path.basename(place.rstrip("/")) for place in places if place)
