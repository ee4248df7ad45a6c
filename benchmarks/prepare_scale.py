"""Time and memory of preparation as the data grows: `python -m benchmarks.prepare_scale`.

Synthetic data in the form in which ImageNet-AB comes: class tars in one tar, and a compressed tar of XML for 86 % of
the images (1.1 of 1.28 million), 1.2 showings each with a click and a trace as long as those of the release. The
images are tiny, so that what is measured is what depends on their number. The table ends with the line fitted to the
sizes, read off at all of ImageNet.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from data_prep.commands import Job, open_inputs, plan_folders
from data_prep.datasets.class_folders import list_images
from data_prep.datasets.listing import Inputs
from data_prep.verify import verify
from data_prep.writing import publish, shards
from data_prep.writing.workers import run_tasks
from luab_jax.data.class_lists import imagenet
from luab_jax.data.dataset import open_split

FULL = 1_281_167
"""Images of ILSVRC2012's training set."""
WITH_XML, SECOND_SHOWING = 0.86, 0.2
NUM_CLASSES = 1000
MEAN_TRACE = 25
"""Samples of a showing."""
LOOKUP = "id -> byproduct of all images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, help="scratch of 1 GB for 100,000 images (default: among temporary files)"
    )
    parser.add_argument("--measure", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measured = Measured(arguments.folder, arguments.workers)
        with contextlib.redirect_stdout(sys.stderr):
            PARTS[arguments.measure](measured)
        print(json.dumps(measured.rows))
        return
    from benchmarks.machine import machine  # what it loads is not in the processes that are measured

    print(machine(arguments.workers))
    tables = []
    for num_images in arguments.images:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            sizes = make(Path(folder), num_images)
            tables.append([row for part in PARTS for row in in_own_process(part, folder, arguments.workers)])
            size = sum(path.stat().st_size for path in Path(folder, "out").iterdir())
        print(f"{num_images:,} images: {sizes}, {size / 1e6:,.0f} MB prepared", flush=True)
    print_table(arguments.images, tables)


def in_own_process(part: str, folder: str, workers: int) -> list[Row]:
    command = [sys.executable, "-m", "benchmarks.prepare_scale", f"--measure={part}"]
    command += [f"--folder={folder}", f"--workers={workers}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def make(folder: Path, num_images: int) -> str:
    """Writes images.tar and xml.tar.gz; returns their sizes in words."""
    ids, rng = imagenet().ids, random.Random(0)
    jpegs = [_jpeg(seed) for seed in range(100)]
    num_xml = 0
    with (
        tarfile.open(folder / "images.tar", "w") as images,
        tarfile.open(folder / "xml.tar.gz", "w:gz", compresslevel=1) as xml,
    ):
        for label, class_id in enumerate(ids):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as of_class:
                for k in range(label, num_images, NUM_CLASSES):
                    name = f"{class_id}_{k}"
                    _add(of_class, f"{name}.JPEG", jpegs[k % len(jpegs)])
                    if rng.random() < WITH_XML:
                        _add(xml, f"train_enriched/{class_id}/{name}.xml", _annotation(f"{class_id}/{name}", rng))
                        num_xml += 1
            _add(images, f"{class_id}.tar", buffer.getvalue())
    sizes = ((folder / name).stat().st_size / 1e6 for name in ("images.tar", "xml.tar.gz"))
    return f"tar of {next(sizes):,.0f} MB, {num_xml:,} XML in {next(sizes):,.0f} MB"


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def _annotation(image_id: str, rng: random.Random) -> bytes:
    showings = "".join(_showing(image_id, rng) for _ in range(1 + (rng.random() < SECOND_SHOWING)))
    return f"<annotation><filename>{image_id}</filename>{showings}</annotation>".encode()


def _showing(image_id: str, rng: random.Random) -> str:
    def row(tag: str, time_ms: int) -> str:
        return (
            f"\n    <{tag}>\n      <time>{time_ms}</time>\n      <x>{rng.random()}</x>\n      <y>{rng.random()}</y>"
            f"\n    </{tag}>"
        )

    start = 1641091073218
    trace = "".join(row("mouseTracking", start + 70 * k) for k in range(1 + int(rng.expovariate(1 / MEAN_TRACE))))
    return (
        f"\n  <metadata>\n    <estimateTime>{rng.randrange(200, 3000)}</estimateTime>"
        f"\n    <imageID>{image_id}</imageID>{trace}\n    <selected>True</selected>{row('selectedRecord', start + 900)}"
        f"\n    <worker_id>W{rng.randrange(400)}</worker_id>\n  </metadata>\n"
    )


class Peaks:
    """The largest resident memory of this process and of any child, since the last reset."""

    def __init__(self) -> None:
        self.children = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def reset(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # of VmHWM; see proc(5)
        self.children = 0

    @property
    def parent(self) -> int:
        return _high_water(os.getpid())

    def _watch(self) -> None:
        while True:
            time.sleep(0.05)
            for child in psutil.Process().children():
                with contextlib.suppress(OSError, StopIteration, psutil.Error):
                    if any("spawn_main" in part for part in child.cmdline()):  # not multiprocessing's own helper
                        self.children = max(self.children, _high_water(child.pid))


def _high_water(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


Row = tuple[str, float, int, int]
"""Step, seconds, bytes of the launching process, bytes of the largest worker."""


class Measured:
    """The steps of one process."""

    def __init__(self, folder: Path, workers: int):
        self.rows: list[Row] = []
        self.out, self._folder, self.workers, self._peaks = folder / "out", folder, workers, Peaks()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._peaks.reset()
        start = time.monotonic()
        yield
        self.rows.append((name, time.monotonic() - start, self._peaks.parent, self._peaks.children))

    def open(self, *, byproducts: bool = True) -> Inputs:
        images, xml = str(self._folder / "images.tar"), str(self._folder / "xml.tar.gz") if byproducts else None
        return open_inputs(images, xml, None, imagenet(), out=self.out, val_labels=None)

    def plan(self, inputs: Inputs) -> shards.Plan:
        classes = imagenet()
        job = Job(out=self.out, split="train", dataset="imagenet_ab", classes=classes, workers=self.workers)
        return plan_folders(list_images(inputs, classes, min_match=0.5), inputs, job)


def measure_preparation(measured: Measured) -> None:
    with measured.step("nothing yet (the libraries)"):
        pass
    with measured.step("list the tar of images"):
        measured.open(byproducts=False)
    with measured.step("that, and unpack the XML"):
        inputs = measured.open()
    with measured.step(LOOKUP):
        plan = measured.plan(inputs)
    with measured.step("write the shards"):
        measured.out.mkdir(exist_ok=True)
        run = functools.partial(run_tasks, shards.write_shard, workers=measured.workers, name_of=shards.name_of)
        shards.write_shards(plan, fingerprint=plan.fingerprint(), run=run)
    with measured.step("publish them"):
        publish.prepare(plan, workers=measured.workers, strict=True)
    inputs.discard()


def measure_second_run(measured: Measured) -> None:
    with measured.step("the same command again"):
        publish.prepare(measured.plan(measured.open()), workers=measured.workers, strict=True)


def measure_verify(measured: Measured) -> None:
    with measured.step("verify"):
        checked = verify(measured.out, workers=measured.workers)
    if checked.failures():
        raise SystemExit(checked.failures())


def measure_opening(measured: Measured) -> None:
    with measured.step("open for training, one record"):
        split = open_split(measured.out, "train")
        _ = split.records[len(split.records) // 2]


PARTS = {
    "preparation": measure_preparation,
    "second_run": measure_second_run,
    "verify": measure_verify,
    "opening": measure_opening,
}
"""Each in a process of its own, since one that has held much gives little back."""


def print_table(sizes: list[int], tables: list[list[Row]]) -> None:
    print(
        "\nseconds; peak MB of the launching process / of the largest worker (-: none). Last column: the line through"
    )
    print(
        f"the sizes by least squares, at {FULL:,} images in {shards.default_num_shards(FULL):,} shards: it is assumed"
    )
    print(
        "that every cost is a constant and a share for each image, as on one disk and one machine of the same cores\n"
    )
    print(f"{'':<30}" + "".join(f"{size:>22,}" for size in [*sizes, FULL]))
    for rows in zip(*tables, strict=True):
        cells = []
        for columns in [row[1:] for row in rows] + [[_line(sizes, [row[k] for row in rows]) for k in (1, 2, 3)]]:
            seconds, parent, worker = columns
            memory = f"{parent / 1e6:,.0f} / " + (f"{worker / 1e6:,.0f}" if worker else "-")
            cells.append(f"{seconds:>9,.1f} {memory:>12}")
        print(f"{rows[0][0]:<30}" + "".join(cells))
    lookup = {row[0]: row[2] for row in tables[-1]}
    grown = lookup[LOOKUP] - lookup["nothing yet (the libraries)"]
    print(f"\nmemory of all that is listed and planned, at {sizes[-1]:,}: {grown / sizes[-1]:.0f} bytes an image")


def _line(sizes: list[int], values: list[float]) -> float:
    if len(sizes) < 2 or not any(values):
        return values[-1]
    slope, constant = np.polyfit(sizes, values, 1)
    return float(constant + slope * FULL)


if __name__ == "__main__":
    main()
