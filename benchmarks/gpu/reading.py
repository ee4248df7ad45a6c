"""The loader on 1, 4 and 16 cores: photos to training batches of 224 px, ours beside torch's DataLoader on PIL.

    python -m benchmarks.gpu.reading --photos=DIR --out=DIR [--peer]

The threads of a row are pinned to as many cores. `processes` are copies of this loader that run at a time, each with
its share of the cores: what the interpreter lock costs one process.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import photos as measured
from benchmarks.contestants import BATCH, SEED, Contestant, ours, torch_loader
from benchmarks.gpu.record import Results, parser
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.transforms import ResizeFilter

CORES = (1, 4, 16)


def rate(contestant: Contestant, threads: int, seconds: float) -> tuple[float, float]:
    """Images per second for about so long, after two batches per thread that pay for starting; and CPU ms an image."""
    batches = contestant(threads)
    for _ in range(2 * threads):
        next(batches)
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        count += next(batches)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    if hasattr(batches, "close"):
        batches.close()  # type: ignore[attr-defined]
    return count / wall, 1e3 * cpu / count


def prepared(photos: Path, folder: Path) -> PreparedSplit:
    """The photos as a training split that repeats them."""
    annotations = folder / "annotations"
    measured.write_annotations(measured.list_photos(photos), annotations)
    return measured.as_large_split(measured.prepare(photos, annotations, folder / "prepared"), SEED)


def contestants(photos: Path, folder: Path, *, peer: bool) -> dict[str, Contestant]:
    if peer:
        return {"torch DataLoader on PIL, workers": torch_loader(measured.list_photos(photos))}
    split = prepared(photos, folder)
    return {
        "ours, PIL's pixels, threads": ours(split, ResizeFilter.BICUBIC),
        "ours, fast mode, threads": ours(split, ResizeFilter.BILINEAR_PLAIN),
    }


def in_processes(count: int, cores: list[int], folder: Path, seconds: float) -> float:
    """Images per second of several copies of this loader at a time, PIL's pixels, each on its share of the cores."""
    share = len(cores) // count
    command = [sys.executable, "-m", "benchmarks.gpu.reading", f"--split={folder / 'prepared'}", f"--seconds={seconds}"]
    running = [
        subprocess.Popen(
            [*command, f"--only_cores={','.join(map(str, cores[i * share : (i + 1) * share]))}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    return sum(float(process.communicate(timeout=120)[0].split()[-1]) for process in running)


def one_copy(split: Path, cores: list[int], seconds: float) -> None:
    """Prints the rate of one of several processes."""
    os.sched_setaffinity(0, cores)
    large = measured.as_large_split(open_split(split, "train"), SEED)
    print(rate(ours(large, ResizeFilter.BICUBIC), len(cores), seconds)[0])


def measure(arguments: Any, results: Results, cores: list[int], folder: Path) -> None:
    seconds = 0.3 if arguments.rehearse else 2.5
    runners = contestants(arguments.photos, folder, peer=arguments.peer)
    counts = [count for count in CORES if count <= len(cores)]
    for count in sorted({*counts, len(cores)}):
        os.sched_setaffinity(0, cores[:count])
        for name, runner in runners.items():
            images_per_s, cpu_ms = rate(runner, count, seconds)
            results.add(
                f"{name}, {count} cores",
                loader=name,
                cores=count,
                images_per_s=images_per_s,
                cpu_ms=None if arguments.peer and count > 1 else cpu_ms,  # workers' time is not this process's
                batch=BATCH,
            )
    os.sched_setaffinity(0, cores)
    if not arguments.peer and len(cores) > 1:
        count = 4 if len(cores) >= 8 else 2
        images_per_s = in_processes(count, cores, folder, 2 * seconds)
        name = f"ours, PIL's pixels, {count} processes"
        results.add(
            f"{name}, {len(cores)} cores", loader=name, cores=len(cores), images_per_s=images_per_s, batch=BATCH
        )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    options.add_argument("--peer", action="store_true", help="torch's DataLoader instead of ours")
    options.add_argument("--split", type=Path, help="of one of several processes")
    options.add_argument("--only_cores", help="likewise")
    options.add_argument("--seconds", type=float, help="likewise")
    arguments = options.parse_args()
    if arguments.split is not None:
        one_copy(arguments.split, [int(core) for core in arguments.only_cores.split(",")], arguments.seconds)
        return
    if arguments.peer and not (importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision")):
        print("loader: torch's is skipped, torch and torchvision are not installed")
        return
    from benchmarks.gpu.jax_results import installed

    cores = sorted(os.sched_getaffinity(0))
    versions = installed(("grain", "numpy", "nvidia-nvimgcodec-cu12", "opencv-python-headless", "pillow", "torch"))
    results = Results(arguments.out, "loader", device=f"{len(cores)} cores", versions=versions)
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, results, cores, Path(folder))


if __name__ == "__main__":
    main()
