"""What the commands of `python -m data_prep` do, once their arguments are read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from data_prep import publish, shards
from data_prep.datasets import coco_ab
from data_prep.datasets.boxes import open_boxes
from data_prep.datasets.class_folders import Listing, list_images
from data_prep.datasets.imagenet_ab import ReadImage
from luab_jax.data import features
from luab_jax.data.class_lists import ClassList, read_class_list
from luab_jax.data.dataset import Manifest
from luab_jax.errors import DataError
from luab_jax.progress import format_seconds


def local_folder(path: str, flag: str) -> Path:
    """A folder given by a flag; raises `DataError` that says what is there instead."""
    if "://" in path:
        raise DataError(f"{flag}={path}: only local folders can be read so far; copy it here first")
    folder = Path(path)
    if folder.is_file():
        raise DataError(f"{flag}={path}: a file, expected a folder; unpack the archive and give the folder")
    if not folder.is_dir():
        raise DataError(f"{flag}={path}: no such folder")
    return folder


def local_file(path: str, flag: str) -> Path:
    """A file given by a flag; raises `DataError` that says what is there instead."""
    if "://" in path:
        raise DataError(f"{flag}={path}: only local files can be read so far; copy it here first")
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{flag}={path}: {'a folder, expected a file' if file.is_dir() else 'no such file'}")
    return file


def prepare_folders(
    images: Path,
    *,
    out: Path,
    split: str,
    dataset: str,
    classes: ClassList,
    byproducts: Path | None = None,
    boxes: Path | None = None,
    num_shards: int | None = None,
    workers: int,
    strict: bool = False,
    min_match: float = 0.5,
    groups: bool = False,
) -> Manifest:
    """Prepares one split from class folders and prints its summary."""
    start = time.monotonic()
    box_source = open_boxes(boxes)
    listing = list_images(images, byproducts, classes, boxes=box_source, min_match=min_match, groups=groups)
    num_shards = min(num_shards or shards.default_num_shards(len(listing.items)), len(listing.items))
    folders = {"images": images, "byproducts": byproducts, "boxes": boxes}
    plan = shards.Plan(
        directory=out,
        dataset=dataset,
        split=split,
        classes=classes,
        items=listing.items,
        read=ReadImage(images, byproducts, box_source.xml, classes.label_of(), groups),
        num_shards=num_shards,
        source=_source(listing, folders, num_shards, classes),
        counts=listing.counts,
        problems=tuple(listing.problems),
    )
    return _prepare(plan, summary_rows, start, workers=workers, strict=strict)


def prepare_coco(
    images: Path,
    instances: Path,
    *,
    out: Path,
    split: str,
    classes: ClassList,
    byproducts: Path | None = None,
    num_shards: int | None = None,
    workers: int,
    strict: bool = False,
    min_match: float = 0.5,
) -> Manifest:
    """Prepares one split of COCO with its label sets, boxes, masks and byproducts, and prints its summary."""
    start = time.monotonic()
    listing = coco_ab.list_images(images, instances, byproducts, classes, min_match=min_match)
    num_shards = min(num_shards or shards.default_num_shards(len(listing.items)), len(listing.items))
    plan = shards.Plan(
        directory=out,
        dataset="coco_ab",
        split=split,
        classes=classes,
        items=listing.items,
        read=coco_ab.ReadImage(images, instances, byproducts, classes.label_of()),
        num_shards=num_shards,
        source={
            "layout": "coco_ab",
            "images": str(images),
            "instances": str(instances),
            "byproducts": None if byproducts is None else str(byproducts),
            "images_listed": len(listing.items),
            "byproduct_records_listed": listing.counts["byproduct_records"],
            "image_bytes_listed": sum(item.num_bytes for item in listing.items),
            "class_list": classes.hash,
            "num_shards": num_shards,
            "shard_schema": features.SCHEMA_VERSION,
        },
        counts=listing.counts,
        problems=tuple(listing.problems),
    )
    return _prepare(plan, coco_summary_rows, start, workers=workers, strict=strict)


Rows = list[tuple[str, str]]


def _prepare(
    plan: shards.Plan, rows: Callable[[Manifest], Rows], start: float, *, workers: int, strict: bool
) -> Manifest:
    manifest, written = publish.prepare(plan, workers=workers, strict=strict)
    if written:
        print(summary(manifest, rows(manifest), plan.directory, time.monotonic() - start))
    else:
        count = f"{manifest.num_records:,} images"
        print(f"{plan.directory}: split {plan.split!r} is already prepared ({count}); nothing to do")
    return manifest


def _source(
    listing: Listing, folders: dict[str, Path | None], num_shards: int, classes: ClassList
) -> dict[str, str | int | None]:
    """Where a split comes from, in the terms in which a later run with other input is refused."""
    return {
        "layout": "imagenet_ab",
        **{name: None if path is None else str(path) for name, path in folders.items()},
        "images_listed": len(listing.items),
        "byproduct_files_listed": listing.counts["byproduct_files"],
        "image_bytes_listed": sum(item.num_bytes for item in listing.items),
        "class_list": classes.hash,
        "num_shards": num_shards,
        "shard_schema": features.SCHEMA_VERSION,
    }


def summary_rows(manifest: Manifest) -> Rows:
    """What was found beside single-label images."""
    counts = manifest.counts
    share = f"{counts.get('images_with_selected_byproduct', 0) / max(manifest.num_records, 1):.1%}"
    return [
        ("with a selected byproduct", f"{counts.get('images_with_selected_byproduct', 0):,} ({share})"),
        ("with a usable click", f"{counts.get('images_with_usable_click', 0):,}"),
        ("without byproduct file", f"{counts.get('images_without_byproduct_file', 0):,}"),
        ("with a box", f"{counts.get('images_with_box', 0):,}"),
    ]


def coco_summary_rows(manifest: Manifest) -> Rows:
    """What was found beside COCO's images; pairs are those of images with a record."""
    counts = manifest.counts
    pairs, pointed = counts.get("class_image_pairs", 0), counts.get("class_image_pairs_with_point", 0)
    rows = [
        ("with a class", f"{counts.get('images_with_class', 0):,}"),
        ("objects", f"{counts.get('objects', 0):,}, {counts.get('crowd_regions', 0):,} of them crowds"),
        ("masks", f"{counts.get('masks', 0):,}"),
    ]
    if manifest.source["byproducts"] is None:
        return rows
    return [
        *rows,
        ("without byproduct record", f"{counts.get('images_without_byproduct_record', 0):,}"),
        ("with several records", f"{counts.get('images_with_several_showings', 0):,}"),
        ("class-picture pairs", f"{pairs:,}, {pointed:,} ({pointed / max(pairs, 1):.1%}) with a point"),
        ("points of absent classes", f"{counts.get('points_of_absent_classes', 0):,}"),
    ]


def summary(manifest: Manifest, found: Rows, out: Path, seconds: float) -> str:
    """A few lines on what was kept, what was not, and where it is."""
    counts = manifest.counts
    images = manifest.num_records
    size = sum(shard.num_bytes for shard in manifest.shards)
    rows = [
        ("images", f"{images:,}" + (f" of {counts['images_found']:,}" if images < counts["images_found"] else "")),
        *found,
        ("shards", f"{len(manifest.shards):,}, {size / 1e6:,.1f} MB"),
        ("time", f"{format_seconds(seconds)}, {counts['images_found'] / max(seconds, 1e-9):,.0f} images/s"),
        ("where", f"{out}, split {manifest.split!r} of {manifest.dataset!r}, {len(manifest.classes)} classes"),
    ]
    lines = [f"prepared {manifest.split}:"] + [f"  {name:<26} {value}" for name, value in rows]
    reasons: dict[str, list[str]] = {}
    for skipped in manifest.skipped:
        reasons.setdefault(skipped.reason, []).append(skipped.file)
    if reasons:
        lines.append(f"  skipped or damaged, by reason (all in {manifest.split}.manifest.json):")
        lines += [f"    {counts[reason]:>6,}  {reason}, such as {files[0]}" for reason, files in reasons.items()]
    return "\n".join(lines)


def demo(out: Path, *, workers: int, seed: int, correlation: float, **sizes: int) -> None:
    """Draws the demo's raw data, then prepares its splits and suites as if someone had downloaded them."""
    from data_prep.datasets import demo as drawn

    raw = out / "raw"
    drawn.write_raw(raw, seed=seed, correlation=correlation, **sizes)
    classes = read_class_list(str(raw / "classes.txt"))
    for split in ("train", "val"):
        prepare_folders(
            raw / split,
            out=out / "prepared",
            split=split,
            dataset="demo",
            classes=classes,
            byproducts=raw / f"{split}_xml",
            workers=workers,
        )
    for suite in sorted(path.name for path in (raw / "suites").iterdir() if path.is_dir()):
        prepare_folders(
            raw / "suites" / suite,
            out=out / "suites" / suite,
            split="test",
            dataset=f"demo_{suite}",
            classes=classes,
            workers=workers,
            groups=True,
        )
