"""ImageNet-C's corruptions: ours against published packages, on photos. `python -m benchmarks.corruptions`.

Three measures of every kind and severity, in levels of 255 where not said otherwise:

* same draws: the pixels, the reference's draws given to ours as well (deterministic kinds draw nothing).
* own draws, for the random kinds: differences between all photos corrupted by ours and by the reference, in mean, in
  standard deviation, in the histogram of values (share that would have to move) and in the logarithm of the radial
  power spectrum (root mean square, in decades); and the same between the reference and itself with another seed, which
  is one draw of the floor below which nothing can be told.
* images per second on this CPU: ours compiled, in a batch of 8, and the reference one by one.
"""

from __future__ import annotations

import argparse
import functools
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, UInt8

from benchmarks import corruption_references as references
from benchmarks.photos import PHOTOS, list_photos
from luab_jax.corruptions import parameters
from luab_jax.corruptions.corrupt import CORRUPTIONS, corrupt, image_keys

Images = UInt8[np.ndarray, "n h w 3"]

DETERMINISTIC = (
    *("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"),
    *("gaussian_blur", "saturate"),
)
OWN_GENERATOR = ("shot_noise", "impulse_noise")
"""Whose draws cannot be handed over: a Poisson generator, and scikit-image's own."""

BATCH = 8
GLASS_SIDE = 96
"""Of the crop on which glass_blur's same draws are compared; the reference takes more than a second for 224."""


class Distance(NamedTuple):
    mean: float
    std: float
    histogram: float
    spectrum: float


def distance(a: Images, b: Images) -> Distance:
    """Between two sets of images, blind to which image is which."""
    counts = [np.bincount(images.reshape(-1), minlength=256) / images.size for images in (a, b)]
    spectra = [np.log10(radial_spectrum(images)) for images in (a, b)]
    return Distance(
        abs(float(a.mean()) - float(b.mean())),
        abs(float(a.std()) - float(b.std())),
        float(np.abs(counts[0] - counts[1]).sum() / 2),
        float(np.sqrt(np.mean((spectra[0] - spectra[1]) ** 2))),
    )


def radial_spectrum(images: Images) -> Float[np.ndarray, " radius"]:
    """Mean power of the grey images at each distance from frequency zero, which is left out."""
    side = images.shape[1]
    power = np.mean([np.abs(np.fft.fft2(image.mean(-1))) ** 2 for image in images], axis=0)
    frequency = np.fft.fftfreq(side) * side
    radius = np.hypot(frequency[:, None], frequency).round().astype(int)
    sums = np.bincount(radius.reshape(-1), power.reshape(-1)) / np.bincount(radius.reshape(-1))
    return sums[1 : side // 2] + 1e-9


def of_reference(photos: Images, name: str, severity: int, seed: int) -> tuple[Images, float]:
    """Corrupted photos, and seconds per photo."""
    function = references.reference(name)
    np.random.seed(seed)
    start = time.perf_counter()
    images = [function(photo, severity) for photo in photos]
    return np.stack(images), (time.perf_counter() - start) / len(photos)


def of_ours(photos: Images, name: str, severity: int) -> tuple[Images, float]:
    """Corrupted photos, and seconds per photo of the quicker of two rounds after compiling."""
    keys = image_keys([str(i) for i in range(len(photos))], name, severity)
    run = functools.partial(corrupt, name=name, severity=severity)
    batches = [(photos[i : i + BATCH], keys[i : i + BATCH]) for i in range(0, len(photos), BATCH)]
    seconds = []
    images: list[np.ndarray] = []
    for _ in range(3):
        start = time.perf_counter()
        images = [np.asarray(run(*batch)) for batch in batches]
        seconds.append((time.perf_counter() - start) / len(photos))
    return np.concatenate(images), min(seconds[1:])


def same_draws(photos: Images, name: str, severity: int, theirs: Images, ours: Images) -> str:
    """Largest and mean difference, and the share of values that differ."""
    if name in OWN_GENERATOR:
        return f"{'-':>4} {'-':>7} {'-':>7}"
    differences = np.abs(theirs.astype(int) - ours)
    if name not in DETERMINISTIC:
        # Step by step without compiling, so of two photos only.
        pairs = []
        for seed, photo in enumerate(photos[:2]):
            image = photo[:GLASS_SIDE, :GLASS_SIDE] if name == "glass_blur" else photo
            expected, draws = references.with_draws(name, image, severity, seed)
            pairs.append(np.abs(expected.astype(int) - references.ours_with_same_draws(name, image, severity, draws)))
        differences = np.stack(pairs)
    if name == "snow":
        # The authors cut the enlarged flakes to the image before they blow, `imagecorruptions` after.
        reach = 2 * parameters.SNOW[severity - 1].motion.radius + 2
        differences = differences[:, reach:-reach, reach:-reach]
    return f"{differences.max():4} {differences.mean():7.4f} {(differences > 0).mean():7.2%}"


def row(photos: Images, name: str, severity: int) -> str:
    """One line of the table."""
    theirs, their_seconds = of_reference(photos, name, severity, seed=0)
    ours, our_seconds = of_ours(photos, name, severity)
    text = f"{name:18}{severity:2}  {same_draws(photos, name, severity, theirs, ours)}  "
    if name in DETERMINISTIC:
        text += " " * 52
    else:
        floor = distance(theirs, of_reference(photos, name, severity, seed=1)[0])
        between = distance(theirs, ours)
        pairs = zip(between, floor, ("5.2f", "5.2f", "5.3f", "5.3f"), strict=True)
        text += " ".join(f"{a:{form}} /{b:{form}}" for a, b, form in pairs)
    return f"{text}  {1 / our_seconds:8.1f} {1 / their_seconds:8.1f} {their_seconds / our_seconds:7.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="ImageNet-C's corruptions against published packages")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of <class>/<name>.JPEG")
    parser.add_argument("--count", type=int, default=16, help="photos, evenly taken from the folder")
    parser.add_argument("--names", default=",".join(CORRUPTIONS), help="kinds, with commas between")
    arguments = parser.parse_args()
    if missing := references.missing():
        raise SystemExit(f"the references are not installed: pip install {' and '.join(missing)}")
    warnings.simplefilter("ignore")
    paths = list_photos(arguments.photos)
    photos = np.stack([references.centre_crop(path) for path in paths[:: max(1, len(paths) // arguments.count)]])
    photos = photos[: arguments.count]
    packages = ("imagecorruptions", "imagenet-c", "jax", "numpy", "opencv-python", "scikit-image", "scipy", "pillow")
    print(", ".join(f"{name} {version(name)}" for name in packages))
    print(f"{len(photos)} photos of {photos.shape[1]} x {photos.shape[2]}, {jax.devices()[0].device_kind}\n")
    print(f"{'':22}{'same draws':^22}  {'own draws: ours / the reference with another seed':^52}  images per second")
    columns = "".join(f"{title:^13}" for title in ("mean", "std", "histogram", "spectrum"))
    print(f"{'':22}{'max':>4} {'mean':>7} {'differ':>7}  {columns}  {'ours':>8} {'theirs':>8} {'ratio':>7}")
    for name in arguments.names.split(","):
        for severity in parameters.SEVERITIES:
            print(row(photos, name, severity), flush=True)


if __name__ == "__main__":
    main()
