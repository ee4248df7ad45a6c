"""Threads against worker processes, training and evaluation: `python -m benchmarks.loader`.

All in one run, in turns, the best of the rounds: images/s by 1 and 2 (`--cores`) threads or workers, on as many cores;
the same one element at a time by Grain's threads, as this package read before; Grain's `mp_prefetch`; memory of a
worker. Then what more cores would do: decoding and resizing are replaced by a sleep of `--sleep_ms`, which takes no
core and no lock, so that what is left of threads is the part that holds the interpreter lock, and of workers (which
sleep for all of their work) the part of the main process.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import grain
import numpy as np
import psutil

from benchmarks import photos as measured
from benchmarks.contestants import SEED, SIDE
from benchmarks.machine import machine
from benchmarks.stand_ins import SleepingRows
from luab_jax.byproducts.kinds import DEFAULT_SETTINGS
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target
from luab_jax.data import reading as reading_lib
from luab_jax.data import training_rows
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.decoding import decode
from luab_jax.data.evaluation_rows import EvaluationRows
from luab_jax.data.pipeline import Augmentation, Reading, eval_batches, train_batches
from luab_jax.data.random_elements import ElementGenerators
from luab_jax.data.rows import RowMaker, batches_of_rows
from luab_jax.data.slots import Layout
from luab_jax.data.training_rows import TrainingRows
from luab_jax.data.transforms import ANY_SIZE, Preprocessing, ResizeFilter, resize_and_centre_crop

BATCH = 64
Road = Callable[[int], Generator[int, None, None]]
"""From the number of threads or workers to the sizes of batches."""


def training(split: PreparedSplit, filter: ResizeFilter, *, workers: bool) -> Road:
    def run(count: int) -> Generator[int, None, None]:
        how = Reading(workers=count) if workers else Reading(num_threads=count)
        batches = train_batches(
            split,
            augmentation=Augmentation(image_size=SIDE, filter=filter),
            target=Target.CLICK_LAST,
            seed=SEED,
            batch_size=BATCH,
            reading=how,
        )
        with contextlib.closing(batches):
            yield from (len(batch.labels) for batch in batches)

    return run


def evaluation(split: PreparedSplit, *, workers: bool) -> Road:
    def run(count: int) -> Generator[int, None, None]:
        how = Reading(workers=count) if workers else Reading(num_threads=count)
        with mock.patch.object(reading_lib, "_ROWS_WORTH_STARTING", 0):
            batches = eval_batches(split, preprocessing=Preprocessing(), batch_size=BATCH, reading=how)
            with contextlib.closing(batches):
                yield from (len(batch.labels) for batch, _ in batches)

    return run


def one_by_one(maker: RowMaker) -> Road:
    """Every element an array of its own, handed over alone, stacked afterwards."""
    layout = Layout(maker.columns(), 1)

    def element(index: int) -> dict[str, np.ndarray]:
        rows = layout.views(np.zeros(layout.num_bytes, np.uint8))
        maker.fill(np.array([[index, index]]), rows, lambda: None)
        return {name: column[0] for name, column in rows.items()}

    def run(count: int) -> Generator[int, None, None]:
        elements = grain.MapDataset.range(96).repeat().map(element)
        options = grain.ReadOptions(num_threads=count, prefetch_buffer_size=512)
        rows: list[dict[str, np.ndarray]] = []
        for row in elements.to_iter_dataset(options):
            rows.append(row)
            if len(rows) == BATCH:
                yield len(np.stack([row["images"] for row in rows]))
                rows = []

    return run


def rate(road: Road, count: int, cores: Sequence[int], seconds: float) -> tuple[float, float]:
    """images/s, and CPU ms an image of all processes together, after a first batch."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        with contextlib.closing(road(count)) as batches:
            next(batches)
            cpu, start, images = cpu_s(), time.perf_counter(), 0
            for size in batches:
                images += size
                if time.perf_counter() - start > seconds:
                    break
            passed, used = time.perf_counter() - start, cpu_s() - cpu
        return images / passed, 1e3 * used / images
    finally:
        os.sched_setaffinity(0, everywhere)


def cpu_s() -> float:
    """Of this process and its children."""
    process = psutil.Process()
    times = [one.cpu_times() for one in (process, *process.children())]
    return sum(each.user + each.system for each in times)


def print_speeds(roads: dict[str, Road], cores: list[int], rounds: int, seconds: float) -> None:
    counts = sorted({1, len(cores)})
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _, (name, road), count in itertools.product(range(rounds), roads.items(), counts):
        found.setdefault((name, count), []).append(rate(road, count, cores[-count:], seconds))
    heads = "".join(f"{f'images/s, {n} core(s)':>22}{'CPU ms/image':>14}" for n in counts)
    print(f"{'':<52}{heads}{'x one core':>12}")
    for name in roads:
        best = [(max(r for r, _ in found[name, n]), min(c for _, c in found[name, n])) for n in counts]
        cells = "".join(f"{speed:>22.0f}{cpu:>14.2f}" for speed, cpu in best)
        print(f"{name:<52}{cells}{best[-1][0] / best[0][0]:>12.2f}", flush=True)


def pillow_alone(paths: list[Path]) -> float:
    """CPU ms an image: Pillow's decode, resize of the whole and crop, in a bare loop."""
    encoded = [path.read_bytes() for path in paths]
    start = time.process_time()
    for one in encoded:
        resize_and_centre_crop(decode(one, ""), Preprocessing())
    return 1e3 * (time.process_time() - start) / len(encoded)


def print_memory(split: PreparedSplit) -> None:
    """Of two workers after some batches; what they share with each other is not counted as theirs."""
    batches = train_batches(
        split,
        augmentation=Augmentation(image_size=SIDE),
        target=Target.CLICK_LAST,
        seed=SEED,
        batch_size=BATCH,
        reading=Reading(workers=2),
    )
    with contextlib.closing(batches):
        for _ in range(4):
            next(batches)
        workers = [p for p in psutil.Process().children() if "worker.main(" in " ".join(p.cmdline())]
        own = max(worker.memory_full_info().uss for worker in workers) / 2**20
        resident = max(worker.memory_info().rss for worker in workers) / 2**20
        print(f"\nmemory of a worker: {own:.0f} MiB of its own, {resident:.0f} MiB resident with what is shared")


class _Made(grain.transforms.Map):
    def map(self, element: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        return np.full((32, SIDE, SIDE, 3), element % 255, np.uint8)


def print_mp_prefetch(arrays: int = 100) -> None:
    """Grain's workers with next to nothing to do: what an array of 32 images costs on its way."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    made = grain.MapDataset.range(arrays).map(_Made())
    for workers in (0, 2):
        dataset: Any = made.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
        if workers:
            options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
            dataset = dataset.mp_prefetch(options)
        start = time.perf_counter()
        iterator = iter(dataset)
        next(iterator)
        first, start = time.perf_counter() - start, time.perf_counter()
        count = sum(1 for _ in iterator)
        each = 1e3 * (time.perf_counter() - start) / count
        print(f"Grain's mp_prefetch, {workers} workers: first array after {first:.1f} s, then {each:.2f} ms each")
        if hasattr(iterator, "close"):
            iterator.close()


def print_simulated(split: PreparedSplit, counts: Sequence[int], sleep_s: float, seconds: float) -> None:
    """images/s with decoding and resizing replaced by sleep."""
    maker = training_maker(split)
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)

    def slept(row: np.ndarray, *_: Any, **__: Any) -> None:
        time.sleep(sleep_s)
        row[:] = pixels

    def sleeping(count: int) -> Generator[int, None, None]:
        places = itertools.repeat(np.zeros((512, 2), np.int64))
        how = Reading(workers=count, prefetch_examples=64 * count)
        with contextlib.closing(batches_of_rows(SleepingRows(sleep_s), places, 512, how, "nothing")) as batches:
            yield from (len(rows["index"]) for rows, _ in batches)

    print(f"\n{'simulated, images/s with a sleep of':<52}" + "".join(f"{n:>10}" for n in counts))
    everywhere = sorted(os.sched_getaffinity(0))
    threads = partial(training, split, ResizeFilter.BICUBIC)
    with mock.patch.object(training_rows, "crop_and_resize_into", slept):
        before = [rate(one_by_one(maker), n, everywhere, seconds)[0] for n in counts]
        after = [rate(threads(workers=False), n, everywhere, seconds)[0] for n in counts]
    workers = [rate(sleeping, n, everywhere, seconds)[0] for n in counts]
    for name, speeds in (("one element at a time", before), ("threads", after), ("workers", workers)):
        print(f"{f'{1e3 * sleep_s:g} ms an image, {name}':<52}" + "".join(f"{speed:>10.0f}" for speed in speeds))
    cost = [1e3 / max(speeds) for speeds in (before, after, workers)]
    print(f"time of the one lock, ms an image: before {cost[0]:.3f}, threads {cost[1]:.3f}, workers {cost[2]:.3f}")


def training_maker(split: PreparedSplit, filter: ResizeFilter = ResizeFilter.BICUBIC) -> TrainingRows:
    return TrainingRows(
        records=split.records,
        augmentation=Augmentation(image_size=SIDE, filter=filter),
        target=Target.CLICK_LAST,
        seed=SEED,
        label_sets=None,
        settings=DEFAULT_SETTINGS,
        weighting=SampleWeight.NONE,
        generators=ElementGenerators(SEED),
    )


def evaluation_maker(split: PreparedSplit) -> EvaluationRows:
    return EvaluationRows(
        records=split.records,
        preprocessing=Preprocessing(),
        stored=ANY_SIZE,
        num_classes=None,
        target=Target.NONE,
        settings=DEFAULT_SETTINGS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--sleep_ms", type=float, default=1.5)
    parser.add_argument("--simulated", type=int, nargs="*", default=[1, 4, 16, 64], help="threads or workers")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    paths = measured.list_photos(arguments.photos)
    print(machine(len(cores)))
    print(f"{len(paths)} photos to {SIDE} px, best of {arguments.rounds} rounds of {arguments.seconds:g} s\n")
    with tempfile.TemporaryDirectory() as folder:
        annotations = Path(folder, "annotations")
        measured.write_annotations(paths, annotations)
        few = measured.prepare(arguments.photos, annotations, Path(folder, "prepared"))
        split = measured.as_large_split(few, SEED)
        roads: dict[str, Road] = {"training, one element at a time by Grain's threads": one_by_one(training_maker(few))}
        for filter, title in ((ResizeFilter.BICUBIC, "PIL's pixels"), (ResizeFilter.BILINEAR_PLAIN, "fast mode")):
            for workers in (False, True):
                kind = "workers" if workers else "threads"
                roads[f"training, {title}, {kind}"] = training(split, filter, workers=workers)
        roads["evaluation, one element at a time by Grain"] = one_by_one(evaluation_maker(few))
        roads |= {f"evaluation, {k}": evaluation(split, workers=w) for k, w in (("threads", False), ("workers", True))}
        print_speeds(roads, cores, arguments.rounds, arguments.seconds)
        alone = min(pillow_alone(paths) for _ in range(arguments.rounds))
        print(f"{'evaluation by Pillow alone, bare loop':<52}{1e3 / alone:>22.0f}{alone:>14.2f}")
        print_memory(split)
        print_mp_prefetch()
        if arguments.simulated:
            print_simulated(split, arguments.simulated, 1e-3 * arguments.sleep_ms, arguments.seconds)


if __name__ == "__main__":
    main()
