"""The layout of ImageNet-AB: one listed image, with its XML and its boxes, read into a record.

<images>/<class>/<name>.JPEG      <byproducts>/<class>/<name>.xml
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from data_prep.annotations import imagenet_ab as annotation
from data_prep.annotations.safe_xml import MAX_XML_BYTES
from data_prep.annotations.tables import showings as table_showings
from data_prep.datasets.listing import Item
from data_prep.downscale import Smaller, stored_smaller
from data_prep.images import (
    BadImage,
    ImageHeader,
    check_length,
    mask_from_file,
    read_image,
    undo_exif_orientation,
    upright,
    was_rotated,
)
from data_prep.problems import Problems, Reason
from data_prep.sources.tree import Reader, Span
from data_prep.writing.shards import Outcome
from luab_jax.byproducts.records import Box, ImageRecord, Size
from luab_jax.errors import DataError


@dataclass(frozen=True, slots=True)
class ReadImage:
    """Reads one listed image with all its byproducts and boxes."""

    images: Reader
    byproducts: Reader | None
    boxes: Reader | None
    box_path: Callable[[str], str]
    label_of: dict[str, int]
    smaller: Smaller | None = None
    """How images are stored; as they came if None."""
    decode: bool = True
    """Whether every image is decoded to see that it is whole."""

    def __call__(self, item: Item) -> Outcome:
        counts = Counter(images_found=1)
        try:
            image, header = read_image(self.images, item.path or item.file_name, item.image, decode=self.decode)
        except BadImage as e:
            return Outcome.left_out(item.file_name, e.reason, e.detail)
        of_xml, of_image = Problems(), Problems()
        found = self._annotation(item, counts, of_xml)
        shown = found.showings if found else table_showings(item.points, of_image)
        showings = upright(shown, header, counts)
        record = ImageRecord(
            file_name=item.file_name,
            image=image,
            height=header.size.height,
            width=header.size.width,
            label=item.label,
            labels=item.labels,
            group=item.group,
            boxes=self._boxes(item, header, found, of_image),
            showings=showings,
            foreground_masks=self._masks(item, header, of_image),
        )
        if self.smaller is not None:
            try:
                record = stored_smaller(record, self.smaller, counts, of_image)
            except BadImage as e:
                return Outcome.left_out(item.file_name, e.reason, e.detail)
        _count(record, counts)
        return Outcome(record, counts, (*of_xml.listed(f"{item.key}.xml"), *of_image.listed(item.file_name)))

    def _annotation(self, item: Item, counts: Counter[str], problems: Problems) -> annotation.Annotation | None:
        if self.byproducts is None or item.xml is None:
            counts["images_without_byproduct_file"] += not item.points
            return None
        read = functools.partial(self.byproducts, item.xml_path or f"{item.key}.xml", item.xml)
        found = _read_xml(read, item.xml, item.key, problems, Reason.XML_UNREADABLE)
        if found is not None and not found.num_metadata:
            counts["byproduct_files_without_metadata"] += 1
        return found

    def _boxes(
        self,
        item: Item,
        header: ImageHeader,
        found: annotation.Annotation | None,
        problems: Problems,
    ) -> tuple[Box, ...]:
        """Boxes given by `--boxes` win over those in the byproduct's XML."""
        if item.boxes:
            return self._pixel_boxes(item, header.size, problems)
        if self.boxes is not None and item.box_xml is not None:
            read = functools.partial(self.boxes, item.box_path or self.box_path(item.key), item.box_xml)
            found = _read_xml(read, item.box_xml, item.key, problems, Reason.BOX_FILE) or found
        return _turned_boxes(found, header, self.label_of) if found else ()

    def _masks(self, item: Item, header: ImageHeader, problems: Problems) -> tuple[bytes, ...]:
        if item.mask is None:
            return ()
        try:
            check_length(item.mask.span.size)
            return (mask_from_file(item.mask.name, self.images(item.mask.name, item.mask.span), header.size),)
        except (OSError, DataError) as e:
            problems.add(Reason.FOREGROUND_MASK, str(e))
            return ()

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


def _read_xml(
    read: Callable[[], bytes], span: Span, image_id: str, problems: Problems, unreadable: Reason
) -> annotation.Annotation | None:
    try:
        # A folder's file may have grown since; the parser looks at the length again.
        if span.size > MAX_XML_BYTES:
            raise DataError(f"larger than {MAX_XML_BYTES >> 20} MiB, which no annotation is")
        return annotation.read_annotation(read(), image_id, problems)
    except OSError as e:
        problems.add(unreadable, str(e.strerror or e))
    except DataError as e:
        problems.add(unreadable, str(e))
    return None


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
        "images_with_mask": bool(record.foreground_masks),
    }
    counts.update(name for name, holds in facts.items() if holds)
