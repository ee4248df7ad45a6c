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

from data_prep import publish, shards
from data_prep.annotations.tables import is_table, read_table
from data_prep.datasets import coco_ab, imagenet_c, suites
from data_prep.datasets.boxes import open_boxes, xml_path
from data_prep.datasets.class_folders import Inputs, Listing, class_root, find_root, list_images
from data_prep.datasets.imagenet_ab import ReadImage
from data_prep.datasets.suite_listing import add_boxes, list_suite, list_val
from data_prep.datasets.val_labels import NUM_VAL, lies_flat, read_val_labels
from data_prep.packed import open_source
from data_prep.shards import Outcome
from data_prep.smaller import Smaller
from data_prep.sources import Folder, Source, readable
from data_prep.summaries import Rows, coco_summary_rows, summary, summary_rows
from luab_jax.data import storage
from luab_jax.data.class_lists import ClassList, imagenet, read_class_list
from luab_jax.data.dataset import STORED_SMALLER, Manifest
from luab_jax.data.schema import SCHEMA_VERSION
from luab_jax.data.storage import Place
from luab_jax.errors import DataError

CLASSES_FILE = "classes.txt"
"""Class list of one's own data, in the prepared directory."""


def open_inputs(
    images: str,
    byproducts: str | None,
    boxes: str | None,
    classes: ClassList,
    *,
    out: Place,
    val_labels: str | None,
    flag: str = "--images",
) -> Inputs:
    """Opens the folders or archives of class folders, or of ILSVRC's validation images without them.

    `flag` is what gave the images, for messages.
    """
    source = open_source(images, flag, scratch=out)
    root = class_root(source, classes)
    labels = None
    if not any(name in classes.ids for name in root.folders()) and (flat := flat_root(source, val_labels)):
        root, labels = flat, read_val_labels(val_labels)
    clicks = open_source(byproducts, "--byproducts", scratch=out) if byproducts else None
    return Inputs(
        images=root,
        byproducts=class_root(clicks, classes) if clicks else None,
        boxes=open_boxes(boxes, classes, scratch=out),
        val_labels=labels,
    )


def flat_root(source: Source, val_labels: str | None) -> Source | None:
    """The folder of validation images that lie without classes, if there is one."""
    if val_labels is not None:
        return find_root(source, lambda s, folder: bool(s.files(folder)), "images")
    root = find_root(source, lies_flat, "validation images")
    return root if lies_flat(root, "") else None


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
    """The published count of a public set."""
    beam_options: tuple[str, ...] | None = None
    """Flags of an Apache Beam pipeline that writes the shards; `None` for processes of this machine."""
    smaller: Smaller | None = None
    """How images are stored; as they came if None."""


@contextlib.contextmanager
def _kept_if_listed(inputs: Inputs) -> Iterator[None]:
    """Input that is refused leaves no scratch file; one that is stopped later keeps it for the next run."""
    try:
        yield
    except DataError:
        inputs.discard(listing=True)
        raise


def prepare_folders(inputs: Inputs, job: Job, *, min_match: float = 0.5, groups: bool = False) -> Manifest:
    """Prepares one split from class folders and prints its summary."""
    with _kept_if_listed(inputs):
        listing = list_images(inputs, job.classes, min_match=min_match, groups=groups)
    manifest = prepare_listing(listing, inputs, job)
    inputs.discard()
    return manifest


def prepare_coco(
    images: str, instances: Place, byproducts: Place | None, job: Job, *, min_match: float = 0.5
) -> Manifest:
    """Prepares one split of COCO with its label sets, boxes, masks and byproducts, and prints its summary."""
    start = time.monotonic()
    inputs = Inputs(images=coco_ab.image_root(open_source(images, "--images", scratch=job.out)))
    with _kept_if_listed(inputs):
        listing = coco_ab.list_images(inputs.images, instances, byproducts, job.classes, min_match=min_match)
    source = {
        "layout": "coco_ab",
        "images": inputs.images.place,
        "instances": str(instances),
        "byproducts": None if byproducts is None else str(byproducts),
        "byproduct_records_listed": listing.counts["byproduct_records"],
    }
    # Workers may run in another folder.
    instances, byproducts = storage.absolute(instances), storage.absolute(byproducts) if byproducts else None
    read = coco_ab.ReadImage(inputs.images.reader, instances, byproducts, job.classes.label_of(), job.smaller)
    tables = tuple(map(str, filter(None, (instances, byproducts))))
    plan = _plan(listing, read, source, job, inputs, tables=tables)
    manifest = _prepare(plan, job, coco_summary_rows, start)
    inputs.discard()
    return manifest


def prepare_listing(listing: Listing, inputs: Inputs, job: Job) -> Manifest:
    """Writes what was listed, and prints a summary."""
    start = time.monotonic()
    return _prepare(plan_folders(listing, inputs, job), job, summary_rows, start)


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
    read = _read_images(inputs, job.classes, job.smaller)
    reads = ("boxes as <image>.xml" if inputs.boxes.flat else "boxes as <class>/<image>.xml",) if box_xml else ()
    return _plan(listing, read, source, job, inputs, reads=reads)


def _read_images(inputs: Inputs, classes: ClassList, smaller: Smaller | None = None) -> ReadImage:
    return ReadImage(
        images=inputs.images.reader,
        byproducts=inputs.byproducts.reader if inputs.byproducts else None,
        boxes=inputs.boxes.xml.reader if inputs.boxes.xml else None,
        box_path=functools.partial(xml_path, inputs.boxes.flat),
        label_of=classes.label_of(),
        smaller=smaller,
    )


def _plan(
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


def _prepare(plan: shards.Plan, job: Job, rows: Callable[[Manifest], Rows], start: float) -> Manifest:
    manifest, written = publish.prepare(plan, workers=job.workers, strict=job.strict, beam_options=job.beam_options)
    if written:
        print(summary(manifest, rows(manifest), job.out, time.monotonic() - start))
    else:
        print(f"{job.out}: split {job.split!r} is already prepared ({manifest.num_records:,} images); nothing to do")
    return manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """What `data_prep suite` was asked for."""

    split: str | None = None
    boxes: str | None = None
    real: str | None = None
    val_labels: str | None = None
    password: str | None = None
    num_shards: int | None = None
    strict: bool = False
    beam_options: tuple[str, ...] | None = None
    generate: bool = False
    frost: str | None = None
    corruptions: str | None = None
    smaller: Smaller | None = None


def prepare_suite(name: str, source: str, data: Place, options: SuiteOptions, *, workers: int) -> list[Manifest]:
    """Prepares the splits of a suite that `source` holds into `data/<name>`."""

    def job(split: str, published: int, classes: ClassList) -> Job:
        return Job(
            out=data / name,
            split=split,
            dataset=name,
            classes=classes,
            workers=workers,
            num_shards=options.num_shards,
            strict=options.strict,
            expected=published,
            beam_options=options.beam_options,
            smaller=options.smaller,
        )

    if options.generate and options.smaller is not None:
        raise DataError("--generate stores images of 224 px in JPEG quality 85; leave out --max_side and --quality")
    if options.generate:
        return _generate_imagenet_c(source, options, lambda split, count: job(split, count, imagenet()))
    if name in suites.VAL_SUITES:
        if name == "imagenet_real" and options.real is None:
            raise DataError(
                "imagenet_real: give its labels with --real=real.json (google-research/reassessed-imagenet)"
            )
        if name == "imagenet_localisation" and options.boxes is None:
            raise DataError(
                "imagenet_localisation: give its boxes with --boxes=ILSVRC2012_bbox_val_v3.tgz, its folder, or a text"
                " of them (localization.txt of clovaai/wsolevaluation, metadata/ILSVRC/test)"
            )
        classes = imagenet()
        inputs = open_inputs(
            source, None, options.boxes, classes, out=data / name, val_labels=options.val_labels, flag="--source"
        )
        with _kept_if_listed(inputs):
            listing = list_val(inputs, classes, options.real)
        manifests = [prepare_listing(listing, inputs, job(options.split or "val", NUM_VAL, classes))]
    else:
        suite = suites.SUITES[name]
        inputs = Inputs(images=open_source(source, "--source", scratch=data / name, password=options.password))
        with _kept_if_listed(inputs):
            listings = list_suite(suite, inputs.images, options.split)
            if options.boxes is not None:
                boxes = open_boxes(options.boxes, suite.classes(), scratch=data / name)
                inputs = dataclasses.replace(inputs, boxes=boxes)
                add_boxes(listings, inputs)
        manifests = [
            prepare_listing(listing, inputs, job(split, suite.published[split], suite.classes()))
            for split, listing in sorted(listings.items())
        ]
    inputs.discard()
    return manifests


def _generate_imagenet_c(source: str, options: SuiteOptions, job: Callable[[str, int], Job]) -> list[Manifest]:
    """Makes the suite's splits of ILSVRC's validation images."""
    kinds = imagenet_c.choose_kinds(options.corruptions)
    generated = imagenet_c.describe(kinds, options.frost)
    published = suites.SUITES["imagenet_c"].published
    out = job("test", 0).out
    inputs = open_inputs(source, None, None, imagenet(), out=out, val_labels=options.val_labels, flag="--source")
    with _kept_if_listed(inputs):
        listings = imagenet_c.list_corrupted(list_val(inputs, imagenet(), None), kinds, options.split)
    facts = {
        "layout": "imagenet_c",
        "generated": generated,
        "corruptions": ", ".join(kinds),
        "images": inputs.images.place,
        "val_labels": inputs.val_labels.place if inputs.val_labels else None,
    }
    # Workers may run in another folder.
    frost = str(Path(options.frost).absolute()) if options.frost else None
    read = imagenet_c.Generate(_read_images(inputs, imagenet()), frost)
    manifests = []
    for split, listing in listings.items():
        start = time.monotonic()
        of_split = job(split, published[split])
        tables = (frost,) if frost else ()
        plan = _plan(listing, read, facts, of_split, inputs, reads=(generated,), tables=tables)
        manifests.append(_prepare(plan, of_split, summary_rows, start))
    inputs.discard()
    return manifests


def prepare_own(
    source: str, byproducts: str | None, classes: str | None, job: Callable[[ClassList], Job], *, out: Place
) -> Manifest:
    """Prepares class folders of the user's own, with byproducts as XML in class folders or as a table of clicks."""
    images = open_source(source, "--source", scratch=out)
    class_list = _own_classes(images, source, classes, out)
    table = storage.place(byproducts) if byproducts and is_table(storage.place(byproducts)) else None
    inputs = Inputs(
        images=images,
        byproducts=open_source(byproducts, "--byproducts", scratch=out) if byproducts and not table else None,
        points=read_table(table) if table else {},
        table=str(table) if table else None,
    )
    manifest = prepare_folders(inputs, job(class_list), min_match=0.5 if table else 0)
    written = out / CLASSES_FILE
    if storage.facts(written) is None:
        lines = (f"{i}\t{name}\n" for i, name in zip(class_list.ids, class_list.names, strict=True))
        try:
            with storage.atomic_file(written) as temporary:
                temporary.write_text("".join(lines), encoding="utf-8")
        except OSError as e:
            raise DataError(f"{written}: cannot be written ({e.strerror or e})") from e
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
    from data_prep.datasets import demo as drawn

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
