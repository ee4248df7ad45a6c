"""What `python -m data_prep suite` does, once its arguments are read."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_prep.commands import (
    Job,
    kept_if_listed,
    open_inputs,
    plan_of,
    prepare_listing,
    read_images,
    write_plan,
)
from data_prep.datasets import hard_imagenet, imagenet_c, imagenet_hard, imagenet_p, suites, watermark
from data_prep.datasets.attach import attach_boxes
from data_prep.datasets.boxes import open_boxes
from data_prep.datasets.factors import keep_annotated
from data_prep.datasets.humans import attach_answers
from data_prep.datasets.listing import Inputs
from data_prep.datasets.suite_listing import list_suite, list_val
from data_prep.datasets.val_labels import NUM_VAL
from data_prep.downscale import Smaller
from data_prep.sources.archive_tree import open_source
from data_prep.sources.scratch_tar import Scratch
from data_prep.writing.summaries import summary_rows
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.dataset import Manifest
from luab_jax.data.watermark import read_font
from luab_jax.errors import DataError
from luab_jax.io.storage import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """What `data_prep suite` was asked for."""

    split: str | None = None
    boxes: str | None = None
    real: str | None = None
    factors: str | None = None
    prototypes: str | None = None
    font: str | None = None
    masks: str | None = None
    humans: str | None = None
    val_labels: str | None = None
    password: str | None = None
    num_shards: int | None = None
    strict: bool = False
    beam_options: tuple[str, ...] | None = None
    generate: bool = False
    frost: str | None = None
    corruptions: str | None = None
    smaller: Smaller | None = None
    decode: bool = True
    max_unpacked: int | None = None


def prepare_suite(name: str, source: str, data: Place, options: SuiteOptions, *, workers: int) -> list[Manifest]:
    """Prepares the splits of a suite that `source` holds into `data/<name>`."""

    def job(split: str, published: int | None, classes: ClassList) -> Job:
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
            decode=options.decode,
        )

    scratch = Scratch(data / name, options.max_unpacked)
    if options.generate and options.smaller is not None:
        raise DataError("--generate stores images of 224 px in JPEG quality 85; leave out --max_side and --quality")
    if name in suites.AT_224 and options.smaller is not None:
        raise DataError(f"suite {name} stores images of 224 px; leave out --max_side and --quality")
    if options.generate:
        return _generate_imagenet_c(source, options, lambda split, count: job(split, count, imagenet()))
    if name == "imagenet_p":
        return _videos(source, options, lambda split: job(split, imagenet_p.NUM_VIDEOS, imagenet()))
    if name == "imagenet_hard":
        if options.split not in (None, imagenet_hard.SPLIT):
            raise DataError(f"--split={options.split}: imagenet_hard has the split {imagenet_hard.SPLIT} alone")
        return _of_parquet(source, job(imagenet_hard.SPLIT, imagenet_hard.PUBLISHED, imagenet()))
    if name == "hard_imagenet":
        return _ablated(source, options, lambda split: job(split, None, imagenet()))
    if name == "imagenet_w":
        return _watermarked(source, options, lambda split: job(split, NUM_VAL, imagenet()))
    if name in suites.VAL_SUITES:
        if name == "imagenet_real" and options.real is None:
            raise DataError(
                "imagenet_real: give its labels with --real=real.json (google-research/reassessed-imagenet)"
            )
        if name == "imagenet_x" and options.factors is None:
            raise DataError(
                "imagenet_x: give its annotations with --factors=imagenet_x_val_multi_factor.jsonl, or those of the top"
                " factor (facebookresearch/imagenetx, imagenet_x/annotations)"
            )
        if name == "imagenet_localisation" and options.boxes is None:
            raise DataError(
                "imagenet_localisation: give its boxes with --boxes=ILSVRC2012_bbox_val_v3.tgz, its folder, or a text"
                " of them (localization.txt of clovaai/wsolevaluation, metadata/ILSVRC/test)"
            )
        classes = imagenet()
        inputs = open_inputs(
            source,
            None,
            options.boxes,
            classes,
            out=scratch,
            val_labels=options.val_labels,
            flag="--source",
            prefer_flat=True,
        )
        with kept_if_listed(inputs):
            listing = list_val(inputs, classes, options.real)
            if options.factors is not None:
                keep_annotated(listing, options.factors, options.prototypes)
        manifests = [prepare_listing(listing, inputs, job(options.split or "val", NUM_VAL, classes))]
    else:
        suite = suites.SUITES[name]
        inputs = Inputs(images=open_source(source, "--source", scratch=scratch, password=options.password))
        with kept_if_listed(inputs):
            listings = list_suite(suite, inputs.images, options.split)
            if options.humans is not None:
                for listing in listings.values():
                    attach_answers(listing, options.humans)
            if options.boxes is not None:
                boxes = open_boxes(options.boxes, suite.classes(), scratch=scratch)
                inputs = dataclasses.replace(inputs, boxes=boxes)
                attach_boxes(list(listings.values()), boxes, inputs.images.place)
        manifests = [
            prepare_listing(listing, inputs, job(split, suite.published[split], suite.classes()))
            for split, listing in sorted(listings.items())
        ]
    inputs.discard()
    return manifests


def _videos(source: str, options: SuiteOptions, job: Callable[[str], Job]) -> list[Manifest]:
    """Makes strips of ImageNet-P's videos."""
    scratch = Scratch(job("test").out, options.max_unpacked)
    inputs = Inputs(images=open_source(source, "--source", scratch=scratch))
    with kept_if_listed(inputs):
        listings = imagenet_p.list_videos(inputs.images, options.split)
    manifests = []
    for split, listing in sorted(listings.items()):
        start, of_split = time.monotonic(), job(split)
        facts: dict[str, str | int | None] = {"layout": "imagenet_p", "images": inputs.images.place}
        plan = plan_of(listing, imagenet_p.Strip(inputs.images.reader), facts, of_split, inputs, reads=("strips",))
        manifests.append(write_plan(plan, of_split, summary_rows, start))
    inputs.discard()
    return manifests


def _of_parquet(source: str, job: Job) -> list[Manifest]:
    """Copies ImageNet-Hard's images out of its parquet files."""
    start, rows = time.monotonic(), imagenet_hard.open_rows(source)
    tar = imagenet_hard.tar_of(rows, job.out)
    inputs = Inputs(images=open_source(str(tar), "--source", scratch=job.scratch))
    listing = imagenet_hard.list_rows(rows, inputs.images)
    facts: dict[str, str | int | None] = {"layout": "imagenet_hard", "images": source}
    plan = plan_of(listing, read_images(inputs, job.classes, job.smaller, decode=job.decode), facts, job, inputs)
    manifests = [write_plan(plan, job, summary_rows, start)]
    inputs.discard(listing=True)
    imagenet_hard.remove(tar)
    return manifests


def _ablated(source: str, options: SuiteOptions, job: Callable[[str], Job]) -> list[Manifest]:
    """Makes Hard ImageNet's splits of ILSVRC's validation images and its masks."""
    if options.masks is None:
        raise DataError("hard_imagenet: give its masks with --masks=hardImageNet.zip (mmoayeri/HardImageNet)")
    scratch = Scratch(job("original").out, options.max_unpacked)
    inputs = open_inputs(
        source, None, None, imagenet(), out=scratch, val_labels=options.val_labels, flag="--source", prefer_flat=True
    )
    masks = open_source(options.masks, "--masks", scratch=scratch)
    # Beside the images as byproducts are, so that both are opened and removed together.
    inputs = dataclasses.replace(inputs, byproducts=masks)
    read_image = read_images(dataclasses.replace(inputs, byproducts=None), imagenet(), decode=False)
    with kept_if_listed(inputs):
        listing = list_val(dataclasses.replace(inputs, byproducts=None), imagenet(), None)
        hard_imagenet.keep_outlined(listing, masks)
    manifests = []
    for split in (options.split,) if options.split else hard_imagenet.SPLITS:
        if split not in hard_imagenet.SPLITS:
            raise DataError(f"--split={split}: hard_imagenet has the splits {', '.join(hard_imagenet.SPLITS)}")
        start, of_split = time.monotonic(), job(split)
        generated = f"by luab_jax {hard_imagenet.VERSION}, noise of {hard_imagenet.DEVIATION:g} seeded by names"
        facts: dict[str, str | int | None] = {
            "layout": "hard_imagenet",
            "generated": generated,
            "images": inputs.images.place,
            "masks": masks.place,
            "val_labels": inputs.val_labels.place if inputs.val_labels else None,
        }
        read = hard_imagenet.Ablate(read_image, masks.reader, split)
        plan = plan_of(listing, read, facts, of_split, inputs, reads=(generated,))
        manifests.append(write_plan(plan, of_split, summary_rows, start))
    inputs.discard()
    return manifests


def _watermarked(source: str, options: SuiteOptions, job: Callable[[str], Job]) -> list[Manifest]:
    """Makes ImageNet-W of ILSVRC's validation images, and the same squares without the watermark."""
    if options.font is None:
        raise DataError(
            "imagenet_w: give the font of its watermark with --font=SourceHanSerifSC-ExtraLight.otf"
            " (facebookresearch/Whac-A-Mole, imagenet_w/fonts; or the adobe-fonts/source-han-serif release)"
        )
    inputs = open_inputs(
        source,
        None,
        None,
        imagenet(),
        out=Scratch(job("watermark").out, options.max_unpacked),
        val_labels=options.val_labels,
        flag="--source",
        prefer_flat=True,
    )
    with kept_if_listed(inputs):
        font = read_font(options.font)
        listing = list_val(inputs, imagenet(), None)
    read_image = read_images(inputs, imagenet(), decode=False)
    manifests = []
    for split in (options.split,) if options.split else watermark.SPLITS:
        if split not in watermark.SPLITS:
            raise DataError(f"--split={split}: imagenet_w has the splits {' and '.join(watermark.SPLITS)}")
        start, of_split = time.monotonic(), job(split)
        facts = {
            "layout": "imagenet_w",
            "generated": f"by luab_jax {watermark.VERSION}, font {font.digest}",
            "images": inputs.images.place,
            "val_labels": inputs.val_labels.place if inputs.val_labels else None,
        }
        read = watermark.Marked(read_image, font if split == "watermark" else None)
        plan = plan_of(listing, read, facts, of_split, inputs, reads=(facts["generated"] or "",))
        manifests.append(write_plan(plan, of_split, summary_rows, start))
    inputs.discard()
    return manifests


def _generate_imagenet_c(source: str, options: SuiteOptions, job: Callable[[str, int | None], Job]) -> list[Manifest]:
    """Makes the suite's splits of ILSVRC's validation images."""
    kinds = imagenet_c.choose_kinds(options.corruptions)
    generated = imagenet_c.describe(kinds, options.frost)
    published = suites.SUITES["imagenet_c"].published
    out = Scratch(job("test", 0).out, options.max_unpacked)
    inputs = open_inputs(
        source, None, None, imagenet(), out=out, val_labels=options.val_labels, flag="--source", prefer_flat=True
    )
    with kept_if_listed(inputs):
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
    read = imagenet_c.Generate(read_images(inputs, imagenet(), decode=False), frost)  # it decodes all itself
    manifests = []
    for split, listing in listings.items():
        start = time.monotonic()
        of_split = job(split, published[split])
        tables = (frost,) if frost else ()
        plan = plan_of(listing, read, facts, of_split, inputs, reads=(generated,), tables=tables)
        manifests.append(write_plan(plan, of_split, summary_rows, start))
    inputs.discard()
    return manifests
