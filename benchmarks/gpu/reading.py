"""The loader on 1, 4 and 16 cores: photos to training batches of 224 px, ours beside torch's DataLoader on PIL.

    python -m benchmarks.gpu.reading --photos=DIR --out=DIR [--peer]

The threads or worker processes of a row are pinned to as many cores, the process that collects their batches too.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import photos as measured
from benchmarks.contestants import BATCH, SEED, Contestant, ours, torch_loader
from benchmarks.gpu.record import Results, parser
from benchmarks.loader import cpu_s
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.transforms import ResizeFilter

CORES = (1, 4, 16)


def rate(contestant: Contestant, threads: int, seconds: float) -> tuple[float, float]:
    """Images per second for about so long, after two batches per thread that pay for starting; and CPU ms an image."""
    batches = contestant(threads)
    for _ in range(2 * threads):
        next(batches)
    start, cpu, count = time.perf_counter(), cpu_s(), 0
    while time.perf_counter() - start < seconds:
        count += next(batches)
    wall, cpu = time.perf_counter() - start, cpu_s() - cpu
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
        "ours, PIL's pixels, workers": ours(split, ResizeFilter.BICUBIC, workers=True),
        "ours, fast mode, workers": ours(split, ResizeFilter.BILINEAR_PLAIN, workers=True),
    }


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
                cpu_ms=cpu_ms,
                batch=BATCH,
            )
    os.sched_setaffinity(0, cores)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    options.add_argument("--peer", action="store_true", help="torch's DataLoader instead of ours")
    arguments = options.parse_args()
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
