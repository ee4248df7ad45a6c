"""Generated ImageNet-C: images per second of every kind at severity 3, 224 px.

    python -m benchmarks.gpu.corrupting --photos=DIR --out=DIR

frost needs the photographs of `imagecorruptions`, and is left out with its reason where they are not.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks import photos as measured
from benchmarks.gpu.jax_results import jax_results
from benchmarks.gpu.record import Results, parser
from luab_jax.corruptions.corrupt import CORRUPTIONS, corrupt, image_keys
from luab_jax.data.transforms import Preprocessing, resize_and_centre_crop

SEVERITY = 3
QUICK = ("brightness", "gaussian_noise")


def pixels_of(photos: Path, count: int, side: int) -> np.ndarray:
    """Photos as ImageNet-C takes them: short side 256, centre 224."""
    preprocessing = Preprocessing(image_size=side, resize_side=side * 8 // 7)
    paths = measured.list_photos(photos)
    images = []
    for path in paths[:count]:
        with Image.open(path) as photo:
            images.append(resize_and_centre_crop(photo.convert("RGB"), preprocessing)[0])
    return np.stack([images[i % len(images)] for i in range(count)])


def compiled(name: str, images: Any, keys: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    made = corrupt.lower(images, keys, name=name, severity=SEVERITY).compile()  # pyright: ignore[reportAttributeAccessIssue]
    return made, time.perf_counter() - start


def rate(program: Any, images: Any, keys: Any, seconds: float) -> float:
    """Images per second."""
    jax.block_until_ready(program(images, keys))
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        jax.block_until_ready(program(images, keys))
        calls += 1
    return calls * len(images) / (time.perf_counter() - start)


def measure(photos: Path, results: Results, *, rehearse: bool) -> None:
    names = QUICK if rehearse else tuple(CORRUPTIONS)
    batch = 4 if rehearse else 128
    images = jax.device_put(pixels_of(photos, batch, 56 if rehearse else 224))
    keys = {name: image_keys([str(i) for i in range(batch)], name, SEVERITY) for name in names}
    with ThreadPoolExecutor(1 if rehearse else 8) as pool:
        futures = {pool.submit(compiled, name, images, keys[name]): name for name in names}
        programs = {}
        for future in as_completed(futures):
            name = futures[future]
            try:
                programs[name] = future.result()
            except Exception as e:  # the other kinds go on
                results.failed(name, e)
    for name in names:
        if name in programs:
            program, compile_s = programs[name]
            images_per_s = rate(program, images, keys[name], 0.05 if rehearse else 0.5)
            results.add(name, kind=name, severity=SEVERITY, batch=batch, images_per_s=images_per_s, compile_s=compile_s)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    arguments = options.parse_args()
    measure(arguments.photos, jax_results(arguments.out, "corruptions"), rehearse=arguments.rehearse)


if __name__ == "__main__":
    main()
