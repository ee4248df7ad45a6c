"""Images in class folders, and byproduct files beside them, listed and matched.

    <images>/<class>/<name>.JPEG      <byproducts>/<class>/<name>.xml

Listing looks at names and sizes only; images and XML are read by the shard workers, one at a time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.datasets.boxes import BoxSource, PixelBox
from data_prep.problems import Reason
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import Skipped
from luab_jax.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
"""In any case."""


class Item(NamedTuple):
    """One listed image: 0.18 kB of memory, 0.3 kB while shards are planned, hence 0.4 GB for 1.28 M images."""

    file_name: str
    """`<class>/<name>`, or `<group>/<class>/<name>`, below the image folder."""
    label: int
    num_bytes: int
    xml_bytes: int | None
    """Size of the byproduct file; `None` if there is none."""
    boxes: tuple[PixelBox, ...] = ()


@dataclass(slots=True)
class Listing:
    """What was found below the folders."""

    items: list[Any] = field(default_factory=list)
    """`Item`s of the layout."""
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[Skipped] = field(default_factory=list)
    examples: dict[str, str] = field(default_factory=dict)
    """One unmatched name of either side, for a message."""


def list_images(
    images: Path,
    byproducts: Path | None,
    classes: ClassList,
    *,
    boxes: BoxSource,
    min_match: float,
    groups: bool = False,
) -> Listing:
    """Lists `<class>/<image>` below `images`, with `groups` one folder deeper, in the order of names.

    Raises `DataError` for a missing or empty folder, a folder that is no class, and byproducts of which too few match.
    """
    listing = Listing()
    label_of = classes.label_of()
    roots = [(f"{group}/", images / group) for group in _folders(images)] if groups else [("", images)]
    for prefix, root in roots:
        for class_id in _folders(root):
            if class_id not in label_of:
                raise DataError(
                    f"{root / class_id}: folder {class_id!r} is not in the list of {len(classes)} classes"
                    f" (the first is {classes.ids[0]!r}); give the right list with --classes=FILE"
                )
            xml_folder = byproducts / class_id if byproducts else None
            _list_class(listing, root / class_id, prefix, label_of[class_id], xml_folder, boxes)
    if not listing.items:
        raise DataError(
            f"{images}: no images found; expected <class>/<image> with a suffix of {', '.join(IMAGE_SUFFIXES)}"
        )
    if byproducts is not None:
        _check_match(listing, images, byproducts, min_match)
    if boxes.text and not any(item.boxes for item in listing.items):
        raise DataError(
            f"--boxes: none of {len(boxes.text)} names is an image of {images}:"
            f" {next(iter(boxes.text))!r} here, {listing.items[0].file_name!r} there"
        )
    return listing


def _folders(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as e:
        raise DataError(f"{path}: cannot be listed as a folder of images ({e.strerror})") from e


def _files(path: Path) -> list[tuple[str, int]]:
    """Name and size of the files; hidden ones are left out, among them macOS's `._name` companions."""
    with os.scandir(path) as entries:
        return sorted((e.name, e.stat().st_size) for e in entries if not e.name.startswith(".") and e.is_file())


def _list_class(
    listing: Listing, folder: Path, prefix: str, label: int, xml_folder: Path | None, boxes: BoxSource
) -> None:
    class_id = folder.name
    xml_sizes: dict[str, int] = {}
    if xml_folder is not None and xml_folder.is_dir():
        xml_sizes = {name[:-4]: size for name, size in _files(xml_folder) if name.lower().endswith(".xml")}
    images = list(_images_in(listing, folder))
    stems = Counter(stem_of(name) for name, _ in images)
    for name, size in images:
        stem = stem_of(name)
        file_name = f"{prefix}{class_id}/{name}"
        xml_size = xml_sizes.get(stem)
        if xml_size is not None and stems[stem] > 1:
            listing.problems.append(Skipped(file=file_name, reason=Reason.XML_SHARED, detail=f"{class_id}/{stem}.xml"))
            xml_size = None
        if xml_size is None:
            listing.examples.setdefault("image", file_name)
        listing.items.append(Item(file_name, label, size, xml_size, boxes.of(class_id, name)))
    orphans = xml_sizes.keys() - stems.keys()
    for stem in sorted(orphans):
        listing.problems.append(Skipped(file=f"{class_id}/{stem}.xml", reason=Reason.XML_ORPHAN))
        listing.examples.setdefault("xml", f"{class_id}/{stem}.xml")
    listing.counts["byproduct_files"] += len(xml_sizes)
    listing.counts["byproduct_files_without_image"] += len(orphans)


def stem_of(name: str) -> str:
    """Without the suffix, which every listed image has; pathlib would take ten times as long."""
    return name.rpartition(".")[0]


def _images_in(listing: Listing, folder: Path) -> Iterator[tuple[str, int]]:
    for name, size in _files(folder):
        try:
            name.encode()
        except UnicodeEncodeError:
            readable = f"{folder.name}/{os.fsencode(name)!r}"
            listing.problems.append(Skipped(file=readable, reason=Reason.NAME_NOT_UTF8, detail="rename the file"))
            continue
        if name.lower().endswith(IMAGE_SUFFIXES):
            yield name, size
        else:
            listing.counts["other_files_ignored"] += 1


def _check_match(listing: Listing, images: Path, byproducts: Path, min_match: float) -> None:
    """Refuses byproducts that belong elsewhere: read on, they would be silently missing from every image."""
    if not byproducts.is_dir():
        raise DataError(f"{byproducts}: no such folder (--byproducts)")
    num_xml = listing.counts["byproduct_files"]
    matched = num_xml - listing.counts["byproduct_files_without_image"]
    of_images, of_xml = matched / len(listing.items), matched / max(num_xml, 1)
    if min(of_images, of_xml) >= min_match:
        return
    if not num_xml:
        example = next((str(p.relative_to(byproducts)) for p in byproducts.rglob("*") if p.is_file()), None)
        listing.examples["xml"] = example or "the folder is empty"
    image, xml = listing.examples.get("image", "-"), listing.examples.get("xml", "-")
    raise DataError(
        f"{byproducts}: too few byproducts match the images of {images}: {of_images:.1%} of {len(listing.items)} images"
        f" have one, {of_xml:.1%} of {num_xml} byproduct files have an image (at least {min_match:.0%} wanted of both)."
        f" Without partner: image {image!r}, byproduct {xml!r}. Expected <class>/<name>.JPEG and <class>/<name>.xml;"
        " correct --images or --byproducts, or accept it with --min_match"
    )
