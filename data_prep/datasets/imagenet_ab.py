"""The layout of ImageNet-AB: images in class folders, one XML of byproducts for each.

    <images>/<class>/<name>.JPEG      <byproducts>/<class>/<name>.xml

Listing looks at names and sizes only; images and XML are read by the shard workers, one at a time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from data_prep.annotations import imagenet_ab as annotation
from data_prep.annotations.safe_xml import MAX_XML_BYTES
from data_prep.datasets.boxes import BoxSource, PixelBox
from data_prep.images import BadImage, ImageHeader, check_image, undo_exif_orientation, was_rotated
from data_prep.problems import Problems, Reason
from data_prep.shards import Outcome
from luab_jax.byproducts.records import Box, ImageRecord, Showing, Size, TimedPoint
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import Skipped
from luab_jax.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
"""In any case."""


class Item(NamedTuple):
    """One listed image. About 0.3 kB of memory: 0.4 GB for 1.28 M images."""

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

    items: list[Item] = field(default_factory=list)
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
    stems = Counter(os.path.splitext(name)[0] for name, _ in images)
    for name, size in images:
        stem = os.path.splitext(name)[0]
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


@dataclass(frozen=True, slots=True)
class ReadImage:
    """Reads one listed image with all its byproducts and boxes."""

    images: Path
    byproducts: Path | None
    box_xml: Path | None
    label_of: dict[str, int]
    groups: bool = False

    def __call__(self, item: Item) -> Outcome:
        group, name = item.file_name.split("/", 1) if self.groups else ("", item.file_name)
        counts = Counter(images_found=1)
        try:
            image = (self.images / item.file_name).read_bytes()
            header = check_image(image)
        except BadImage as e:
            return _left_out(item, counts, e.reason, e.detail)
        except OSError as e:
            return _left_out(item, counts, Reason.IMAGE_UNREADABLE, str(e.strerror))
        stem = os.path.splitext(name)[0]
        of_xml, of_boxes = Problems(), Problems()
        found = self._annotation(stem, item, counts, of_xml)
        showings = _upright(found.showings, header, counts) if found else ()
        record = ImageRecord(
            file_name=item.file_name,
            image=image,
            height=header.size.height,
            width=header.size.width,
            label=item.label,
            group=group,
            boxes=self._boxes(stem, item, header, found, of_boxes),
            showings=showings,
        )
        _count(record, counts)
        return Outcome(record, counts, (*of_xml.listed(f"{stem}.xml"), *of_boxes.listed(item.file_name)))

    def _annotation(
        self, stem: str, item: Item, counts: Counter[str], problems: Problems
    ) -> annotation.Annotation | None:
        if self.byproducts is None or item.xml_bytes is None:
            counts["images_without_byproduct_file"] += 1
            return None
        found = _read_xml(self.byproducts / f"{stem}.xml", stem, problems, Reason.XML_UNREADABLE)
        if found is not None and not found.num_metadata:
            counts["byproduct_files_without_metadata"] += 1
        return found

    def _boxes(
        self,
        stem: str,
        item: Item,
        header: ImageHeader,
        found: annotation.Annotation | None,
        problems: Problems,
    ) -> tuple[Box, ...]:
        """Boxes given by `--boxes` win over those in the byproduct's XML."""
        if item.boxes:
            return self._pixel_boxes(item, header.size, problems)
        if self.box_xml is not None and (path := self.box_xml / f"{stem}.xml").exists():
            found = _read_xml(path, stem, problems, Reason.BOX_FILE) or found
        return _turned_boxes(found, header, self.label_of) if found else ()

    def _pixel_boxes(self, item: Item, size: Size, problems: Problems) -> tuple[Box, ...]:
        boxes = []
        for pixel_box in item.boxes:
            edges = annotation.fractions(pixel_box.edges(), size)
            if edges is None:
                problems.add(Reason.BOX, f"{tuple(pixel_box)[1:]} in an image of {size.width} x {size.height}")
                continue
            label = self.label_of.get(pixel_box.class_id, -1) if pixel_box.class_id else item.label
            boxes.append(Box(x_min=edges[0], y_min=edges[1], x_max=edges[2], y_max=edges[3], label=label))
        return tuple(boxes)


def _left_out(item: Item, counts: Counter[str], reason: Reason, detail: str) -> Outcome:
    counts["images_skipped"] += 1
    return Outcome(None, counts, (Skipped(file=item.file_name, reason=reason, detail=detail),))


def _read_xml(path: Path, image_id: str, problems: Problems, unreadable: Reason) -> annotation.Annotation | None:
    try:
        with path.open("rb") as file:
            return annotation.read_annotation(file.read(MAX_XML_BYTES + 1), image_id, problems)
    except OSError as e:
        problems.add(unreadable, str(e.strerror))
    except DataError as e:
        problems.add(unreadable, str(e))
    return None


def _upright(showings: tuple[Showing, ...], header: ImageHeader, counts: Counter[str]) -> tuple[Showing, ...]:
    """Turns clicks and traces back to the stored pixels, since browsers apply the EXIF orientation (since 2020)."""

    def turned(points: tuple[TimedPoint, ...]) -> tuple[TimedPoint, ...]:
        return tuple(
            TimedPoint(*undo_exif_orientation(p.x, p.y, header.orientation), time_ms=p.time_ms) for p in points
        )

    upright = []
    for showing in showings:
        if was_rotated(showing.original_size, header, default=True):
            showing = replace(showing, clicks=turned(showing.clicks), trace=turned(showing.trace))
            counts["showings_turned_back_by_exif"] += 1
        elif showing.original_size not in (None, header.size):
            counts["showings_with_other_original_size"] += 1
        upright.append(showing)
    return tuple(upright)


def _turned_boxes(found: annotation.Annotation, header: ImageHeader, label_of: dict[str, int]) -> tuple[Box, ...]:
    """Turned only if `<size>` says so: ILSVRC's boxes were drawn when browsers still showed the stored pixels."""
    rotated = was_rotated(found.size, header, default=False)
    boxes = []
    for box in found.boxes:
        (x0, y0), (x1, y1) = (box.x_min, box.y_min), (box.x_max, box.y_max)
        if rotated:
            x0, y0 = undo_exif_orientation(x0, y0, header.orientation)
            x1, y1 = undo_exif_orientation(x1, y1, header.orientation)
        boxes.append(
            Box(
                x_min=min(x0, x1),
                y_min=min(y0, y1),
                x_max=max(x0, x1),
                y_max=max(y0, y1),
                label=label_of.get(box.name, -1),
            )
        )
    return tuple(boxes)


def _count(record: ImageRecord, counts: Counter[str]) -> None:
    """The facts of one record that summaries and manifests show."""
    selected = [showing for showing in record.showings if showing.selected]
    facts = {
        "images": True,
        "images_with_selected_byproduct": bool(selected),
        "images_with_usable_click": any(showing.clicks for showing in selected),
        "images_with_unselected_byproduct_only": bool(record.showings) and not selected,
        "images_with_several_showings": len(record.showings) > 1,
        "images_with_several_clicks_in_a_showing": any(len(showing.clicks) > 1 for showing in selected),
        "images_with_box": bool(record.boxes),
    }
    counts.update(name for name, holds in facts.items() if holds)
