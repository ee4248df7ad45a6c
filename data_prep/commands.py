"""What the commands of `python -m data_prep` do, once their arguments are read."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.annotations.image_tables import Columns, read_image_table
from data_prep.annotations.tables import is_table, read_table
from data_prep.datasets import coco_ab
from data_prep.datasets.annotated import classes_of, list_annotated
from data_prep.datasets.boxes import open_boxes, xml_path
from data_prep.datasets.class_folders import class_root, find_root, list_images
from data_prep.datasets.imagenet_ab import ReadImage
from data_prep.datasets.listing import GIVE_CLASSES, IMAGE_SUFFIXES, Inputs, Listing
from data_prep.datasets.published import published_coco, published_imagenet
from data_prep.datasets.val_labels import ValLabels, read_val_labels
from data_prep.downscale import Smaller
from data_prep.sources.archive_tree import open_source
from data_prep.sources.scratch_tar import Scratch
from data_prep.sources.tree import Folder, Source, readable
from data_prep.writing import publish, shards
from data_prep.writing.shards import Outcome
from data_prep.writing.summaries import Rows, coco_summary_rows, summary, summary_rows
from luab_jax.data.class_lists import ClassList, read_class_list
from luab_jax.data.coco_classes import CATEGORY_IDS
from luab_jax.data.dataset import DECODE_CHECK, STORED_SMALLER, Manifest
from luab_jax.data.schema import SCHEMA_VERSION
from luab_jax.errors import DataError
from luab_jax.io import storage
from luab_jax.io.atomic import write_text
from luab_jax.io.storage import Place
from luab_jax.io.wording import counted

CLASSES_FILE = "classes.txt"
"""Class list of one's own data, in the prepared directory."""


def open_inputs(
    images: str,
    byproducts: str | None,
    boxes: str | None,
    classes: ClassList,
    *,
    out: Place | Scratch,
    val_labels: str | None,
    flag: str = "--images",
    prefer_flat: bool = False,
) -> Inputs:
    """Opens the folders or archives of class folders, or of ILSVRC's validation images without them.

    `flag` is what gave the images, for messages. With `prefer_flat` the latter are taken where both are there, as in
    Kaggle's copy of ILSVRC.
    """
    source = open_source(images, flag, scratch=out)
    root = class_root(source, classes, IMAGE_SUFFIXES)
    in_classes = any(name in classes.ids for name in root.folders())
    labels = read_val_labels(val_labels) if val_labels is not None or prefer_flat or not in_classes else None
    flat = flat_root(source, labels, classes) if labels is not None and (prefer_flat or not in_classes) else None
    if flat is None and in_classes and val_labels is not None:
        raise DataError(
            f"--val_labels={val_labels}: not needed, the images of {root.place} lie in folders that name their class;"
            " leave it out"
        )
    if flat is None and val_labels is not None:
        flat = source  # none of its images has a label, which is told
    clicks = open_source(byproducts, "--byproducts", scratch=out) if byproducts else None
    return Inputs(
        images=root if flat is None else flat,
        byproducts=class_root(clicks, classes, (".xml",)) if clicks else None,
        boxes=open_boxes(boxes, classes, scratch=out),
        val_labels=None if flat is None else labels,
        remedy=f"give ILSVRC's validation images with {flag}" if flag == "--source" else GIVE_CLASSES,
    )


def flat_root(source: Source, labels: ValLabels, classes: ClassList) -> Source | None:
    """The folder of validation images that lie without classes, if there is one."""
    ids = set(classes.ids)

    def holds(source: Source, folder: str) -> bool:
        return folder.rpartition("/")[2] not in ids and labels.lies_flat(source, folder)

    root = find_root(source, holds, "validation images")
    return root if labels.lies_flat(root, "") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One split to be written, and how."""

    out: Place
    split: str
    dataset: str
    classes: ClassList
    workers: int
    num_shards: int | None = None
    strict: bool = False
    expected: int | None = None
    """The published count of a public set; of ImageNet-AB and COCO-AB the listing tells."""
    beam_options: tuple[str, ...] | None = None
    """Flags of an Apache Beam pipeline that writes the shards; `None` for processes of this machine."""
    smaller: Smaller | None = None
    """How images are stored; as they came if None."""
    decode: bool = True
    """Whether every image is decoded to see that it is whole."""
    max_unpacked: int | None = None
    """Bytes that a compressed archive may become; None takes the limits of `scratch_tar`."""

    @property
    def scratch(self) -> Scratch:
        return Scratch(self.out, self.max_unpacked)


@contextlib.contextmanager
def kept_if_listed(inputs: Inputs) -> Iterator[None]:
    """Input that is refused leaves no scratch file; one that is stopped later keeps it for the next run."""
    try:
        yield
    except DataError:
        inputs.discard(listing=True)
        raise


def prepare_folders(inputs: Inputs, job: Job, *, min_match: float = 0.5, groups: bool = False) -> Manifest:
    """Prepares one split from class folders and prints its summary."""
    with kept_if_listed(inputs):
        listing = list_images(inputs, job.classes, min_match=min_match, groups=groups)
    if job.dataset == "imagenet_ab":
        published = published_imagenet(job.split, job.classes, len(listing.items))
        job = dataclasses.replace(job, expected=published)
    manifest = prepare_listing(listing, inputs, job)
    inputs.discard()
    return manifest


def prepare_coco(
    images: str, instances: Place, byproducts: Place | None, job: Job, *, min_match: float = 0.5
) -> Manifest:
    """Prepares one split of COCO with its label sets, boxes, masks and byproducts, and prints its summary."""
    start = time.monotonic()
    inputs = Inputs(images=coco_ab.image_root(open_source(images, "--images", scratch=job.scratch)))
    with kept_if_listed(inputs):
        listing = coco_ab.list_images(inputs.images, instances, byproducts, job.classes, min_match=min_match)
    if job.dataset == "coco_ab":
        published = published_coco(job.split, job.classes, [item.file_name for item in listing.items])
        job = dataclasses.replace(job, expected=published)
    source = {
        "layout": "coco_ab",
        "images": inputs.images.place,
        "instances": str(instances),
        "byproducts": None if byproducts is None else str(byproducts),
        "byproduct_records_listed": listing.counts["byproduct_records"],
    }
    # Workers may run in another folder.
    instances, byproducts = storage.absolute(instances), storage.absolute(byproducts) if byproducts else None
    read = coco_ab.ReadImage(
        inputs.images.reader,
        instances,
        byproducts,
        job.classes.label_of(),
        job.smaller,
        job.decode,
        listing.category_ids,
    )
    tables = tuple(map(str, filter(None, (instances, byproducts))))
    ids = {name: listing.category_ids[name] for name in job.classes.ids if name in listing.category_ids}
    reads = () if ids == CATEGORY_IDS else (f"categories {sorted(ids.items())}",)
    plan = plan_of(listing, read, source, job, inputs, reads=reads, tables=tables)
    manifest = write_plan(plan, job, coco_summary_rows, start)
    inputs.discard()
    return manifest


def prepare_listing(listing: Listing, inputs: Inputs, job: Job) -> Manifest:
    """Writes what was listed, and prints a summary."""
    start = time.monotonic()
    return write_plan(plan_folders(listing, inputs, job), job, summary_rows, start)


def plan_folders(listing: Listing, inputs: Inputs, job: Job) -> shards.Plan:
    """How what was listed becomes a split."""
    byproducts, box_xml = inputs.byproducts, inputs.boxes.xml
    source = {
        "layout": "imagenet_ab",
        "images": inputs.images.place,
        "val_labels": inputs.val_labels.place if inputs.val_labels else None,
        "byproducts": byproducts.place if byproducts else inputs.table,
        "byproduct_files_listed": listing.counts["byproduct_files"],
        "byproduct_bytes_listed": sum(item.xml.size for item in listing.items if item.xml),
        "boxes": inputs.boxes.place,
        "box_bytes_listed": sum(item.box_xml.size for item in listing.items if item.box_xml),
    }
    read = read_images(inputs, job.classes, job.smaller, decode=job.decode)
    reads = ("boxes as <image>.xml" if inputs.boxes.flat else "boxes as <class>/<image>.xml",) if box_xml else ()
    return plan_of(listing, read, source, job, inputs, reads=(*listing.reads, *reads))


def read_images(
    inputs: Inputs, classes: ClassList, smaller: Smaller | None = None, *, decode: bool = True
) -> ReadImage:
    return ReadImage(
        images=inputs.images.reader,
        byproducts=inputs.byproducts.reader if inputs.byproducts else None,
        boxes=inputs.boxes.xml.reader if inputs.boxes.xml else None,
        box_path=functools.partial(xml_path, inputs.boxes.flat),
        label_of=classes.label_of(),
        smaller=smaller,
        decode=decode,
    )


def plan_of(
    listing: Listing,
    read: Callable[[Any], Outcome],
    source: dict[str, str | int | None],
    job: Job,
    inputs: Inputs,
    *,
    reads: tuple[str, ...] = (),
    tables: tuple[str, ...] = (),
) -> shards.Plan:
    """`source`: where a split comes from, in the terms in which a later run with other input is refused.

    `tables` are the files that workers read beside `inputs`.
    """
    num_shards = min(job.num_shards or shards.default_num_shards(len(listing.items)), len(listing.items))
    facts: dict[str, str | int] = {
        "images_listed": len(listing.items),
        "image_bytes_listed": sum(item.image.size for item in listing.items),
        "class_list": job.classes.hash,
        "num_shards": num_shards,
        "shard_schema": SCHEMA_VERSION,
    }
    if not job.decode:
        facts[DECODE_CHECK] = "none"
        reads = (*reads, shards.NOT_DECODED)
    if job.smaller is not None:
        facts[STORED_SMALLER] = str(job.smaller)
        reads = (*reads, f"images stored with {job.smaller}")
    return shards.Plan(
        directory=job.out,
        dataset=job.dataset,
        split=job.split,
        classes=job.classes,
        items=listing.items,
        read=read,
        num_shards=num_shards,
        source=source | facts,
        counts=listing.counts,
        problems=tuple(listing.problems),
        expected_records=job.expected,
        reads=reads,
        places=(*inputs.places, *tables),
        make_readable=inputs.make_readable,
    )


def write_plan(plan: shards.Plan, job: Job, rows: Callable[[Manifest], Rows], start: float) -> Manifest:
    manifest, written = publish.prepare(plan, workers=job.workers, strict=job.strict, beam_options=job.beam_options)
    if written:
        print(summary(manifest, rows(manifest), job.out, time.monotonic() - start))
    else:
        found = counted(manifest.num_records, "image")
        print(f"{job.out}: split {job.split!r} is already prepared ({found}); nothing to do")
    return manifest


def prepare_own(
    source: str,
    byproducts: str | None,
    classes: str | None,
    job: Callable[[ClassList], Job],
    *,
    out: Place,
    max_unpacked: int | None = None,
) -> Manifest:
    """Prepares class folders of the user's own, with byproducts as XML in class folders or as a table of clicks."""
    scratch = Scratch(out, max_unpacked)
    images = open_source(source, "--source", scratch=scratch)
    class_list = _own_classes(images, source, classes, out)
    table = storage.place(byproducts) if byproducts and is_table(storage.place(byproducts)) else None
    inputs = Inputs(
        images=images,
        byproducts=open_source(byproducts, "--byproducts", scratch=scratch) if byproducts and not table else None,
        points=read_table(table) if table else {},
        table=str(table) if table else None,
    )
    manifest = prepare_folders(inputs, job(class_list), min_match=0.5 if table else 0)
    written = out / CLASSES_FILE
    if storage.facts(written) is None:
        lines = (f"{i}\t{name}\n" for i, name in zip(class_list.ids, class_list.names, strict=True))
        write_text(written, "".join(lines))
        print(f"{written}: the {len(class_list)} classes in label order")
    return manifest


def prepare_annotated(
    source: str,
    table: str,
    columns: Columns,
    classes: str | None,
    job: Callable[[ClassList], Job],
    *,
    out: Place,
    max_unpacked: int | None = None,
) -> Manifest:
    """Prepares the images that a table of the user's own names, with labels, groups, boxes and masks from it."""
    inputs = Inputs(images=open_source(source, "--source", scratch=Scratch(out, max_unpacked)), table=table)
    rows = read_image_table(storage.place(table), columns)
    written = out / CLASSES_FILE
    known = storage.facts(written) is not None
    from_list = classes or (str(written) if known else None)
    class_list = classes_of(rows, inputs.images) if from_list is None else read_class_list(from_list)
    if classes:
        no_class = f"{classes}; add the class to {classes}"
    elif known:
        no_class = (
            f"{written}, which the first split made; prepare every split, from the first on, into another --out with"
            " --classes=FILE, which lists all of them"
        )
    else:
        no_class = f"the folders of {source}; say with --label which column names the class"
    with kept_if_listed(inputs):
        listing = list_annotated(inputs, rows, class_list, table, no_class=no_class)
    manifest = prepare_listing(listing, inputs, job(class_list))
    inputs.discard()
    if not known:
        lines = (f"{i}\t{name}\n" for i, name in zip(class_list.ids, class_list.names, strict=True))
        write_text(written, "".join(lines))
        print(f"{written}: the {len(class_list)} classes in label order")
    return manifest


def _own_classes(images: Source, source: str, classes: str | None, out: Place) -> ClassList:
    """What was asked for, else a list beside the images or of an earlier split, else the folders' names, sorted.

    The last is the only place where an order of folders makes labels; it is written out, and later splits keep it.
    """
    if classes is not None:
        return read_class_list(classes)
    for path in (storage.place(source) / CLASSES_FILE, out / CLASSES_FILE):
        if (facts := storage.facts(path)) is not None and not facts.is_folder:
            return read_class_list(str(path))
    names = tuple(images.folders())
    if not names:
        raise DataError(f"{images.place}: holds no class folders; expected <class>/<image>")
    for name in names:
        if name != name.strip() or "\t" in name or name.splitlines() != [name] or readable(name) != name:
            raise DataError(
                f"{images.place}: class folder {readable(name)!r}: a class list, one class a line, cannot hold such a"
                " name (tab, line break, space at an end, or bytes that are not UTF-8); rename the folder"
            )
    return ClassList(names, names)


def demo(out: Path, *, workers: int, seed: int, correlation: float, **sizes: int) -> None:
    """Draws the demo's raw data, then prepares its splits and suites as if someone had downloaded them."""
    from data_prep.demo import dataset as drawn

    raw = out / "raw"
    drawn.write_raw(raw, seed=seed, correlation=correlation, **sizes)
    classes = read_class_list(str(raw / "classes.txt"))
    for split in ("train", "val"):
        inputs = Inputs(images=Folder(raw / split), byproducts=Folder(raw / f"{split}_xml"))
        job = Job(out=out / "prepared", split=split, dataset="demo", classes=classes, workers=workers)
        prepare_folders(inputs, job)
    for suite in sorted(path.name for path in (raw / "suites").iterdir() if path.is_dir()):
        directory = out / "suites" / suite
        job = Job(out=directory, split="test", dataset=f"demo_{suite}", classes=classes, workers=workers)
        prepare_folders(Inputs(images=Folder(raw / "suites" / suite)), job, groups=True)
