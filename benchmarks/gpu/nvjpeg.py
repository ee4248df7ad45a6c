"""nvJPEG on the same photos: decoding alone, training batches by `config.data.decoder=nvjpeg`, and whose pixels differ.

    python -m benchmarks.gpu.nvjpeg --photos=DIR --out=DIR

Decoding alone leaves the pixels on the GPU. The loader decodes whole images there, and crops and resizes on the host.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import photos as measured
from benchmarks.contestants import ours
from benchmarks.gpu.jax_results import installed
from benchmarks.gpu.reading import prepared
from benchmarks.gpu.reading import rate as loader_rate
from benchmarks.gpu.record import Results, parser
from luab_jax.data import gpu_jpeg
from luab_jax.data.gpu_jpeg import GpuJpegs
from luab_jax.data.transforms import EncodedImage, PixelBox, ResizeFilter
from luab_jax.errors import UserError

BATCH = 128


def rate(decode: Callable[[list[bytes]], int], photos: list[bytes], seconds: float, batch: int) -> float:
    """Images per second."""
    turns = itertools.cycle(photos)
    decode(list(itertools.islice(turns, batch)))
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += decode(list(itertools.islice(turns, batch)))
    return count / (time.perf_counter() - start)


def by_torchvision(device: str) -> Callable[[list[bytes]], int]:
    import torch  # pyright: ignore[reportMissingImports]
    from torchvision.io import ImageReadMode, decode_jpeg  # pyright: ignore[reportMissingImports]

    def decode(photos: list[bytes]) -> int:
        encoded = [torch.frombuffer(bytearray(photo), dtype=torch.uint8) for photo in photos]
        images = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device)
        if device != "cpu":
            torch.cuda.synchronize()
        return len(images)

    return decode


def by_nvimgcodec(*, cpu: bool) -> Callable[[list[bytes]], int]:
    library: Any = importlib.import_module("nvidia.nvimgcodec")
    options = {"device_id": library.NVIMGCODEC_DEVICE_CPU_ONLY, "backends": [library.Backend(library.CPU_ONLY)]}
    decoder = library.Decoder(**(options if cpu else {}))
    parameters = library.DecodeParams(apply_exif_orientation=False, color_spec=library.ColorSpec.SRGB)

    def decode(photos: list[bytes]) -> int:
        images = decoder.decode([library.CodeStream(photo) for photo in photos], params=parameters)
        done = sum(image is not None for image in images)
        if done < len(photos):
            raise RuntimeError(f"{len(photos) - done} of {len(photos)} images could not be decoded")
        return done

    return decode


def add_loader(photos: Path, results: Results, *, rehearse: bool) -> None:
    """Batches of random crops by threads, as many as cores; the CPU decodes in a rehearsal."""
    cores = len(os.sched_getaffinity(0))
    gpu = None if rehearse else GpuJpegs((0,))
    with tempfile.TemporaryDirectory() as folder:
        contestant = ours(prepared(photos, Path(folder)), ResizeFilter.BICUBIC, gpu=gpu)
        images_per_s, cpu_ms = loader_rate(contestant, cores, 0.3 if rehearse else 4.0)
    name = f"training batches, {cores} threads"
    results.add(name, decoder=name, images_per_s=images_per_s, cpu_ms=cpu_ms)


def add_differences(encoded: list[bytes], results: Results, *, rehearse: bool) -> None:
    """Of whole images, from the pixels that the CPU decodes; in a rehearsal, which has no others, they are the same."""
    images = [EncodedImage(photo, "") for photo in encoded]
    expected = [image.region(PixelBox(0, 0, *image.size)) for image in images]
    found = expected if rehearse else GpuJpegs((0,)).whole([image.jpeg for image in images])
    pairs = zip(found, expected, strict=True)
    differences = [gpu_jpeg.measure(pixels, wanted) for pixels, wanted in pairs if pixels is not None]
    results.add(
        "difference from the CPU's pixels",
        asked=sum(gpu_jpeg.for_gpu(image.jpeg) for image in images),
        decoded=len(differences),
        tolerated=sum(difference.is_tolerated for difference in differences),
        mean_levels=float(np.mean([difference.mean for difference in differences])) if differences else None,
        largest_share=max((difference.share for difference in differences), default=None),
    )


def measure(photos: Path, results: Results, *, rehearse: bool) -> None:
    encoded = [path.read_bytes() for path in measured.list_photos(photos)]
    seconds, batch = (0.2, 8) if rehearse else (3.0, BATCH)

    def loaded(part: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            if not (rehearse or gpu_jpeg.load()):
                raise UserError("nvImageCodec cannot be loaded with its decoders for GPUs")
            part()

        return run

    def timed(name: str, make: Callable[[], Callable[[list[bytes]], int]]) -> Callable[[], None]:
        return lambda: results.add(name, decoder=name, images_per_s=rate(make(), encoded, seconds, batch))

    parts = {
        "training batches": loaded(lambda: add_loader(photos, results, rehearse=rehearse)),
        "difference from the CPU's pixels": loaded(lambda: add_differences(encoded, results, rehearse=rehearse)),
        "nvImageCodec": loaded(timed("nvImageCodec, whole images", lambda: by_nvimgcodec(cpu=rehearse))),
    }
    if importlib.util.find_spec("torchvision"):
        device = "cpu" if rehearse else "cuda"
        parts["torchvision"] = timed("torchvision, whole images", lambda: by_torchvision(device))
    for name, part in parts.items():
        try:
            part()
        except Exception as e:  # one decoder that is not there must not cost the others
            results.failed(name, e)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    arguments = options.parse_args()
    versions = installed(("nvidia-nvimgcodec-cu12", "nvidia-nvjpeg-cu12", "torch", "torchvision"))
    device = "the host" if arguments.rehearse else "the card of step 1"
    results = Results(arguments.out, "nvjpeg", device=device, versions=versions)
    measure(arguments.photos, results, rehearse=arguments.rehearse)


if __name__ == "__main__":
    main()
