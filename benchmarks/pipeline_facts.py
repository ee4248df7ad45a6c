"""What a table of speeds does not say of the input pipeline: pixels, opening, shuffling, memory."""

from __future__ import annotations

import math
import time
from pathlib import Path

import grain
import numpy as np
import psutil
from etils import epath
from PIL import Image

from benchmarks.contestants import SIDE, ours
from luab_jax.byproducts.records import Size
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import Manifest, PreparedSplit, Shard, index_path, manifest_path, open_split, write_index
from luab_jax.data.decoding import decode
from luab_jax.data.pipeline import derived_seed
from luab_jax.data.resampling import ResizeFilter, resize_by_pillow
from luab_jax.data.transforms import EncodedImage, crop_and_resize, sample_crop

NUM_SHARDS, NUM_RECORDS = 1024, 1_281_167


def print_facts(photos: list[Path], split: PreparedSplit, folder: Path) -> None:
    print_pixels(photos)
    print_opening(folder)
    print_shuffle()
    print_memory(split)


def print_pixels(photos: list[Path], crops: int = 4) -> None:
    """Against Pillow: the whole decoded, cut, resized; in its order before Pillow 13, and in one call of `resize`."""
    for filter in (ResizeFilter.BICUBIC, ResizeFilter.BILINEAR):
        rng, size = np.random.default_rng(0), Size(SIDE, SIDE)
        differences: dict[str, list[np.ndarray]] = {"rows first, as Pillow up to 12": [], "one call of this Pillow": []}
        for photo in photos:
            encoded = photo.read_bytes()
            image, whole = EncodedImage(encoded, photo.name), decode(encoded, photo.name)
            for _ in range(crops):
                box = sample_crop(rng, image.size, (0.08, 1.0))
                seen = crop_and_resize(image, box, SIDE, filter, flip=False)[0].astype(np.int16)
                cut = whole.crop((box.left, box.top, box.left + box.width, box.top + box.height))
                in_one = cut.resize(size, Image.Resampling[filter.name])
                for name, wanted in zip(differences, (resize_by_pillow(cut, size, filter), in_one), strict=True):
                    differences[name].append(np.abs(seen - np.asarray(wanted)))
        for name, of_crops in differences.items():
            print(
                f"pixels, {filter.value}, against PIL crop + resize ({name}), {len(of_crops)} crops: largest difference"
                f" {max(int(d.max()) for d in of_crops)}, mean {np.mean([d.mean() for d in of_crops]):.4f} of 255"
            )


def print_opening(folder: Path) -> None:
    """Manifest and index of a full-size split, of no records."""
    counts = np.diff(np.linspace(0, NUM_RECORDS, NUM_SHARDS + 1).astype(int))
    shards = tuple(
        Shard(file_name=f"s-train.tfrecord-{i:05d}-of-{NUM_SHARDS:05d}", num_records=int(n), num_bytes=0, crc32c=0)
        for i, n in enumerate(counts)
    )
    directory = epath.Path(folder) / "full_size"
    directory.mkdir()
    ids = tuple(f"n{i:08d}" for i in range(1000))
    manifest = Manifest(dataset="s", split="train", classes=ClassList(ids, ids), shards=shards)
    manifest_path(directory, "train").write_text(manifest.to_json())
    write_index(
        index_path(directory, "train"), [np.arange(NUM_RECORDS, dtype=np.uint64)], [np.ones(NUM_RECORDS, np.uint32)]
    )
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        open_split(directory, "train")
        seconds.append(time.perf_counter() - start)
    print(f"opening {NUM_SHARDS:,} shards of {NUM_RECORDS:,} records (manifest, index): {1e3 * min(seconds):.0f} ms")


def print_shuffle(num_records: int = 100_000) -> None:
    """A uniform permutation moves a record by a third of the length, and has (2n - 1) / 3 runs up or down."""
    shuffled = grain.MapDataset.range(num_records).shuffle(seed=derived_seed(0, "shuffle"))
    order = np.asarray([shuffled[i] for i in range(num_records)])
    moved = np.abs(order - np.arange(num_records)).mean() / num_records
    signs = np.sign(np.diff(order))
    runs = 1 + np.count_nonzero(signs[1:] != signs[:-1])
    z = (runs - (2 * num_records - 1) / 3) / math.sqrt((16 * num_records - 29) / 90)
    shard = order // math.ceil(num_records / NUM_SHARDS)
    same = np.mean(shard[1:] == shard[:-1])
    print(
        f"shuffle of {num_records:,}: mean displacement {moved:.4f} of the length (uniform: 0.3333), runs test"
        f" z = {z:+.2f}, neighbours of one shard {same:.5f} (uniform: {1 / NUM_SHARDS:.5f})"
    )


def print_memory(split: PreparedSplit, few: int = 1, many: int = 17) -> None:
    """Resident memory with many threads against few, after each has met the largest photo."""
    process, resident = psutil.Process(), []
    for threads in (few, many):
        batches = ours(split, ResizeFilter.BICUBIC)(threads)
        peak = 0
        for _ in range(12):
            next(batches)
            peak = max(peak, process.memory_info().rss)
        resident.append(peak)
        batches.close()  # type: ignore[attr-defined]
    each = (resident[1] - resident[0]) / (many - few)
    print(f"memory of a decoding thread: {max(each, 0) / 2**20:.1f} MiB ({many} threads against {few}, resident)")
