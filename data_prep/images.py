"""Image bytes checked, and points turned back from a rotated display.

What is a whole image, `luab_jax.data.decoding` says, for preparation as for training and evaluation: each image is
decoded once when it is prepared. With `--no_decode_check` only its header and its end are looked at: a JPEG holds an
end-of-image marker after its first start of scan (inside a scan every 0xFF is followed by 0x00 or a restart marker, so
the two bytes cannot occur by chance), a PNG its IEND chunk. Bytes changed inside a scan are then not noticed.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFile

from data_prep.problems import Reason
from data_prep.sources.tree import Reader, Span
from luab_jax.byproducts.records import Point, Showing, Size, TimedPoint
from luab_jax.data import decoding
from luab_jax.data.decoding import MAX_PIXELS as MAX_PIXELS
from luab_jax.data.decoding import Fault, ImageFault
from luab_jax.errors import DataError

MAX_IMAGE_BYTES = 256 << 20
"""A photo of `MAX_PIXELS` that no encoder made smaller; and a record of 2 GiB or more cannot be written."""

_ORIENTATION_TAG = 0x0112
_JPEG_END = b"\xff\xd9"
_PNG_END = b"IEND\xaeB`\x82"
_REASONS = {
    Fault.EMPTY: Reason.IMAGE_EMPTY,
    Fault.FORMAT: Reason.IMAGE_FORMAT,
    Fault.KIND: Reason.IMAGE_KIND,
    Fault.TOO_LARGE: Reason.IMAGE_TOO_LARGE,
    Fault.DAMAGED: Reason.IMAGE_TRUNCATED,
}
_filters = threading.Lock()


class BadImage(DataError):  # noqa: N818 (it describes the image)
    """An image that is left out of the shards; `reason` is the phrase it is counted under."""

    def __init__(self, reason: Reason, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What is known of an image before it is decoded."""

    size: Size
    """Of the stored pixels, EXIF orientation not applied."""
    orientation: int
    """EXIF, 1 to 8; 1 is upright."""


def check_length(num_bytes: int) -> None:
    """Refuses, before it is read, a file that no image is, such as the unending member of a zip bomb."""
    if num_bytes > MAX_IMAGE_BYTES:
        raise BadImage(Reason.IMAGE_TOO_LARGE, f"a file of {num_bytes:,} bytes, at most {MAX_IMAGE_BYTES:,}")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without Pillow's warnings. One thread at a time: Python's filters are those of the whole process."""
    with _filters, warnings.catch_warnings(action="ignore"):
        yield


def read_image(images: Reader, path: str, span: Span, *, decode: bool = True) -> tuple[bytes, ImageHeader]:
    """A listed image as it lies there; raises `BadImage` for what cannot be read or is no whole image.

    Without `decode` only header and end are looked at.
    """
    check_length(span.size)
    try:
        data = images(path, span)
    except OSError as e:
        raise BadImage(Reason.IMAGE_UNREADABLE, str(e.strerror or e)) from e
    return data, check_image(data, decode=decode)


def check_image(data: bytes, *, decode: bool = True) -> ImageHeader:
    """Reads the header, and decodes the image unless told otherwise; raises `BadImage`."""
    try:
        with _quietly():
            image = decoding.open_image(data)
        header = ImageHeader(Size(*image.size), _orientation(image))
        if decode or not _is_complete(data, image):
            decoding.check_whole(image, data)
    except ImageFault as e:
        raise BadImage(_REASONS[e.fault], e.detail) from e
    return header


def _is_complete(data: bytes, image: ImageFile.ImageFile) -> bool:
    if image.format == "PNG":
        return data.rfind(_PNG_END) >= 0
    scan = _first_scan(data)
    return scan is not None and data.rfind(_JPEG_END, scan) >= 0


def _first_scan(data: bytes) -> int | None:
    """Where the first start-of-scan marker stands, found by walking the segments (EXIF thumbnails hold markers too)."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:
            return position
        if marker == 0xFF:  # fill byte
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _orientation(image: ImageFile.ImageFile) -> int:
    # Not image.getexif(): for a PNG it decodes all pixels, and it also reads XMP, which browsers do not.
    if "exif" not in image.info:
        return 1
    exif = Image.Exif()
    try:
        with _quietly():
            exif.load(image.info["exif"])
        value = exif.get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF: Pillow raises nearly anything, and a browser shows the image upright
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def mask_from_npy(data: bytes, size: Size) -> bytes:
    """A mask of 0 and 1, `[height, width]`, from a `.npy` file to a PNG of one bit a pixel, without loss.

    Raises `DataError`, without naming the file, for anything else.
    """
    try:
        mask = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as e:  # numpy reads a header as Python source, and a damaged one makes the parser raise anything
        raise DataError(f"not a .npy array ({e})") from e
    if not isinstance(mask, np.ndarray) or mask.shape != (size.height, size.width):
        raise DataError(f"shape {getattr(mask, 'shape', None)}, the image has {(size.height, size.width)}")
    if mask.dtype.kind not in "biuf" or not np.all((mask == 0) | (mask == 1)):
        raise DataError(f"holds values other than 0 and 1 (dtype {mask.dtype})")
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE).save(buffer, "PNG")
    return buffer.getvalue()


def mask_from_file(name: str, data: bytes, size: Size) -> bytes:
    """A mask as `.npy` (see `mask_from_npy`), or as a PNG whose pixels above 0 are the object."""
    if name.lower().endswith(".npy"):
        return mask_from_npy(data, size)
    mask = decoding.decode_mask(data, size)
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE).save(buffer, "PNG")
    return buffer.getvalue()


def undo_exif_orientation(x: float, y: float, orientation: int) -> tuple[float, float]:
    """From the display, rotated by the EXIF orientation (1 to 8), back to the stored pixels.

    x, y: fractions of the displayed image in, of the stored one out.
    """
    match orientation:
        case 1:
            return x, y
        case 2:
            return 1 - x, y
        case 3:
            return 1 - x, 1 - y
        case 4:
            return x, 1 - y
        case 5:
            return y, x
        case 6:
            return y, 1 - x
        case 7:
            return 1 - y, 1 - x
        case 8:
            return 1 - y, x
        case _:
            raise ValueError(f"EXIF orientation {orientation}: expected 1 to 8")


def was_rotated(stated: Size | None, header: ImageHeader, *, default: bool) -> bool:
    """Whether coordinates belong to the display that applied the EXIF orientation.

    `stated` is the size that came with the coordinates. Where a quarter turn makes a landscape of a portrait, it tells
    which of the two was meant; only the shape is compared, since the release may state the size of another copy.
    Where it cannot tell (missing, square, a mirror or a half turn), `default` holds.
    """
    stored = header.size
    if header.orientation < 5 or stated is None or stated.width == stated.height or stored.width == stored.height:
        return header.orientation != 1 and default
    return (stated.width > stated.height) != (stored.width > stored.height)


def upright(showings: tuple[Showing, ...], header: ImageHeader, counts: Counter[str]) -> tuple[Showing, ...]:
    """Turns all points back to the stored pixels, since browsers apply the EXIF orientation (since 2020)."""

    def timed(points: tuple[TimedPoint, ...]) -> tuple[TimedPoint, ...]:
        return tuple(
            TimedPoint(*undo_exif_orientation(p.x, p.y, header.orientation), time_ms=p.time_ms) for p in points
        )

    def plain(point: Point | None) -> Point | None:
        return None if point is None else Point(*undo_exif_orientation(point.x, point.y, header.orientation))

    turned = []
    for showing in showings:
        if was_rotated(showing.original_size, header, default=True):
            actions = tuple(
                action._replace(point_from=plain(action.point_from), point_to=plain(action.point_to))
                for action in showing.actions
            )
            showing = replace(showing, clicks=timed(showing.clicks), trace=timed(showing.trace), actions=actions)
            counts["showings_turned_back_by_exif"] += 1
        elif showing.original_size not in (None, header.size):
            counts["showings_with_other_original_size"] += 1
        turned.append(showing)
    return tuple(turned)
