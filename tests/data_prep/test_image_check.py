"""The check of image bytes, and points turned back from a rotated display."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data_prep.images import BadImage, ImageHeader, check_image, mask_from_npy, undo_exif_orientation, was_rotated
from data_prep.problems import Reason
from luab_jax.byproducts.records import Size
from luab_jax.errors import DataError
from tests.data_prep.conftest import image_bytes


def oriented(orientation: int, **arguments: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return image_bytes(exif=exif, **arguments)


def claimed_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def converted(mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(image_bytes())).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("data", [
    image_bytes(), image_bytes(kind="PNG"), image_bytes(progressive=True), image_bytes(size=(1, 1)),
    converted("CMYK"), converted("L"), image_bytes() + b"trailing bytes", oriented(6),
])  # fmt: skip
def test_odd_but_valid(data: bytes) -> None:
    assert check_image(data).size == Image.open(io.BytesIO(data)).size


@pytest.mark.parametrize("data, reason", [
    (b"", Reason.IMAGE_EMPTY),
    (b"a text file named .JPEG", Reason.IMAGE_FORMAT),
    (image_bytes(kind="GIF"), Reason.IMAGE_FORMAT),
    (claimed_png(30000, 30000), Reason.IMAGE_TOO_LARGE),
    (claimed_png(10000, 10000), Reason.IMAGE_TOO_LARGE),
    (image_bytes(size=(64, 64))[:2000], Reason.IMAGE_TRUNCATED),
    (image_bytes(size=(64, 64), progressive=True)[:2000], Reason.IMAGE_TRUNCATED),
    (image_bytes(size=(64, 64), kind="PNG")[:5000], Reason.IMAGE_TRUNCATED),
])  # fmt: skip
def test_bad_images(data: bytes, reason: Reason) -> None:
    with pytest.raises(BadImage) as caught:
        check_image(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_the_limit_that_is_named_is_the_one_that_holds(side: int) -> None:
    with pytest.raises(BadImage, match=rf"({side} x {side}|{side**2}).*, at most 89,478,485 pixels$"):
        check_image(claimed_png(side, side))


def test_thumbnail_does_not_hide_truncation() -> None:
    """An EXIF thumbnail is a whole JPEG, with both markers, inside the file."""
    exif = b"Exif\x00\x00" + image_bytes(size=(16, 16))
    with pytest.raises(BadImage, match="cut off"):
        check_image(image_bytes(size=(64, 64), exif=exif)[:-1000])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 5000), st.binary(min_size=1, max_size=4), st.sampled_from(["JPEG", "PNG"]))
def test_damage_gives_a_header_or_bad_image(position: int, damage: bytes, kind: str) -> None:
    data = bytearray(oriented(3, kind=kind))
    position %= len(data)
    data[position : position + len(damage)] = damage
    with contextlib.suppress(BadImage):
        check_image(bytes(data))


def test_orientation_is_read() -> None:
    assert [check_image(oriented(k)).orientation for k in range(10)] == [1, 1, 2, 3, 4, 5, 6, 7, 8, 1]
    assert check_image(oriented(6, kind="PNG")).orientation == 6


@given(st.integers(1, 8), st.integers(1, 9), st.integers(1, 9), st.floats(0, 0.999), st.floats(0, 0.999))
def test_point_keeps_its_pixel(orientation: int, width: int, height: int, x: float, y: float) -> None:
    stored = Image.fromarray(np.arange(width * height, dtype=np.uint8).reshape(height, width))
    exif = stored.getexif()
    exif[0x0112] = orientation
    shown = ImageOps.exif_transpose(stored)
    column, row = int(x * shown.width), int(y * shown.height)
    back = undo_exif_orientation((column + 0.5) / shown.width, (row + 0.5) / shown.height, orientation)
    assert stored.getpixel((int(back[0] * width), int(back[1] * height))) == shown.getpixel((column, row))


def test_stated_size_tells_which_pixels_were_meant() -> None:
    portrait = ImageHeader(Size(48, 64), 6)
    assert was_rotated(Size(500, 375), portrait, default=False)
    assert not was_rotated(Size(375, 500), portrait, default=True)
    for header in (portrait, ImageHeader(Size(48, 64), 3)):
        assert was_rotated(None, header, default=True) and not was_rotated(None, header, default=False)
    assert not was_rotated(Size(500, 375), ImageHeader(Size(48, 64), 1), default=True)


@pytest.mark.parametrize("header", [b"{'descr': '|u1', 'shape': (6, 8", b"{(((", b"\\", b"1e9999", b"[" * 90])
def test_a_mask_with_a_damaged_header_is_refused(header: bytes) -> None:
    data = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(48)
    with pytest.raises(DataError, match=r"not a \.npy array"):
        mask_from_npy(data, Size(8, 6))


def test_images_of_a_bucket_are_checked_in_threads_and_the_filters_of_warnings_stay_as_they_were() -> None:
    """Python keeps these filters for the whole process, and brings them back in the wrong order if threads mix."""
    data = oriented(6)
    before, interval = list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            headers = set(pool.map(check_image, [data] * 400))
    finally:
        sys.setswitchinterval(interval)
    assert len(headers) == 1
    assert warnings.filters == before
