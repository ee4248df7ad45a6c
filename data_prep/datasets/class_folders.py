"""Images in class folders, and byproduct files beside them, listed and matched.

    <images>/<class>/<name>.JPEG      <byproducts>/<class>/<name>.xml

Listing looks at names and sizes only; images and XML are read by the shard workers, one at a time. The class folders
may lie deeper in what was given, as they do in most archives; ILSVRC's validation images lie in one folder
without classes, and are listed as `<class>/<name>` all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from data_prep.datasets.attach import attach_boxes, attach_points, names_of
from data_prep.datasets.leftovers import images_in, note_below, note_files
from data_prep.datasets.listing import IMAGE_SUFFIXES, Inputs, Item, Listing, stem_of
from data_prep.datasets.matching import composed
from data_prep.problems import Reason
from data_prep.sources.tree import File, Source, readable, walk
from luab_jax.data.class_lists import ClassList
from luab_jax.errors import DataError
from luab_jax.io.console import Progress

_MAX_DEPTH = 6
"""Folders that may lie above the classes."""


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


def class_root(source: Source, classes: ClassList, suffixes: tuple[str, ...] = ()) -> Source:
    """The folder in which the class folders lie: of several those that hold files of these suffixes, if any do.

    Kaggle's copy of ILSVRC has `Annotations/CLS-LOC/train/<class>` beside `Data/CLS-LOC/train/<class>`.
    """
    label_of = classes.label_of()

    def holds(source: Source, folder: str) -> bool:
        return any(name in label_of for name in source.folders(folder))

    def holds_these(source: Source, folder: str) -> bool:
        inside = [name for name in source.folders(folder) if name in label_of]
        files = (file for name in inside for file in source.files(f"{folder}/{name}" if folder else name))
        return any(file.name.lower().endswith(suffixes) for file in files)

    if suffixes:
        root = find_root(source, holds_these, "class folders")
        if holds(root, ""):
            return root
    return find_root(source, holds, "class folders")


def list_images(inputs: Inputs, classes: ClassList, *, min_match: float, groups: bool = False) -> Listing:
    """Lists `<class>/<image>`, with `groups` one folder deeper, in the order of names.

    Raises `DataError` for a missing or empty folder, a folder that is no class, and byproducts of which too few match.
    """
    images = inputs.images
    listing = Listing()
    used = names_of(inputs.table, inputs.boxes.place, inputs.val_labels.place if inputs.val_labels else None)
    if inputs.byproducts is not None or inputs.boxes.xml is not None:
        used |= {".xml"}  # they may lie among the images
    with Progress(f"list {images.name}", None) as progress:
        for place in _folders_of_images(listing, inputs, classes, used, groups=groups):
            _list_class(listing, inputs, place, used)
            progress.advance(len(place.files))
    listing.problems.extend(problem for source in inputs.sources for problem in source.problems)
    listing.counts["classes_without_images"] = len(classes) - len({item.label for item in listing.items})
    if not listing.items:
        raise DataError(
            f"{images.place}: no images found; expected <class>/<image> with a suffix of {', '.join(IMAGE_SUFFIXES)}"
            f"{_deeper(images)}{_first_problem(listing)}"
        )
    if inputs.byproducts is not None:
        _note_byproducts(listing, inputs.byproducts)
        _check_match(listing, images, inputs.byproducts, min_match)
    if inputs.points:
        attach_points(listing, inputs.points, images.place, min_match)
    attach_boxes([listing], inputs.boxes, images.place)
    return listing


def _first_problem(listing: Listing) -> str:
    """What there was instead of images."""
    if not listing.problems:
        return ""
    first, count = listing.problems[0], len(listing.problems)
    return f". Not used: {first.file} ({first.reason})" + (f" and {count - 1:,} more" if count > 1 else "")


def _deeper(images: Source) -> str:
    """A hint at the folder of a split, where its parent was given."""
    deeper = next((name for name in images.folders() if images.folders(name)), None)
    return f". Folders lie deeper than that: is it {images.place}/{deeper}?" if deeper else ""


class _Place(NamedTuple):
    """A folder of images of one class, or those of a class among images that lie flat."""

    prefix: str
    """What stands before the class in file names."""
    class_id: str
    label: int
    files: list[File]
    flat: bool = False


def _folders_of_images(
    listing: Listing, inputs: Inputs, classes: ClassList, used: frozenset[str], *, groups: bool
) -> Iterator[_Place]:
    """Every class with its files; what lies beside and below the class folders is listed."""
    images, label_of = inputs.images, classes.label_of()
    if inputs.val_labels is not None:
        by_class, without = inputs.val_labels.by_class(images, label_of)
        unlabelled = [name for name in without if name.lower().endswith(IMAGE_SUFFIXES)]
        for name in unlabelled:
            listing.skip(readable(name), Reason.IMAGE_LABEL)
        note_files(listing, "", (name for name in without if not name.lower().endswith(IMAGE_SUFFIXES)), used)
        listing.counts["files_without_label_ignored"] = len(without)
        for name in inputs.val_labels.without_image(file.name for file in images.files()):
            listing.skip(name, Reason.LABEL_ORPHAN)
        for class_id, files in by_class:
            yield _Place("", class_id, label_of[class_id], files, flat=True)
        note_below(listing, images, "", used)
        return
    note_files(listing, "", (file.name for file in images.files()), used)
    roots = [(f"{group}/", images.below(group)) for group in images.folders()] if groups else [("", images)]
    for prefix, root in roots:
        if groups:
            note_files(listing, prefix.rstrip("/"), (file.name for file in root.files()), used)
        for class_id in root.folders():
            if class_id not in label_of:
                raise DataError(
                    f"{root.place}/{class_id}: folder {class_id!r} is not in the list of {len(classes)} classes"
                    f" (the first is {classes.ids[0]!r}); {inputs.remedy}"
                )
            yield _Place(prefix, class_id, label_of[class_id], root.files(class_id))
            note_below(listing, root, class_id, used, shown=prefix.rstrip("/"))


def _list_class(listing: Listing, inputs: Inputs, place: _Place, used: frozenset[str]) -> None:
    class_id = place.class_id
    xml = _xml_of(listing, inputs.byproducts, class_id)
    images = list(images_in(listing, f"{place.prefix}{class_id}", place.files, used))
    stems = Counter(stem_of(image.name) for image in images)
    alike = {composed(stem): stem for stem in xml.keys() - stems.keys()}
    matched = set()
    for name, span in images:
        stem = stem_of(name)
        file_name = f"{place.prefix}{class_id}/{name}"
        of_image = xml.get(stem) or xml.get(alike.pop(composed(stem), ""))
        if of_image is not None:
            matched.add(of_image.name)
        if of_image is not None and stems[stem] > 1:
            listing.skip(file_name, Reason.XML_SHARED, f"{class_id}/{stem}.xml")
            of_image = None
        if of_image is None:
            listing.examples.setdefault("image", file_name)
        listing.items.append(
            Item(
                file_name,
                place.label,
                span,
                of_image.span if of_image else None,
                group=place.prefix.removesuffix("/"),
                path=name if place.flat else "",
                xml_path=f"{class_id}/{of_image.name}" if of_image and of_image.name != f"{stem}.xml" else "",
            )
        )
    orphans = sorted(readable(f"{class_id}/{file.name}") for file in xml.values() if file.name not in matched)
    for orphan in orphans:
        listing.skip(orphan, Reason.XML_ORPHAN)
        listing.examples.setdefault("xml", orphan)
    listing.counts["byproduct_files"] += len(xml)
    listing.counts["byproduct_files_without_image"] += len(orphans)


def _xml_of(listing: Listing, byproducts: Source | None, class_id: str) -> dict[str, File]:
    """The byproducts of a class by their stems."""
    xml: dict[str, File] = {}
    if byproducts is None or class_id not in byproducts.folders():
        return xml
    others = []
    for file in byproducts.files(class_id):
        if not file.name.lower().endswith(".xml"):
            others.append(file.name)
        elif xml.setdefault(stem_of(file.name), file) is not file:  # a.xml and a.XML
            listing.skip(readable(f"{class_id}/{file.name}"), Reason.XML_SHARED, xml[stem_of(file.name)].name)
    if not any(name.lower().endswith(IMAGE_SUFFIXES) for name in others):  # else one folder holds both
        note_files(listing, class_id, others)
    return xml


def _note_byproducts(listing: Listing, byproducts: Source) -> None:
    """Lists folders of byproducts whose class has no image."""
    with_images = {item.file_name.rsplit("/", 2)[-2] for item in listing.items}
    unused = sorted(set(byproducts.folders()) - with_images)
    for folder in unused:
        listing.skip(readable(folder), Reason.XML_FOLDER)
    listing.counts["byproduct_folders_without_images"] = len(unused)


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
