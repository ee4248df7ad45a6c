"""Memory and time of listing COCO and COCO-AB: `python -m benchmarks.coco_scale`.

The elements of both JSON files are those of `coco_ab_mini` below LUAB_JAX_TEST_DATA, repeated under other ids until
there are as many images as train2014 has, each record with its actions three times over: together the two are larger
than the published ones. What is measured is all that stands before the first shard: both files passed once, images,
objects and records matched.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.prepare_scale import Measured
from data_prep.datasets.coco_ab import image_root, list_images
from data_prep.sources.archive_tree import open_source
from luab_jax.data.coco_classes import coco

TRAIN_IMAGES = 82_783
"""Of train2014."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=TRAIN_IMAGES)
    parser.add_argument("--folder", type=Path, help="scratch of 1 GB (default: among temporary files)")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.folder)
        return
    mini = Path(os.environ.get("LUAB_JAX_TEST_DATA", "../shared/data")) / "coco_ab_mini"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(make(Path(folder), mini, arguments.images), flush=True)
        # A process of its own: this one has held what it wrote.
        command = [sys.executable, "-m", "benchmarks.coco_scale", "--measure", f"--folder={folder}"]
        subprocess.run(command, check=True)


def make(folder: Path, mini: Path, num_images: int) -> str:
    """Writes images.tar, instances.json and records.json; returns their sizes in words."""
    instances = json.loads(next((mini / "annotations").glob("instances_train*.json")).read_text())
    records = json.loads((mini / "coco_ab.json").read_text())
    records = [record | {"actionHistories": 3 * record.get("actionHistories", [])} for record in records]
    recorded = [record["image_id"] for record in records]
    entries = [entry for entry in instances["images"] if entry["id"] in recorded]

    def of(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows of every image under its new id."""
        by_image = {entry["id"]: [row for row in rows if row["image_id"] == entry["id"]] for entry in entries}
        for k in range(num_images):
            yield from (row | {"image_id": k} for row in by_image[entries[k % len(entries)]["id"]])

    images = (entries[k % len(entries)] | {"id": k, "file_name": _name(k)} for k in range(num_images))
    with (folder / "instances.json").open("w") as file:
        for key, rows in (("images", images), ("annotations", of(instances["annotations"]))):
            file.write(f'{"{" if key == "images" else ", "}"{key}": ')
            _write_list(file, rows)
        file.write(f', "categories": {json.dumps(instances["categories"])}}}')
    with (folder / "records.json").open("w") as file:
        _write_list(file, of(records))
    with tarfile.open(folder / "images.tar", "w") as archive:
        for k in range(num_images):
            archive.addfile(tarfile.TarInfo(f"train2014/{_name(k)}"))
    sizes = [(folder / name).stat().st_size / 1e6 for name in ("instances.json", "records.json")]
    return f"{num_images:,} images, instances of {sizes[0]:,.0f} MB, records of {sizes[1]:,.0f} MB"


def _name(k: int) -> str:
    return f"COCO_train2014_{k:012d}.jpg"


def _write_list(file: Any, rows: Iterator[dict[str, Any]]) -> None:
    for number, row in enumerate(rows):
        file.write(f"{', ' if number else '['}{json.dumps(row)}")
    file.write("]")


def measure(folder: Path) -> None:
    measured = Measured(folder, workers=1)
    with measured.step("nothing yet (the libraries)"):
        pass
    with measured.step("list the tar of images"):
        images = image_root(open_source(str(folder / "images.tar"), "--images", scratch=folder))
    with measured.step("pass both JSON files, match"):
        listing = list_images(images, folder / "instances.json", folder / "records.json", coco(), min_match=1.0)
    print(f"{len(listing.items):,} images with {listing.counts['byproduct_records']:,} records\n")
    print(f"{'':<30}{'s':>8}{'peak MB':>10}")
    for name, seconds, peak, _ in measured.rows:
        print(f"{name:<30}{seconds:>8.1f}{peak / 1e6:>10,.0f}")


if __name__ == "__main__":
    main()
