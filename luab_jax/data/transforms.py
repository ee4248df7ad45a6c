"""From encoded bytes to uint8 pixels, and the affine by which byproducts follow them.

Training cuts and then resizes the cut, as torchvision's `RandomResizedCrop` does, so that no pixel from outside the
crop is needed: only the crop is decoded. Evaluation resizes the whole image and then cuts, in two steps, because that
is what torchvision and timm do, and the integer rounding between the steps is part of the protocol. What no pixel of
the cut is made of need not be decoded there either: the pixels are those of the whole.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from luab_jax.byproducts import geometry
from luab_jax.byproducts.geometry import Affine
from luab_jax.byproducts.records import Size
from luab_jax.data.decoding import decode
from luab_jax.data.region_jpeg import RegionJpeg, open_jpeg
from luab_jax.data.resampling import ResizeFilter, resize, resize_by_pillow
from luab_jax.errors import DataError

CROP_RATIO = (3 / 4, 4 / 3)
"""Of a training crop's width and height."""
_NUM_CROP_TRIES = 10
_MOST_OF_AN_IMAGE = 0.9
"""Share of an image from which on a part of it is not decoded faster than all."""
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
    """How images are resized."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of the channels, on [0, 1]; ImageNet's, as torchvision states them."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Of the channels, on [0, 1], likewise."""

    def validate(self) -> None:
        """Raises ValueError naming the field, its value and the remedy."""
        for name, low in (("mean", 0.0), ("std", 1e-6)):
            channels = getattr(self, name)
            if all(low <= channel <= 1 for channel in channels):
                continue
            remedy = "; divide levels of 0 to 255 by 255" if max(channels) > 1 and min(channels) >= 0 else ""
            sign = "positive " if low else ""
            raise ValueError(
                f"data.preprocessing.{name}={tuple(channels)} must be three {sign}numbers on [0, 1]: R, G, B{remedy}"
            )
        if self.image_size < 1:
            raise ValueError(f"data.preprocessing.image_size={self.image_size} must be a positive number")
        if self.resize_side is not None and self.resize_side < self.image_size:
            raise ValueError(
                f"data.preprocessing.resize_side={self.resize_side} is smaller than the crop of"
                f" image_size={self.image_size}; set it to the same or more"
            )


class SizeFault(DataError):  # noqa: N818 (it describes the image)
    """An image of a size that is not what is asked for; the caller names the file."""


class PixelBox(NamedTuple):
    """A part of the image, in pixels."""

    left: int
    top: int
    width: int
    height: int


def _edges(box: PixelBox) -> tuple[int, int, int, int]:
    """Left, top, right, bottom, as Pillow wants them."""
    return box.left, box.top, box.left + box.width, box.top + box.height


class EncodedImage:
    """An image of which no more is decoded than is asked for; raises `DataError` where it cannot be."""

    __slots__ = ("_decoded", "_encoded", "_file_name", "_jpeg", "size")

    def __init__(self, encoded: bytes, file_name: str):
        self._encoded = encoded
        self._file_name = file_name
        self._jpeg = open_jpeg(encoded)
        self._decoded: Image.Image | None = None
        self.size = self._jpeg.size if self._jpeg else Size(*self.whole().size)

    @property
    def jpeg(self) -> RegionJpeg | None:
        """Its header; None where Pillow has to decode it."""
        return self._jpeg

    def whole(self) -> Image.Image:
        """All of it, by Pillow."""
        if self._decoded is None:
            self._decoded = decode(self._encoded, self._file_name)
        return self._decoded

    def part(self, box: PixelBox, shown: PixelBox) -> Image.Image:
        """`box` of the image; of it what lies in `shown` has its pixels, the rest may be black."""
        if self._jpeg is None or shown.width * shown.height > _MOST_OF_AN_IMAGE * self.size.width * self.size.height:
            return self.whole().crop(_edges(box))
        pixels = Image.fromarray(self.region(shown, transient=True))
        part = Image.new("RGB", (box.width, box.height))
        part.paste(pixels, (shown.left - box.left, shown.top - box.top))
        return part

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
            return np.asarray(self.whole().crop(_edges(box)))
        return pixels


def sample_crop(
    rng: np.random.Generator,
    size: Size,
    scale: tuple[float, float],
    ratio: tuple[float, float] = CROP_RATIO,
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
    pixels = np.empty((side, side, 3), np.uint8)
    crop_and_resize_into(pixels, image, box, filter, flip=flip)
    width, height = image.size
    right, bottom = box.left + box.width, box.top + box.height
    view = geometry.crop(box.left / width, box.top / height, right / width, bottom / height)
    return pixels, view.then(geometry.flip_horizontal()) if flip else view


def crop_and_resize_into(
    row: UInt8[np.ndarray, "s s 3"],
    image: Image.Image | EncodedImage,
    box: PixelBox,
    filter: ResizeFilter,
    *,
    flip: bool,
    whole: UInt8[np.ndarray, "h w 3"] | None = None,
) -> None:
    """The pixels of `crop_and_resize`, written to a row of a batch. `whole`: All of them, if another decoded them."""
    if whole is not None:
        cut = whole[box.top : box.top + box.height, box.left : box.left + box.width]
    elif isinstance(image, EncodedImage):
        cut = image.region(box, smooth_chroma=filter is not ResizeFilter.BILINEAR_PLAIN, transient=True)
    else:
        cut = np.asarray(image.crop(_edges(box)))
    pixels = resize(cut, Size(*row.shape[:2]), filter)
    if flip:
        cv2.flip(pixels, 1, dst=row)
    else:
        row[:] = pixels


def resize_and_centre_crop(
    image: Image.Image | EncodedImage, preprocessing: Preprocessing
) -> tuple[UInt8[np.ndarray, "h w 3"], Affine]:
    """Short side to `resize_side`, then the centre square of `image_size`; rounding as in torchvision.

    With `resize_side=None` the image must have the input's size already; raises `SizeFault` if not.
    """
    side = preprocessing.image_size
    if preprocessing.resize_side is None:
        if image.size != (side, side):
            width, height = image.size
            raise SizeFault(
                f"the image has {width}x{height} pixels, but this set is fed as stored and must have {side}x{side}"
            )
        return np.asarray(_whole(image)), geometry.identity()
    short = preprocessing.resize_side
    width, height = image.size
    if width <= height:
        resized = Size(short, max(1, int(short * height / width)))
    else:
        resized = Size(max(1, int(short * width / height)), short)
    left, top = round((resized.width - side) / 2), round((resized.height - side) / 2)
    right, bottom = left + side, top + side
    view = geometry.crop(left / resized.width, top / resized.height, right / resized.width, bottom / resized.height)
    box = PixelBox(left, top, side, side)
    if max(resized) > _MAX_RESIZED_SIDES * side:
        image = _resize_middle(_whole(image), resized, box, preprocessing.filter)
        left, top = (0, top) if width > height else (left, 0)
        right, bottom = left + side, top + side
    elif image.size != resized:
        return _resize_and_cut(image, resized, box, preprocessing.filter), view
    else:
        image = _whole(image)
    return np.asarray(image.crop((left, top, right, bottom))), view


def _whole(image: Image.Image | EncodedImage) -> Image.Image:
    return image.whole() if isinstance(image, EncodedImage) else image


def _made_of(box: PixelBox, size: Size, resized: Size) -> PixelBox:
    """What of an image of `size` the pixels in `box` of it resized are made of, by any filter, or some more."""
    ends = []
    for length, new, first, count in zip(size, resized, box[:2], box[2:], strict=True):
        reach = math.ceil(2 * max(length / new, 1)) + 1  # bicubic's support is 2
        start, end = math.floor(first * length / new) - reach, math.ceil((first + count) * length / new) + reach
        ends.append((max(0, start), min(length, end)))
    (left, right), (top, bottom) = ends
    return PixelBox(left, top, right - left, bottom - top)


def mask_input(mask: Bool[np.ndarray, "h w"], preprocessing: Preprocessing) -> Bool[np.ndarray, "side side"]:
    """A mask resized and cut as its image is; true where at least half of what a pixel is made of was."""
    white = Image.fromarray(np.repeat(mask[..., None], 3, axis=-1).astype(np.uint8) * 255)
    return resize_and_centre_crop(white, preprocessing)[0][..., 0] > 127


def _resize_and_cut(
    image: Image.Image | EncodedImage, resized: Size, box: PixelBox, filter: ResizeFilter
) -> UInt8[np.ndarray, "h w 3"]:
    """What lies in `box` of the image resized to `resized`: its very pixels, without all of the others.

    Rows are resized before columns and each by itself, so what no pixel of the box is made of need not be decoded. Nor
    is it resized, along a side of which Pillow can place a part exactly; see `_exact_part`.
    """
    if filter is ResizeFilter.BILINEAR_PLAIN:
        return np.asarray(resize_by_pillow(_whole(image), resized, filter).crop(_edges(box)))
    size = Size(*image.size)
    columns = _exact_part(size.width, resized.width, box.left, box.width)
    rows = _exact_part(size.height, resized.height, box.top, box.height)
    made_of = taken = _made_of(box, size, resized)
    if columns is None:
        taken = taken._replace(left=0, width=size.width)
    if rows is None:
        taken = taken._replace(top=0, height=size.height)
    part = image.part(taken, made_of) if isinstance(image, EncodedImage) else image.crop(_edges(taken))
    width, (left, right) = (resized.width, (0.0, float(size.width))) if columns is None else (box.width, columns)
    height, (top, bottom) = (resized.height, (0.0, float(size.height))) if rows is None else (box.height, rows)
    left, right, top, bottom = left - taken.left, right - taken.left, top - taken.top, bottom - taken.top
    narrow = resize_by_pillow(part, Size(width, part.height), filter, (left, 0.0, right, float(part.height)))
    if columns is None:
        narrow = narrow.crop((box.left, 0, box.left + box.width, narrow.height))
    whole_rows = resize_by_pillow(narrow, Size(box.width, height), filter, (0.0, top, float(box.width), bottom))
    if rows is None:
        whole_rows = whole_rows.crop((0, box.top, box.width, box.top + box.height))
    return np.asarray(whole_rows)


def _exact_part(length: int, resized: int, first: int, count: int) -> tuple[float, float] | None:
    """From where to where of a side of `length` the pixels `first` ... of `resized` reach; None where that is no part.

    Pillow takes the ends as 32-bit floats and places every pixel from them. Where the scale is a fraction over a power
    of two, as for a short side of 256, nothing of that is rounded, so that the places are those in the whole.
    """
    denominator = resized // math.gcd(length, resized)
    if denominator & (denominator - 1) or first < 0 or first + count > resized:
        return None
    start, end = first * length / resized, (first + count) * length / resized
    return (start, end) if all(float(np.float32(edge)) == edge for edge in (start, end)) else None


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
    image: Image.Image | EncodedImage, preprocessing: Preprocessing, stored: Stored
) -> tuple[UInt8[np.ndarray, "h w 3"], Affine]:
    """A suite's image as the model's input; raises `SizeFault` for a size that the suite's protocol does not know.

    A model of another input than `stored.side` gets the whole square resized.
    """
    if stored == ANY_SIZE:
        return resize_and_centre_crop(image, preprocessing)
    image = _whole(image)
    width, height = image.size
    if stored.side is not None:
        if image.size != (stored.side, stored.side):
            raise SizeFault(
                f"the image has {width}x{height} pixels, but this set is stored as squares of {stored.side};"
                " were the images resized before they were prepared?"
            )
        side = Size(preprocessing.image_size, preprocessing.image_size)
        image = image if image.size == side else resize_by_pillow(image, side, preprocessing.filter)
        return np.asarray(image), geometry.identity()
    border = stored.border
    if min(width, height) <= 2 * border:
        raise SizeFault(f"the image has {width}x{height} pixels, of which a border of {border} leaves nothing")
    pixels, view = resize_and_centre_crop(image.crop((border, border, width - border, height - border)), preprocessing)
    inner = geometry.crop(border / width, border / height, 1 - border / width, 1 - border / height)
    return pixels, inner.then(view)


def input_of_file(
    encoded: bytes, file_name: str, preprocessing: Preprocessing, stored: Stored = ANY_SIZE
) -> tuple[UInt8[np.ndarray, "h w 3"], Affine]:
    """`evaluation_input` of a file, of which no more is decoded than that needs; raises `DataError` naming it."""
    try:
        return evaluation_input(EncodedImage(encoded, file_name), preprocessing, stored)
    except SizeFault as e:
        raise DataError(f"{file_name}: {e}") from e
