"""Image bytes checked without decoding them, and points turned back from a rotated display.

A file is taken if it is a JPEG or a PNG by its content (ImageNet has a PNG named .JPEG), of any colour type, and
complete: a JPEG holds an end-of-image marker after its first start of scan (inside a scan every 0xFF is followed by
0x00 or a restart marker, so the two bytes cannot occur by chance), a PNG its IEND chunk. Only where that is missing
is the image decoded, and Pillow decides. Bytes changed inside a scan are not noticed here.
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
from data_prep.sources import Reader, Span
from luab_jax.byproducts.records import Point, Showing, Size, TimedPoint
from luab_jax.errors import DataError

MAX_PIXELS = 89_478_485
"""256 MiB of RGB, Pillow's own limit. The largest image of ImageNet has about 70 million."""

MAX_IMAGE_BYTES = 256 << 20
"""A photo of `MAX_PIXELS` that no encoder made smaller; and a record of 2 GiB or more cannot be written."""

_ORIENTATION_TAG = 0x0112
_JPEG_END = b"\xff\xd9"
_PNG_END = b"IEND\xaeB`\x82"
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


def read_image(images: Reader, path: str, span: Span) -> tuple[bytes, ImageHeader]:
    """A listed image as it lies there; raises `BadImage` for what cannot be read or decoded as a whole."""
    check_length(span.size)
    try:
        data = images(path, span)
    except OSError as e:
        raise BadImage(Reason.IMAGE_UNREADABLE, str(e.strerror or e)) from e
    return data, check_image(data)


def check_image(data: bytes) -> ImageHeader:
    """Reads the header; raises `BadImage` for what cannot be decoded as a whole."""
    if not data:
        raise BadImage(Reason.IMAGE_EMPTY)
    try:
        with _quietly():
            image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    except Image.DecompressionBombError as e:
        # Pillow's message ends with its own two limits, of which ours is one.
        claimed = str(e).partition(" exceeds")[0]
        raise BadImage(Reason.IMAGE_TOO_LARGE, f"{claimed}, at most {MAX_PIXELS:,} pixels") from e
    except Exception as e:  # a damaged header makes Pillow's parsers raise nearly anything
        detail = f"starts with {data[:16]!r}" if isinstance(e, Image.UnidentifiedImageError) else str(e)
        raise BadImage(Reason.IMAGE_FORMAT, detail) from e
    size = Size(*image.size)
    if size.width * size.height > MAX_PIXELS:
        raise BadImage(Reason.IMAGE_TOO_LARGE, f"{size.width} x {size.height}, at most {MAX_PIXELS:,} pixels")
    if not _is_complete(data, image):
        try:
            image.load()
        except Exception as e:
            raise BadImage(Reason.IMAGE_TRUNCATED, str(e)) from e
    return ImageHeader(size, _orientation(image))


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
