"""nvJPEG on the same photos: whole images by torchvision, and by nvImageCodec whole and as random crops.

    python -m benchmarks.gpu.nvjpeg --photos=DIR --out=DIR

Decoding alone, without the resize: what the GPU could take off the cores of the host.
`config.data.decoder=nvjpeg` decodes whole images so, and crops them on the host.
"""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import photos as measured
from benchmarks.gpu.jax_results import installed
from benchmarks.gpu.record import Results, parser
from luab_jax.byproducts.records import Size
from luab_jax.data.transforms import sample_crop

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


def by_nvimgcodec(*, crops: bool, cpu: bool) -> Callable[[list[bytes]], int]:
    library: Any = importlib.import_module("nvidia.nvimgcodec")
    options = {"device_id": library.NVIMGCODEC_DEVICE_CPU_ONLY, "backends": [library.Backend(library.CPU_ONLY)]}
    decoder = library.Decoder(**(options if cpu else {}))
    parameters = library.DecodeParams(apply_exif_orientation=False, color_spec=library.ColorSpec.SRGB)
    rng = np.random.default_rng(0)

    def crop(stream: Any) -> Any:
        box = sample_crop(rng, Size(stream.width, stream.height), (0.08, 1.0))
        region = library.Region(box.top, box.left, box.top + box.height, box.left + box.width)
        return stream.get_sub_code_stream(region=region)

    def decode(photos: list[bytes]) -> int:
        streams = [library.CodeStream(photo) for photo in photos]
        images = decoder.decode([crop(stream) for stream in streams] if crops else streams, params=parameters)
        done = sum(image is not None for image in images)
        if done < len(photos):
            raise RuntimeError(f"{len(photos) - done} of {len(photos)} images could not be decoded")
        return done

    return decode


def measure(photos: Path, results: Results, *, rehearse: bool) -> None:
    encoded = [path.read_bytes() for path in measured.list_photos(photos)]
    makers: dict[str, Callable[[], Callable[[list[bytes]], int]]] = {
        "nvImageCodec, whole images": lambda: by_nvimgcodec(crops=False, cpu=rehearse),
        "nvImageCodec, random crops": lambda: by_nvimgcodec(crops=True, cpu=rehearse),
    }
    if importlib.util.find_spec("torchvision"):
        makers["torchvision, whole images"] = lambda: by_torchvision("cpu" if rehearse else "cuda")
    for name, make in makers.items():
        try:
            images_per_s = rate(make(), encoded, 0.2 if rehearse else 3.0, 8 if rehearse else BATCH)
        except Exception as e:  # one decoder that is not there must not cost the others
            results.failed(name, e)
            continue
        results.add(name, decoder=name, images_per_s=images_per_s)


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
