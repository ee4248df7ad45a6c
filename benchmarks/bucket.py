"""Training's images out of a bucket: `python -m benchmarks.bucket`.

The bucket is the tests' emulator, in this process, which answers after 0, 50 or 200 ms. Measured are images a second
and requests an image, without a cache, while the cache fills, and from a full one; and how well blocks of shards are
shuffled, beside an order of all records.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import photos as measured
from benchmarks.machine import machine
from luab_jax.byproducts.targets import Target
from luab_jax.data.block_shuffle import BlockShuffle
from luab_jax.data.copies import shards_of
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.pipeline import Augmentation, Reading, train_batches
from luab_jax.io.host_cache import HostCache
from tests.emulators import emulated

BATCH = 16
WARM_UP = 4
"""Batches; the threads are two or three ahead."""
LATENCIES_S = (0.0, 0.05, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    parser.add_argument("--images", type=int, default=96, help="in each measurement")
    arguments = parser.parse_args()
    photos = measured.list_photos(arguments.photos)
    print(machine(len(os.sched_getaffinity(0))))
    print(f"{len(photos)} photos, {arguments.images} images a row, batches of {BATCH}, crops of 224 px\n")
    with tempfile.TemporaryDirectory() as folder, emulated("gs") as (server, bucket):
        annotations, prepared = Path(folder, "annotations"), Path(folder, "prepared")
        measured.write_annotations(photos, annotations)
        on_disk = measured.prepare(arguments.photos, annotations, prepared)
        for path in prepared.iterdir():
            server.put(bucket, f"data/{path.name}", path.read_bytes())
        print(f"{'':44}{'ms/request':>12}{'images/s':>12}{'requests/image':>16}")
        row("disk", None, *measure(server, on_disk, arguments.images))
        for latency_s in LATENCIES_S:
            split = open_split(f"gs://{bucket}/data", "train")
            with server.behaviour.slow(latency_s):
                print_one(server, split, latency_s, arguments.images, Path(folder, f"cache{latency_s}"))
    print()
    print_shuffle()


def print_one(server: object, split: PreparedSplit, latency_s: float, images: int, folder: Path) -> None:
    row("no cache", latency_s, *measure(server, split, images))
    cache = HostCache(folder)
    kept = PreparedSplit(split.directory, split.manifest, split.records.with_copies(cache.add(shards_of(split))))
    start = time.monotonic()
    cache.start()
    row("cache, filling", latency_s, *measure(server, kept, images))
    cache.wait()
    filled_s = time.monotonic() - start
    row(f"cache, full (after {filled_s:.1f} s)", latency_s, *measure(server, kept, images))
    cache.close()


def row(name: str, latency_s: float | None, images_per_s: float, requests_per_image: float) -> None:
    latency = "" if latency_s is None else f"{1e3 * latency_s:.0f}"
    print(f"{name:44}{latency:>12}{images_per_s:>12,.0f}{requests_per_image:>16.2f}", flush=True)


def measure(server: object, split: PreparedSplit, images: int) -> tuple[float, float]:
    """Images a second, behind what the threads have made ahead, and requests an image."""
    behaviour = server.behaviour  # type: ignore[attr-defined]
    batches = train_batches(
        split,
        augmentation=Augmentation(image_size=224),
        target=Target.CLICK_LAST,
        seed=0,
        batch_size=BATCH,
        reading=Reading(prefetch_examples=BATCH),
    )
    for _ in itertools.islice(batches, WARM_UP):
        pass
    start, before = time.monotonic(), behaviour.num_requests()
    for _ in itertools.islice(batches, images // BATCH):
        pass
    seconds, requests = time.monotonic() - start, behaviour.num_requests() - before
    del batches
    _settle(behaviour.num_requests)
    return images / seconds, requests / images


def _settle(count: Callable[[], int]) -> None:
    """Until what the threads of a measurement had ahead is done."""
    gc.collect()
    before = -1
    while count() != before:
        before = count()
        time.sleep(1.0)


def print_shuffle(num_shards: int = 1024, num_records: int = 1_281_167, batch: int = 1024) -> None:
    """Of an epoch of ImageNet's size: how far records move, and how many shards and classes a batch is of."""
    counts = np.diff(np.linspace(0, num_records, num_shards + 1).astype(int))
    labels = np.random.default_rng(1).integers(0, 1000, num_records)  # shards are written in a shuffled order
    print(f"{num_records:,} records in {num_shards:,} shards, batches of {batch:,}")
    print(f"{'shuffled at a time':24}{'mean displacement':>20}{'shards a batch':>18}{'classes a batch':>18}")
    orders: list[tuple[str, Sequence[int] | np.ndarray]] = [
        ("all shards", np.random.default_rng(0).permutation(num_records))
    ]
    orders += [(f"{size} shards", BlockShuffle(counts, size, 0).order(0)) for size in (256, 64, 16, 4)]
    shard_of = np.repeat(np.arange(num_shards), counts)
    for name, order in orders:
        records = np.asarray(order)
        epochs = records[: num_records // batch * batch].reshape(-1, batch)
        shards = np.mean([len(np.unique(shard_of[rows])) for rows in epochs[::16]])
        classes = np.mean([len(np.unique(labels[rows])) for rows in epochs[::16]])
        moved = np.mean(np.abs(records - np.arange(num_records))) / num_records
        print(f"{name:24}{moved:>20.4f}{shards:>18.1f}{classes:>18.1f}")


if __name__ == "__main__":
    main()
