"""The photographs of frost, which belong to their authors and so come from the user's folder or from a package."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from luab_jax.errors import DataError

NAMES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""The official code has a sixth and never draws it."""

PACKAGE = "imagecorruptions"
_REMEDY = f"pip install {PACKAGE}, or give a folder with {', '.join(NAMES)} (hendrycks/robustness, ImageNet-C/create_c)"


@dataclass(frozen=True, slots=True, eq=False)
class FrostPhotos:
    """Photos of several sizes in one array, each in the upper left corner of its page."""

    pixels: UInt8[np.ndarray, "n h w 3"]
    sizes: tuple[tuple[int, int], ...]
    """Height and width of each."""

    @property
    def digest(self) -> str:
        """Tells these photos from others."""
        return hashlib.blake2b(self.pixels.tobytes(), digest_size=6).hexdigest()

    def check_fit(self, height: int, width: int) -> None:
        """Raises `DataError` unless every photo is larger than such an image both ways."""
        for name, size in zip(NAMES, self.sizes, strict=False):
            if size[0] <= height or size[1] <= width:
                raise DataError(f"{name}: {size[0]} x {size[1]} pixels, no crop of {height} x {width} fits at random")


def stack_photos(photos: list[UInt8[np.ndarray, "_ _ 3"]]) -> FrostPhotos:
    """Photos of any sizes."""
    sizes = tuple((len(photo), len(photo[0])) for photo in photos)
    pixels = np.zeros((len(photos), *np.max(sizes, axis=0), 3), np.uint8)
    for page, photo in zip(pixels, photos, strict=True):
        page[: photo.shape[0], : photo.shape[1]] = photo
    return FrostPhotos(pixels, sizes)


@functools.cache
def read_photos(folder: Path) -> FrostPhotos:
    """The five photos of a folder; raises `DataError` naming the first that is missing."""
    return stack_photos([_read(folder / name) for name in NAMES])


def _read(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as photo:
            return np.asarray(photo.convert("RGB"))
    except Exception as e:  # damaged data makes Pillow's parsers raise nearly anything
        cause = getattr(e, "strerror", None) or e
        raise DataError(f"{path}: no photograph of frost to be read ({cause}); {_REMEDY}") from e


@functools.cache
def packaged_photos() -> FrostPhotos:
    """Those of the installed package, which is only looked for and not imported; raises `DataError` without it."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(f"frost needs photographs of frost, which do not come with this package: {_REMEDY}")
    return read_photos(Path(spec.origin).parent / "frost")
