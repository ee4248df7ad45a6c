"""Every reader that is fed, by its name on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.fuzz import annotations, archives, stored, suite_files
from tools.fuzz.reader import Reader

READERS: dict[str, Callable[[Path], Reader]] = {
    "xml": annotations.xml,
    "boxes": annotations.box_lists,
    "json": annotations.coco_records,
    "instances": annotations.coco_instances,
    "tables": annotations.click_tables,
    "lists": annotations.class_lists,
    "tfrecord": stored.records,
    "example": stored.examples,
    "manifest": stored.manifests,
    "tfds": stored.tfds_folders,
    "image": stored.images,
    "tar": archives.tars,
    "zip": archives.zips,
    "video": suite_files.videos,
    "parquet": suite_files.parquet_files,
    "people": suite_files.people,
    "factors": suite_files.factor_lines,
    "images": suite_files.image_tables,
}
