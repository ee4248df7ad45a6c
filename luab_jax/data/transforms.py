"""From encoded bytes to uint8 pixels, and the affine by which byproducts follow them.

Training cuts and then resizes the cut, as torchvision's `RandomResizedCrop` does, so that no pixel from outside the
crop is needed: only the crop is decoded. Evaluation resizes the whole image and then cuts, in two steps, because that
is what torchvision and timm do, and the integer rounding between the steps is part of the protocol.
"""

# No `from __future__ import annotations`: ml_collections reads the types of the fields, not their names.

import io
import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from luab_jax.byproducts import geometry
from luab_jax.byproducts.geometry import Affine
from luab_jax.byproducts.records import Size
from luab_jax.data.region_jpeg import open_jpeg
from luab_jax.data.resampling import ResizeFilter, resize, resize_by_pillow
from luab_jax.errors import DataError

_NUM_CROP_TRIES = 10
_MAX_RESIZED_SIDES = 64
"""How many times as long as the input's side an evaluation image may be resized as a whole: 11 MB at 224 and 256."""


@dataclass(slots=True, kw_only=True)
class Preprocessing:
    """How an evaluation image becomes the model's input; travels with the checkpoint."""

    image_size: int = 224
    """Side of the square input, pixels."""
    resize_side: int | None = 256
    """The short side before the centre crop, pixels; None feeds stored images of `image_size` as they are."""
    filter: ResizeFilter = ResizeFilter.BICUBIC
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of the channels, on [0, 1]; ImageNet's, as torchvision states them."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class PixelBox(NamedTuple):
    """A part of the image, in pixels."""

    left: int
    top: int
    width: int
    height: int


def decode(image: bytes, file_name: str) -> Image.Image:
    """Decodes to RGB (greyscale, CMYK and palette converted), EXIF orientation not applied."""
    try:
        return Image.open(io.BytesIO(image)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise DataError(
            f"{file_name}: the image cannot be decoded ({e}); `python -m data_prep verify` lists such"
        ) from e


class EncodedImage:
    """An image of which no more is decoded than is asked for; raises `DataError` where it cannot be."""

    __slots__ = ("_decoded", "_encoded", "_file_name", "_jpeg", "size")

    def __init__(self, encoded: bytes, file_name: str):
        self._encoded = encoded
        self._file_name = file_name
        self._jpeg = open_jpeg(encoded)
        self._decoded: Image.Image | None = None
        self.size = self._jpeg.size if self._jpeg else Size(*self._whole().size)

    def _whole(self) -> Image.Image:
        if self._decoded is None:
            self._decoded = decode(self._encoded, self._file_name)
        return self._decoded

    def region(
        self, box: PixelBox, *, smooth_chroma: bool = True, transient: bool = False
    ) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of a part; the same by either decoder unless `smooth_chroma=False`, which only one knows.

        `transient` pixels last until this thread decodes its next such part: no memory is taken for them.
        """
        pixels = None
        if self._jpeg:
            pixels = self._jpeg.region(*box, smooth_chroma=smooth_chroma, transient=transient)
        if pixels is None:  # what one library refuses as broken, Pillow may take, or name the fault
            whole = self._whole()
            return np.asarray(whole.crop((box.left, box.top, box.left + box.width, box.top + box.height)))
        return pixels


def sample_crop(
    rng: np.random.Generator,
    size: Size,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> PixelBox:
    """The inception crop (Szegedy et al. 2015, §6), by torchvision's `RandomResizedCrop.get_params`.

    Area uniform in `scale` of the image, aspect ratio log-uniform in `ratio`; after ten misses the largest centre crop
    of an allowed ratio.
    """
    area = size.width * size.height
    for _ in range(_NUM_CROP_TRIES):
        target_area = area * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width = round(math.sqrt(target_area * aspect))
        height = round(math.sqrt(target_area / aspect))
        if 0 < width <= size.width and 0 < height <= size.height:
            left = int(rng.integers(0, size.width - width + 1))
            top = int(rng.integers(0, size.height - height + 1))
            return PixelBox(left, top, width, height)
    aspect = min(max(size.width / size.height, ratio[0]), ratio[1])
    width = max(1, min(size.width, round(size.height * aspect)))
    height = max(1, min(size.height, round(size.width / aspect)))
    return PixelBox((size.width - width) // 2, (size.height - height) // 2, width, height)


def crop_and_resize(
    image: Image.Image | EncodedImage, box: PixelBox, side: int, filter: ResizeFilter, *, flip: bool
) -> tuple[UInt8[np.ndarray, "h w 3"], Affine]:
    """Cuts `box`, resizes it to a square of `side` pixels, mirrors it if told; with the same map for points."""
    width, height = image.size
    right, bottom = box.left + box.width, box.top + box.height
    if isinstance(image, EncodedImage):
        cut = image.region(box, smooth_chroma=filter is not ResizeFilter.BILINEAR_PLAIN, transient=True)
    else:
        cut = np.asarray(image.crop((box.left, box.top, right, bottom)))
    pixels = resize(cut, Size(side, side), filter)
    view = geometry.crop(box.left / width, box.top / height, right / width, bottom / height)
    if flip:
        return np.asarray(cv2.flip(pixels, 1)), view.then(geometry.flip_horizontal())
    return pixels, view


def resize_and_centre_crop(
    image: Image.Image, preprocessing: Preprocessing
) -> tuple[UInt8[np.ndarray, "h w 3"], Affine]:
    """Short side to `resize_side`, then the centre square of `image_size`; rounding as in torchvision.

    With `resize_side=None` the image must have the input's size already; raises `DataError` if not.
    """
    side = preprocessing.image_size
    if preprocessing.resize_side is None:
        if image.size != (side, side):
            raise DataError(f"the image has {image.size} pixels, but this set is fed as stored and must have {side}")
        return np.asarray(image), geometry.identity()
    short = preprocessing.resize_side
    width, height = image.size
    if width <= height:
        resized = Size(short, max(1, int(short * height / width)))
    else:
        resized = Size(max(1, int(short * width / height)), short)
    left, top = round((resized.width - side) / 2), round((resized.height - side) / 2)
    right, bottom = left + side, top + side
    view = geometry.crop(left / resized.width, top / resized.height, right / resized.width, bottom / resized.height)
    if max(resized) > _MAX_RESIZED_SIDES * side:
        image = _resize_middle(image, resized, PixelBox(left, top, side, side), preprocessing.filter)
        left, top = (0, top) if width > height else (left, 0)
        right, bottom = left + side, top + side
    elif image.size != resized:
        image = resize_by_pillow(image, resized, preprocessing.filter)
    return np.asarray(image.crop((left, top, right, bottom))), view


def _resize_middle(image: Image.Image, resized: Size, box: PixelBox, filter: ResizeFilter) -> Image.Image:
    """Of a very long image resized to `resized`, what lies in `box` along its longer side and all along the other.

    A picture of 60,000 x 1 pixels would take 11 GB as a whole. A pixel may differ by 1 from what it would be there,
    since Pillow places parts in 32-bit floats.
    """
    axis = 0 if image.width > image.height else 1
    scale = image.size[axis] / resized[axis]
    first, last = scale * box[axis], scale * (box[axis] + box[2 + axis])
    reach = math.ceil(3 * max(scale, 1))  # bicubic's support is 2
    start, end = max(0, math.floor(first) - reach), min(image.size[axis], math.ceil(last) + reach)
    if axis == 0:
        part, size = image.crop((start, 0, end, image.height)), Size(box.width, resized.height)
        return resize_by_pillow(part, size, filter, (first - start, 0.0, last - start, float(part.height)))
    part, size = image.crop((0, start, image.width, end)), Size(resized.width, box.height)
    return resize_by_pillow(part, size, filter, (0.0, first - start, float(part.width), last - start))


class Stored(NamedTuple):
    """What a suite's protocol says of its files, beyond what is done to every image."""

    side: int | None = None
    """Pixels. Squares of this side are the input as they are: neither resized nor cut."""
    border: int = 0
    """Pixels to cut from every side first."""


ANY_SIZE = Stored()
"""Images of a suite that says nothing of its files."""


def evaluation_input(
    image: Image.Image, preprocessing: Preprocessing, stored: Stored
) -> tuple[UInt8[np.ndarray, "h w 3"], Affine]:
    """A suite's image as the model's input; raises `DataError` for a size that the suite's protocol does not know.

    A model of another input than `stored.side` gets the whole square resized.
    """
    width, height = image.size
    if stored.side is not None:
        if image.size != (stored.side, stored.side):
            raise DataError(
                f"the image has {width}x{height} pixels, but this set is stored as squares of {stored.side};"
                " were the images resized before they were prepared?"
            )
        side = Size(preprocessing.image_size, preprocessing.image_size)
        image = image if image.size == side else resize_by_pillow(image, side, preprocessing.filter)
        return np.asarray(image), geometry.identity()
    if not stored.border:
        return resize_and_centre_crop(image, preprocessing)
    border = stored.border
    if min(width, height) <= 2 * border:
        raise DataError(f"the image has {width}x{height} pixels, of which a border of {border} leaves nothing")
    pixels, view = resize_and_centre_crop(image.crop((border, border, width - border, height - border)), preprocessing)
    inner = geometry.crop(border / width, border / height, 1 - border / width, 1 - border / height)
    return pixels, inner.then(view)
