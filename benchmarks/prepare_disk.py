"""How near preparation comes to the disk: `python -m benchmarks.prepare_disk`.

By the clock and on all cores, against `cp` of the same photos, each followed by what brings its bytes to the disk: the
photos as a folder, copied file by file, and as one tar, copied whole. What is read is in the page cache for all of
them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import photos as measured
from benchmarks.machine import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    parser.add_argument("--copies", type=int, default=40, help="each photo is prepared so often, under other names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; a temporary one without it")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        images, annotations, archive = folder / "images", folder / "annotations", folder / "images.tar"
        num_bytes = _copy(arguments.photos, images, arguments.copies)
        measured.write_annotations(measured.list_photos(images), annotations)
        with tarfile.open(archive, "w") as tar:
            tar.add(images, arcname=".")

        def prepared(out: Path, *, decode: bool) -> None:
            measured.prepare(images, annotations, out, decode=decode, workers=cores)

        contestants: dict[str, Callable[[Path], None]] = {
            "cp of the tar": lambda out: _run("cp", str(archive), str(out)),
            "cp of the folder": lambda out: _run("cp", "--recursive", str(images), str(out)),
            "preparation": lambda out: prepared(out, decode=True),
            "preparation, --no_decode_check": lambda out: prepared(out, decode=False),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for name in list(contestants) * arguments.rounds:
            seconds[name].append(_seconds(contestants[name], folder / "out"))
        num_photos = len(measured.list_photos(images))
    print(machine(cores))
    print(_table(seconds, num_photos, num_bytes))


def _copy(source: Path, target: Path, copies: int) -> int:
    """The photos under other names, as files of their own; their bytes."""
    total = 0
    for photo in measured.list_photos(source):
        (target / photo.parent.name).mkdir(parents=True, exist_ok=True)
        for k in range(copies):
            shutil.copyfile(photo, target / photo.parent.name / f"{k}_{photo.name}")
        total += copies * photo.stat().st_size
    return total


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _seconds(work: Callable[[Path], None], out: Path) -> float:
    """Until all bytes are on the disk. Those of earlier turns are brought there first."""
    os.sync()
    start = time.perf_counter()
    work(out)
    os.sync()
    elapsed = time.perf_counter() - start
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    return elapsed


def _table(seconds: dict[str, list[float]], num_photos: int, num_bytes: int) -> str:
    """Of each contestant its fastest round."""
    rounds = len(next(iter(seconds.values())))
    lines = [
        f"\n{num_photos:,} photos, {num_bytes / 1e6:,.0f} MB; the least of {rounds} rounds in turns, by the clock\n",
        f"{'':<32} {'MB/s':>8} {'photos/s':>9} {'x cp of the tar':>16}",
    ]
    of_disk = min(seconds["cp of the tar"])
    for name, of_rounds in seconds.items():
        least = min(of_rounds)
        rates = f"{num_bytes / 1e6 / least:8,.0f} {num_photos / least:9,.0f} {of_disk / least:16.2f}"
        lines.append(f"{name:<32} {rates}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
