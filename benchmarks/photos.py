"""The photos that are measured on: class folders of JPEGs, an annotation for each, and a split prepared of them."""

from __future__ import annotations

import contextlib
import io
import os
import random
from pathlib import Path

import numpy as np

from data_prep.commands import Job, prepare_folders
from data_prep.datasets.listing import Inputs
from data_prep.downscale import Smaller
from data_prep.sources.tree import Folder
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import PreparedSplit, index_path, open_split
from luab_jax.data.tfrecord import RandomAccessTFRecords

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("LUAB_JAX_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
PHOTOS = DATA / "imagenet_fullres"
TRACE_SAMPLES = 60


def list_photos(folder: Path) -> list[Path]:
    photos = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in (".jpeg", ".jpg"))
    if not photos:
        raise SystemExit(f"{folder}: no <class>/<name>.JPEG; give a folder of photos or set LUAB_JAX_TEST_DATA")
    return photos


def classes_of(photos: list[Path]) -> ClassList:
    ids = tuple(sorted({photo.parent.name for photo in photos}))
    return ClassList(ids, ids)


def annotation(image_id: str) -> str:
    """One showing with a click and a trace, as long as those of the release are."""
    rng = random.Random(image_id)

    def row(tag: str, time: int) -> str:
        return f"<{tag}><time>{time}</time><x>{rng.random():.6f}</x><y>{rng.random():.6f}</y></{tag}>"

    trace = "".join(row("mouseTracking", 1641244077060 + 20 * k) for k in range(TRACE_SAMPLES))
    return (
        f"<annotation><filename>{image_id}</filename><metadata><imageID>{image_id}</imageID><selected>True</selected>"
        f"<estimateTime>900</estimateTime>{row('selectedRecord', 1641244079000)}{trace}</metadata></annotation>"
    )


def write_annotations(photos: list[Path], folder: Path) -> None:
    for photo in photos:
        path = folder / photo.parent.name / f"{photo.stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(annotation(f"{photo.parent.name}/{photo.stem}"))


def prepare(
    folder: Path,
    annotations: Path | None,
    out: Path,
    smaller: Smaller | None = None,
    *,
    decode: bool = True,
    workers: int = 1,
) -> PreparedSplit:
    """The photos of `folder` as a split, prepared by this package; decoded to see that they are whole, or not."""
    with contextlib.redirect_stdout(io.StringIO()):
        classes = classes_of(list_photos(folder))
        job = Job(
            out=out,
            split="train",
            dataset="photos",
            classes=classes,
            num_shards=workers,
            workers=workers,
            smaller=smaller,
            decode=decode,
        )
        prepare_folders(Inputs(images=Folder(folder), byproducts=Folder(annotations) if annotations else None), job)
    return open_split(out, "train")


def as_large_split(split: PreparedSplit, seed: int, copies: int = 125) -> PreparedSplit:
    """A split whose index names every record many times, so that a shuffled epoch meets the photos in turns.

    The rounds of all contestants then consist of the same photos; and it is long enough for Grain's shuffle, which
    takes 0.3 ms an index where there are only a hundred, 0.005 ms from ten thousand on.
    """
    import grain  # and jax with it, which no worker of a preparation has to import again

    from luab_jax.data.pipeline import derived_seed

    with np.load(index_path(split.directory, "train")) as index:
        offsets, lengths = index["offsets"], index["lengths"]
    total = copies * len(offsets)
    shuffled = grain.MapDataset.range(total).shuffle(seed=derived_seed(seed, "shuffle"))
    photo_of = np.empty(total, np.int64)
    photo_of[np.asarray([shuffled[i] for i in range(total)], np.int64)] = np.arange(total) % len(offsets)
    paths = [split.directory / shard.file_name for shard in split.manifest.shards]
    records = RandomAccessTFRecords(paths, offsets[photo_of], lengths[photo_of], np.array([total]))
    return PreparedSplit(split.directory, split.manifest, records)
