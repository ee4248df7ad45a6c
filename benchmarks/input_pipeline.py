"""How fast the input pipeline is, beside others, in one run: `python -m benchmarks.input_pipeline`.

One core: everything is pinned to one, the contestants take turns, and the ratios are of CPU time. All cores: wall
time, with one thread or worker process for each. Of all rounds the least counts: what else runs on the machine only
adds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import photos as measured
from benchmarks import pipeline_facts as facts
from benchmarks.contestants import BATCH, SEED, Contestant, contestants
from benchmarks.machine import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    parser.add_argument("--images", type=int, default=192, help="in each round, for each contestant")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    photos = measured.list_photos(arguments.photos)
    cores = sorted(os.sched_getaffinity(0))
    print(machine(len(cores)))
    print(f"{len(photos)} photos, {arguments.rounds} rounds of {arguments.images} images, the least of each\n")
    with tempfile.TemporaryDirectory() as folder:
        annotations = Path(folder, "annotations")
        measured.write_annotations(photos, annotations)
        split = measured.prepare(arguments.photos, annotations, Path(folder, "prepared"))
        split = measured.as_large_split(split, SEED)
        runners = contestants(photos, split)
        os.sched_setaffinity(0, cores[-1:])
        one = {name: [] for name in runners}
        for _ in range(arguments.rounds):
            for name, runner in runners.items():
                one[name].append(measure_round(runner, 1, arguments.images))
        os.sched_setaffinity(0, cores)
        several = {name: runner for name, runner in runners.items() if "loop" not in name}
        everywhere = {name: [] for name in several}
        for _ in range(arguments.rounds):
            for name, runner in several.items():
                everywhere[name].append(measure_round(runner, len(cores), arguments.images))
        print_table(one, everywhere, len(cores))
        facts.print_facts(photos, split, Path(folder))


def measure_round(contestant: Contestant, threads: int, num_images: int) -> tuple[float, float]:
    """CPU and wall seconds for an image, after a first batch that pays for starting."""
    batches = contestant(threads)
    next(batches)
    cpu, wall = time.process_time(), time.perf_counter()
    counts = list(itertools.islice(batches, num_images // BATCH))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    finish(batches)
    return cpu / sum(counts), wall / sum(counts)


def finish(batches: Iterator[int]) -> None:
    """Ends the threads before the next contestant's turn."""
    if hasattr(batches, "close"):
        batches.close()  # type: ignore[attr-defined]
    time.sleep(0.1)


def print_table(
    one: dict[str, list[tuple[float, float]]], everywhere: dict[str, list[tuple[float, float]]], num_cores: int
) -> None:
    cpu = {name: min(c for c, _ in rounds) for name, rounds in one.items()}
    wall = {name: min(w for _, w in rounds) for name, rounds in everywhere.items()}
    peers = [name for name in one if name.startswith(("PIL", "torch DataLoader"))]
    heads = ["ms CPU/image", "images/s/core", *(f"x {peer.split()[0].strip(',')}" for peer in peers)]
    heads += [f"images/s, {num_cores} cores", *(f"x {peer.split()[0]}" for peer in peers[1:])]
    print(f"{'':<38}" + "".join(f" {head:>17}" for head in heads))
    for name in one:
        cells = [f"{1e3 * cpu[name]:.2f}", f"{1 / cpu[name]:.0f}", *(f"{cpu[peer] / cpu[name]:.2f}" for peer in peers)]
        if name in everywhere:
            cells += [f"{1 / wall[name]:.0f}", *(f"{wall[peer] / wall[name]:.2f}" for peer in peers[1:])]
        print(f"{name:<38}" + "".join(f" {cell:>17}" for cell in cells))
    print()


if __name__ == "__main__":
    main()
