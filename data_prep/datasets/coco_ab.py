"""The layout of COCO and COCO-AB: images in one folder, their objects in one JSON file, the byproducts in another.

    <images>/<file_name of the instances file>      instances_train2014.json      coco_ab_v1_0.json

Both files are passed once, to check them as a whole and to learn where the records of each image stand; workers then
read just those bytes. Records of an image that is not there are counted, not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from data_prep.annotations.coco_ab import read_record
from data_prep.annotations.json_stream import list_elements, parse
from data_prep.annotations.spans import Spans, read_spans
from data_prep.datasets.attach import names_of
from data_prep.datasets.class_folders import find_root
from data_prep.datasets.coco_instances import Instances, read_instances, read_object, shown
from data_prep.datasets.leftovers import note_below, note_files
from data_prep.datasets.listing import IMAGE_SUFFIXES, Listing
from data_prep.downscale import Smaller, stored_smaller
from data_prep.images import BadImage, read_image, upright
from data_prep.problems import Problems, Reason
from data_prep.sources.tree import Reader, Source, Span, readable
from data_prep.writing.shards import Outcome
from luab_jax.byproducts.icons import IconRule, action_columns, class_points
from luab_jax.byproducts.records import Box, ImageRecord, Showing, Size
from luab_jax.data.class_lists import ClassList
from luab_jax.data.coco_classes import CATEGORY_IDS
from luab_jax.errors import DataError
from luab_jax.io.console import watched
from luab_jax.io.storage import Place


class Item(NamedTuple):
    """One listed image: about 0.5 kB of memory with its seven objects, hence 40 MB for COCO's training images."""

    file_name: str
    image_id: int
    image: Span
    stated: Size | None
    """Of the instances file, whose boxes and masks are in its pixels; None where it states none."""
    objects: bytes
    """Spans of the instances file; their checksums make a changed file another input."""
    records: bytes
    """Spans of the byproduct file."""


def image_root(source: Source) -> Source:
    """The folder that holds the images themselves, wherever it lies in what was downloaded."""
    return find_root(source, lambda s, f: any(n.lower().endswith(IMAGE_SUFFIXES) for n, _ in s.files(f)), "images")


def list_images(
    images: Source, instances: Place, byproducts: Place | None, classes: ClassList, *, min_match: float
) -> Listing:
    """Lists the images of the instances file that are in the folder, in the order of their names.

    Raises `DataError` for a file that is damaged or something else, and if too few images or records match.
    """
    found = read_instances(instances, classes, min_match=min_match)
    listing = Listing(problems=list(found.problems), category_ids={n: i for i, n in found.categories.items()})
    records = _read_places(byproducts, listing, found) if byproducts else Spans()
    _count_records(listing, records, found, byproducts, min_match)
    files, taken = dict(images.files()), set()
    listing.problems.extend(images.problems)
    file_of = find_files([entry.file_name for entry in found.entries.values()], files)
    for image_id, entry in sorted(found.entries.items(), key=lambda pair: pair[1].file_name):
        name = file_of.get(entry.file_name)
        if name is None:
            listing.skip(entry.file_name, Reason.IMAGE_MISSING, found.ids.shown(image_id))
            continue
        taken.add(name)
        spans = found.objects.of(image_id), records.of(image_id)
        listing.items.append(Item(name, image_id, files[name], entry.size, *spans))
    num_found, num_entries = len(listing.items), len(found.entries)
    if not num_found or num_found / num_entries < min_match:
        missing = next(s.file for s in listing.problems if s.reason is Reason.IMAGE_MISSING)
        raise DataError(
            f"{images.place}: holds {num_found} of the {num_entries} images of {instances} (at least {min_match:.0%}"
            f" wanted, and one); {missing!r} is not there. Correct --images or --instances, or accept it with"
            " --min_match"
        )
    listing.counts["images_in_instances_file"] = num_entries
    _note_unused(listing, images, [name for name in files if name not in taken], instances, byproducts)
    return listing


def find_files(names: Collection[str], files: Container[str]) -> dict[str, str]:
    """The file of each name of an instances file that has one: that of the whole name, else that of the last part of a
    name such as `val2017/000000000139.jpg`, where no other name has the same."""
    basenames = Counter(map(_basename, names))
    found = {}
    for name in names:
        if name in files:
            found[name] = name
        elif basenames[_basename(name)] == 1 and _basename(name) in files:
            found[name] = _basename(name)
    return found


def _basename(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _note_unused(
    listing: Listing, images: Source, unused: list[str], instances: Place, byproducts: Place | None
) -> None:
    """Lists what lies among the images and is not used."""
    used = names_of(str(instances), str(byproducts) if byproducts else None)
    without_entry = [name for name in unused if name.lower().endswith(IMAGE_SUFFIXES)]
    for name in without_entry:
        listing.skip(readable(name), Reason.IMAGE_WITHOUT_ENTRY)
    listing.counts["image_files_without_entry"] = len(without_entry)
    note_files(listing, "", (name for name in unused if not name.lower().endswith(IMAGE_SUFFIXES)), used)
    note_below(listing, images, "", used)


def _read_places(byproducts: Place, listing: Listing, found: Instances) -> Spans:
    """Where the records stand; a file that ends too early is an error, so that none of it is used."""
    records = Spans()
    elements = list_elements(byproducts, "a list of COCO-AB records")
    for element in watched(elements, f"read {byproducts.name}", unit="records"):
        listing.counts["byproduct_records"] += 1
        image_id = found.ids.of(element.value.get("image_id")) if isinstance(element.value, dict) else None
        if image_id is None:
            value = element.value.get("image_id", "missing") if isinstance(element.value, dict) else "no object"
            where = f"{byproducts.name}, byte {element.offset}"
            listing.skip(where, Reason.RECORD_WITHOUT_ID, f"image_id: {value!r:.60}")
        else:
            records.add(image_id, element)
    records.rename(found.ids.aliases(found.entries))
    records.sort()
    return records


def _count_records(
    listing: Listing, records: Spans, found: Instances, byproducts: Place | None, min_match: float
) -> None:
    """Lists records without image, and refuses a file of which too many are."""
    orphans = {image_id: n for image_id, n in records.counts().items() if image_id not in found.entries}
    for image_id, count in orphans.items():
        detail = f"{count} record(s); the instances file has no such image"
        listing.skip(found.ids.shown(image_id), Reason.XML_ORPHAN, detail)
    listing.counts["byproduct_records_without_image"] = sum(orphans.values())
    total = listing.counts["byproduct_records"]
    matched = len(records) - sum(orphans.values())
    if byproducts is not None and (matched < min_match * total or not total):
        example = f", such as {found.ids.shown(next(iter(orphans)))}" if orphans else ""
        raise DataError(
            f"{byproducts}: {matched} of {total} records are of images in the instances file"
            f" (at least {min_match:.0%} wanted){example}. Correct --byproducts or --instances, or accept it with"
            " --min_match"
        )


@dataclass(frozen=True, slots=True)
class ReadImage:
    """Reads one listed image with its objects and all its byproducts."""

    images: Reader
    instances: Place
    byproducts: Place | None
    label_of: dict[str, int]
    """Class name to label."""
    smaller: Smaller | None = None
    """How images are stored; as they came if None."""
    decode: bool = True
    """Whether every image is decoded to see that it is whole."""
    category_ids: Mapping[str, int] = field(default_factory=lambda: CATEGORY_IDS)
    """Class name to category id in the instances file."""

    def __call__(self, item: Item) -> Outcome:
        counts = Counter(images_found=1, images_without_stated_size=item.stated is None)
        try:
            image, header = read_image(self.images, item.file_name, item.image, decode=self.decode)
        except BadImage as e:
            return Outcome.left_out(item.file_name, e.reason, e.detail)
        of_objects, of_records = Problems(), Problems()
        labels, boxes = self._objects(item, header.size, of_objects)
        record = ImageRecord(
            file_name=item.file_name,
            image=image,
            height=header.size.height,
            width=header.size.width,
            labels=labels,
            boxes=boxes,
            showings=upright(self._showings(item, of_records), header, counts),
        )
        if self.smaller is not None:
            try:
                record = stored_smaller(record, self.smaller, counts, of_objects)
            except BadImage as e:
                return Outcome.left_out(item.file_name, e.reason, e.detail)
        _count(record, len(self.label_of), counts)
        named = shown(item.image_id) if item.image_id >= 0 else item.file_name
        return Outcome(record, counts, (*of_objects.listed(item.file_name), *of_records.listed(named)))

    def _objects(self, item: Item, size: Size, problems: Problems) -> tuple[tuple[int, ...], tuple[Box, ...]]:
        """Labels in ascending order and boxes in the order of the file.

        Where the file describes an image of another size, only the labels are sure.
        """
        stated = item.stated or size
        label_of = {
            self.category_ids[name]: label for name, label in self.label_of.items() if name in self.category_ids
        }
        labels: set[int] = set()
        boxes: list[Box] = []
        for raw in read_spans(self.instances, item.objects):
            label, box = read_object(raw, stated, label_of, problems)
            labels.update([label] if label >= 0 else [])
            boxes.extend([box] if box is not None else [])
        if stated != size:
            detail = f"{stated.width} x {stated.height}, the image has {size.width} x {size.height}"
            problems.add(Reason.OTHER_SIZE, f"{detail}; its {len(boxes)} boxes and masks are left out")
            boxes = []
        return tuple(sorted(labels)), tuple(boxes)

    def _showings(self, item: Item, problems: Problems) -> tuple[Showing, ...]:
        """One for each record, in the order of the file."""
        showings = []
        for raw in read_spans(self.byproducts, item.records):
            try:
                showing = read_record(parse(raw), self.label_of, problems)
            except DataError as e:
                problems.add(Reason.RECORD_UNREADABLE, str(e))
                continue
            showings.extend([showing] if showing is not None else [])
        return tuple(showings)


def _count(record: ImageRecord, num_classes: int, counts: Counter[str]) -> None:
    """The facts of one record that summaries and manifests show."""
    counts.update(
        images=1,
        images_with_class=bool(record.labels),
        images_with_selected_byproduct=any(showing.selected for showing in record.showings),
        images_without_byproduct_record=not record.showings,
        images_with_several_showings=len(record.showings) > 1,
        objects=len(record.boxes),
        crowd_regions=sum(box.is_crowd for box in record.boxes),
        masks=sum(bool(box.mask) for box in record.boxes),
        actions=sum(len(showing.actions) for showing in record.showings),
    )
    if not record.showings:
        return
    points = class_points(IconRule.FINAL, action_columns(record.showings), num_classes)
    pointed = {label for label in range(num_classes) if points[label, 0] == points[label, 0]}
    counts.update(
        class_image_pairs=len(record.labels),
        class_image_pairs_with_point=len(pointed & set(record.labels)),
        points_of_absent_classes=len(pointed - set(record.labels)),
    )
