"""Images in class folders, and byproduct files beside them, listed and matched.

    <images>/<class>/<name>.JPEG      <byproducts>/<class>/<name>.xml

Listing looks at names and sizes only; images and XML are read by the shard workers, one at a time. The class folders
may lie deeper in what was given, as they do in most archives; ILSVRC's validation images lie in one folder
without classes, and are listed as `<class>/<name>` all the same.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from data_prep.annotations.tables import Points
from data_prep.datasets.boxes import BoxSource, PixelBox
from data_prep.datasets.val_labels import ValLabels
from data_prep.problems import Reason
from data_prep.sources import File, Source, Span, readable, walk
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import Skipped
from luab_jax.errors import DataError
from luab_jax.progress import Progress

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
"""In any case."""

_MAX_DEPTH = 6
"""Folders that may lie above the classes."""


class Item(NamedTuple):
    """One listed image: 0.56 kB of memory with its byproduct and its archive's index, so 0.7 GB for 1.28 M images."""

    file_name: str
    """`<class>/<name>`, or `<group>/<class>/<name>`."""
    label: int
    image: Span
    xml: Span | None = None
    """The byproduct file."""
    boxes: tuple[PixelBox, ...] = ()
    box_xml: Span | None = None
    labels: tuple[int, ...] = ()
    group: str = ""
    mask: File | None = None
    points: Points = ()
    path: str = ""
    """Below the source of images, where it is not `file_name`."""
    xml_path: str = ""
    """Below the source of byproducts, where it is not `<key>.xml`."""

    @property
    def key(self) -> str:
        """`<class>/<stem>`, the name of its byproduct and boxes."""
        return "/".join(stem_of(self.file_name).rsplit("/", 2)[-2:])

    def __repr__(self) -> str:
        """All that the record depends on, and not how the input is packed."""
        mask = None if self.mask is None else self.mask.span
        return repr((*self[:8], mask, self.points))


@dataclass(slots=True)
class Listing:
    """What was found below the folders."""

    items: list[Any] = field(default_factory=list)
    """`Item`s of the layout."""
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[Skipped] = field(default_factory=list)
    examples: dict[str, str] = field(default_factory=dict)
    """One unmatched name of either side, for a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a split is made of, opened for reading; the roots of `images` and `byproducts` hold the class folders."""

    images: Source
    byproducts: Source | None = None
    points: dict[str, Points] = field(default_factory=dict)
    """Clicks from a table, by `<class>/<name>` or by name."""
    table: str | None = None
    """The table they are from."""
    boxes: BoxSource = field(default_factory=BoxSource)
    val_labels: ValLabels | None = None
    """Where the images lie flat."""

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(source for source in (self.images, self.byproducts, self.boxes.xml) if source is not None)

    @property
    def places(self) -> tuple[str, ...]:
        """What workers open."""
        return tuple(place for source in self.sources for place in source.places)

    def make_readable(self) -> None:
        """Unpacks what has so far been listed only."""
        for source in self.sources:
            source.make_readable()

    def discard(self, *, listing: bool = False) -> None:
        """Removes what was unpacked for reading; with `listing` the listings of archives too."""
        for source in self.sources:
            source.discard(listing=listing)


def find_root(source: Source, holds: Callable[[Source, str], bool], what: str) -> Source:
    """The shallowest folder of which `holds` is true; the source itself where there is none.

    Raises `DataError` naming them if several lie equally deep.
    """
    level = [""]
    for _ in range(_MAX_DEPTH):
        found = [folder for folder in level if holds(source, folder)]
        if len(found) > 1:
            raise DataError(
                f"{source.place}: holds {what} in several places: {', '.join(found[:5])}; name one of them,"
                f" such as {source.place}/{found[0]}"
            )
        if found:
            return source.below(found[0])
        level = [f"{folder}/{name}" if folder else name for folder in level for name in source.folders(folder)]
    return source


def class_root(source: Source, classes: ClassList) -> Source:
    """The folder in which the class folders lie."""
    label_of = classes.label_of()
    return find_root(source, lambda s, folder: any(n in label_of for n in s.folders(folder)), "class folders")


def list_images(inputs: Inputs, classes: ClassList, *, min_match: float, groups: bool = False) -> Listing:
    """Lists `<class>/<image>`, with `groups` one folder deeper, in the order of names.

    Raises `DataError` for a missing or empty folder, a folder that is no class, and byproducts of which too few match.
    """
    images = inputs.images
    listing = Listing()
    with Progress(f"list {images.name}", None) as progress:
        for place, files in _folders_of_images(listing, inputs, classes, groups=groups):
            _list_class(listing, inputs, place, files, flat=inputs.val_labels is not None)
            progress.advance(len(files))
    listing.problems.extend(problem for source in inputs.sources for problem in source.problems)
    listing.counts["classes_without_images"] = len(classes) - len({item.label for item in listing.items})
    if not listing.items:
        raise DataError(
            f"{images.place}: no images found; expected <class>/<image> with a suffix of {', '.join(IMAGE_SUFFIXES)}"
            f"{_deeper(images)}"
        )
    if inputs.byproducts is not None:
        unused = set(inputs.byproducts.folders()) - set(images.folders())
        listing.counts["byproduct_folders_without_images"] = 0 if groups or inputs.val_labels else len(unused)
        _check_match(listing, images, inputs.byproducts, min_match)
    if inputs.points:
        _attach_points(listing, inputs.points, images.place, min_match)
    inputs.boxes.check(listing.items, images.place)
    return listing


def _deeper(images: Source) -> str:
    """A hint at the folder of a split, where its parent was given."""
    deeper = next((name for name in images.folders() if images.folders(name)), None)
    return f". Folders lie deeper than that: is it {images.place}/{deeper}?" if deeper else ""


def _folders_of_images(
    listing: Listing, inputs: Inputs, classes: ClassList, *, groups: bool
) -> Iterator[tuple[tuple[str, str, int], list[File]]]:
    """What stands before the class in file names, class and label; and the files there."""
    images, label_of = inputs.images, classes.label_of()
    if inputs.val_labels is not None:
        for class_id, files in inputs.val_labels.by_class(images, label_of, listing.counts):
            yield ("", class_id, label_of[class_id]), files
        return
    roots = [(f"{group}/", images.below(group)) for group in images.folders()] if groups else [("", images)]
    for prefix, root in roots:
        for class_id in root.folders():
            if class_id not in label_of:
                raise DataError(
                    f"{root.place}/{class_id}: folder {class_id!r} is not in the list of {len(classes)} classes"
                    f" (the first is {classes.ids[0]!r}); give the right list with --classes=FILE"
                )
            yield (prefix, class_id, label_of[class_id]), root.files(class_id)


def _list_class(
    listing: Listing, inputs: Inputs, place: tuple[str, str, int], files: list[File], *, flat: bool = False
) -> None:
    prefix, class_id, label = place
    xml: dict[str, File] = {}
    if inputs.byproducts is not None and class_id in inputs.byproducts.folders():
        xml = {f.name[:-4]: f for f in inputs.byproducts.files(class_id) if f.name.lower().endswith(".xml")}
    images = list(images_in(listing, class_id, files))
    stems = Counter(stem_of(image.name) for image in images)
    alike = {composed(stem): stem for stem in xml.keys() - stems.keys()}
    used = set()
    for name, span in images:
        stem = stem_of(name)
        file_name = f"{prefix}{class_id}/{name}"
        of_image = xml.get(stem) or xml.get(alike.pop(composed(stem), ""))
        if of_image is not None:
            used.add(of_image.name)
        if of_image is not None and stems[stem] > 1:
            listing.problems.append(Skipped(file=file_name, reason=Reason.XML_SHARED, detail=f"{class_id}/{stem}.xml"))
            of_image = None
        if of_image is None:
            listing.examples.setdefault("image", file_name)
        listing.items.append(
            Item(
                file_name,
                label,
                span,
                of_image.span if of_image else None,
                inputs.boxes.of(class_id, name),
                inputs.boxes.xml_of(class_id, stem),
                group=prefix.removesuffix("/"),
                path=name if flat else "",
                xml_path=f"{class_id}/{of_image.name}" if of_image and of_image.name != f"{stem}.xml" else "",
            )
        )
    orphans = sorted(readable(f"{class_id}/{file.name}") for file in xml.values() if file.name not in used)
    for orphan in orphans:
        listing.problems.append(Skipped(file=orphan, reason=Reason.XML_ORPHAN))
        listing.examples.setdefault("xml", orphan)
    listing.counts["byproduct_files"] += len(xml)
    listing.counts["byproduct_files_without_image"] += len(orphans)


def stem_of(name: str) -> str:
    """Without the suffix, which every listed image has; pathlib would take ten times as long."""
    return name.rpartition(".")[0]


def composed(name: str) -> str:
    """Accents as macOS writes them (a letter, then its accent) and as others do (one sign) made alike."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def images_in(listing: Listing, folder: str, files: list[File]) -> Iterator[File]:
    """The images among files; what else there is, is counted."""
    for file in files:
        try:
            file.name.encode()
        except UnicodeEncodeError:
            name = readable(f"{folder}/{os.fsencode(file.name)!r}")
            listing.problems.append(Skipped(file=name, reason=Reason.NAME_NOT_UTF8, detail="rename the file"))
            continue
        if file.name.lower().endswith(IMAGE_SUFFIXES):
            yield file
        else:
            listing.counts["other_files_ignored"] += 1


def _attach_points(listing: Listing, points: dict[str, Points], place: str, min_match: float) -> None:
    """Gives clicks of a table to their images; a name alone that several classes have belongs to none of them."""
    num_of_name = Counter(item.file_name.rpartition("/")[2] for item in listing.items)
    alike = {composed(name): name for name in points}
    used = set()
    for i, item in enumerate(listing.items):
        name = item.file_name.rpartition("/")[2]
        names = (item.file_name, alike.get(composed(item.file_name), ""), name, alike.get(composed(name), ""))
        key = next((key for key in names if key in points), None)
        if key is None:
            continue
        used.add(key)
        if key in names[2:] and key not in names[:2] and num_of_name[name] > 1:
            listing.problems.append(Skipped(file=item.file_name, reason=Reason.XML_SHARED, detail=name))
        else:
            listing.items[i] = item._replace(points=points[key])
    orphans = [name for name in points if name not in used]
    if len(used) < min_match * len(points):
        raise DataError(
            f"--byproducts: {len(orphans)} of its {len(points)} file names are no image of {place}:"
            f" {orphans[0]!r} here, {listing.items[0].file_name!r} there"
        )
    listing.problems.extend(Skipped(file=name, reason=Reason.XML_ORPHAN) for name in orphans)
    listing.counts["byproduct_files"] = len(points)
    listing.counts["byproduct_files_without_image"] = len(orphans)


def _check_match(listing: Listing, images: Source, byproducts: Source, min_match: float) -> None:
    """Refuses byproducts that belong elsewhere: read on, they would be silently missing from every image."""
    num_xml = listing.counts["byproduct_files"]
    matched = num_xml - listing.counts["byproduct_files_without_image"]
    of_images, of_xml = matched / len(listing.items), matched / max(num_xml, 1)
    if min(of_images, of_xml) >= min_match:
        return
    if not num_xml:
        first = next((f"{folder}/{files[0].name}".lstrip("/") for folder, files in walk(byproducts)), None)
        listing.examples["xml"] = first or "the folder is empty"
    image, xml = listing.examples.get("image", "-"), listing.examples.get("xml", "-")
    raise DataError(
        f"{byproducts.place}: too few byproducts match the images of {images.place}: {of_images:.1%} of"
        f" {len(listing.items)} images have one, {of_xml:.1%} of {num_xml} byproduct files have an image (at least"
        f" {min_match:.0%} wanted of both). Without partner: image {image!r}, byproduct {xml!r}. Expected"
        " <class>/<name>.JPEG and <class>/<name>.xml; correct --images or --byproducts, or accept it with --min_match"
    )
