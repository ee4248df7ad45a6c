"""What `--max_side` and `--quality` save, on disk and in decoding: `python -m benchmarks.stored_size`.

The same photos prepared as they came and smaller, read by the training pipeline on one core, in turns.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmarks import photos as measured
from benchmarks.contestants import SEED, ours
from benchmarks.input_pipeline import measure_round
from benchmarks.machine import machine
from data_prep.downscale import Smaller
from luab_jax.data.resampling import ResizeFilter

SETTINGS = (None, Smaller(512, 90), Smaller(400, 90), Smaller(512, 75))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    parser.add_argument("--images", type=int, default=192, help="in each round, for each setting")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    print(machine(1))
    photos = measured.list_photos(arguments.photos)
    print(f"{len(photos)} photos, {arguments.rounds} rounds of {arguments.images} images, the least of each\n")
    with tempfile.TemporaryDirectory() as folder:
        annotations = Path(folder, "annotations")
        measured.write_annotations(photos, annotations)
        sizes, times, runners, counts = {}, {}, {}, {}
        for number, setting in enumerate(SETTINGS):
            start = time.process_time()
            split = measured.prepare(arguments.photos, annotations, Path(folder, str(number)), setting)
            times[setting] = time.process_time() - start
            counts[setting] = split.manifest.counts.get("images_made_smaller", 0)
            sizes[setting] = sum(shard.num_bytes for shard in split.manifest.shards)
            runners[setting] = ours(measured.as_large_split(split, SEED), ResizeFilter.BICUBIC)
        rounds = {setting: [] for setting in SETTINGS}
        for setting in SETTINGS * arguments.rounds:
            rounds[setting].append(measure_round(runners[setting], 1, arguments.images)[0])
    heads = ("made smaller", "MB", "x smaller", "ms CPU to prepare", "ms CPU to read", "x faster")
    print(f"{'':<44}" + "".join(f" {head:>17}" for head in heads))
    whole = min(rounds[None])
    for setting in SETTINGS:
        least, size = min(rounds[setting]), sizes[setting]
        cells = (
            *(
                f"{counts[setting]}",
                f"{size / 1e6:.1f}",
                f"{sizes[None] / size:.2f}",
                f"{1e3 * times[setting] / len(photos):.2f}",
            ),
            *(f"{1e3 * least:.2f}", f"{whole / least:.2f}"),
        )
        print(f"{'as they came' if setting is None else setting!s:<44}" + "".join(f" {cell:>17}" for cell in cells))


if __name__ == "__main__":
    main()
