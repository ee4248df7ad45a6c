"""One opinion of what is a whole image, and pixel values that no way of reading clips.

The ways are: the check at preparation and in `verify`, the whole decode of evaluation, the crop decode of training,
images stored smaller, and the thumbnail of a page.
"""

from __future__ import annotations

import io
import random
import struct
import subprocess
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.downscale import Smaller
from data_prep.images import BadImage, check_image
from data_prep.inspect.gallery.card import thumbnail
from data_prep.problems import Problems, Reason
from luab_jax.byproducts.records import ImageRecord, Size
from luab_jax.data.decoding import Fault, ImageFault, check_whole, decode, decode_mask, open_image
from luab_jax.data.transforms import EncodedImage, PixelBox, sample_crop
from luab_jax.errors import DataError, UserError

SIZE = (120, 90)
RAMP = np.broadcast_to(np.linspace(0, 65535, SIZE[0]).astype(np.uint16), SIZE[::-1])


def png(pixels: np.ndarray, colour_type: int, depth: int, extra: bytes = b"") -> bytes:
    """A PNG written by hand, for what Pillow does not write. `pixels`: big-endian rows as they stand in the file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def grey_16(channels: int) -> np.ndarray:
    return np.repeat(RAMP.astype(">u2")[..., None], channels, axis=-1)


def saved(mode: str, kind: str = "PNG", **arguments: Any) -> bytes:
    """The ramp in 8 bits, in a mode of Pillow."""
    buffer = io.BytesIO()
    Image.fromarray((RAMP >> 8).astype(np.uint8)).convert("RGB").convert(mode).save(buffer, kind, **arguments)
    return buffer.getvalue()


BLACK_IS_TRANSPARENT = b"\0\0\0\2tRNS\0\0" + struct.pack(">I", zlib.crc32(b"tRNS\0\0"))
MODES = {
    "grey 16": png(grey_16(1), 0, 16),
    "grey 16, transparent value": png(grey_16(1), 0, 16, BLACK_IS_TRANSPARENT),
    "grey and alpha 16": png(grey_16(2), 4, 16),
    "colour 16": png(grey_16(3), 2, 16),
    "colour and alpha 16": png(grey_16(4), 6, 16),
    "grey 8": saved("L"),
    "grey and alpha": saved("LA"),
    "colour and alpha": saved("RGBA"),
    "palette": saved("P"),
    "palette with transparency": saved("P", transparency=bytes(range(256))),
    "JPEG": saved("RGB", "JPEG", quality=95),
    "JPEG grey": saved("L", "JPEG", quality=95),
    "JPEG CMYK": saved("CMYK", "JPEG", quality=95),
}  # fmt: skip


def ways(encoded: bytes, max_side: int) -> dict[str, np.ndarray]:
    image = EncodedImage(encoded, "a")
    record = ImageRecord(file_name="a", image=encoded, width=SIZE[0], height=SIZE[1])
    stored = Smaller(max_side, 95)(record, Problems())
    assert check_image(encoded).size == SIZE
    return {
        "evaluation": np.asarray(decode(encoded, "a")),
        "training": image.region(PixelBox(0, 0, *image.size)),
        "stored": np.asarray(decode(stored.image, "a")),
        "page": np.asarray(Image.open(io.BytesIO(thumbnail(record))).convert("RGB")),
    }


@pytest.mark.parametrize("max_side", [60, 119, 120, 500])
@pytest.mark.parametrize("mode", MODES)
def test_a_ramp_keeps_its_values_in_every_mode_and_every_way(mode: str, max_side: int) -> None:
    """The upper byte of 16 bits: mean 127 of a ramp from black to white, in equal columns."""
    for way, pixels in ways(MODES[mode], max_side).items():
        columns = pixels.astype(float).mean(axis=(0, 2))
        wanted = np.interp(np.linspace(0, 1, len(columns)), np.linspace(0, 1, SIZE[0]), RAMP[0] >> 8)
        assert abs(pixels.mean() - 127) < 2, way
        assert np.abs(columns - wanted).max() < (26 if mode.startswith("palette") else 4), (
            way
        )  # web palette: steps of 51


def test_sixteen_bits_are_cut_to_the_upper_byte_exactly() -> None:
    np.testing.assert_array_equal(np.asarray(decode(MODES["grey 16"], "a"))[..., 1], RAMP >> 8)
    np.testing.assert_array_equal(np.asarray(decode(MODES["colour 16"], "a"))[..., 1], RAMP >> 8)


def test_transparency_is_ignored_as_torchvision_does() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 0] = 200  # fully transparent red
    assert np.asarray(decode(png(pixels, 6, 8), "a")).tolist() == np.full((4, 4, 3), [200, 0, 0]).tolist()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def other_format(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, kind)
    return buffer.getvalue()


FOREIGN = {"EPS": EPS, "text": b"a text", "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "empty": b""} | {
    kind: other_format(kind) for kind in ("BMP", "GIF", "TIFF", "PPM", "WEBP", "ICO", "JPEG2000", "TGA", "PDF")
}


def never_started(*_: object, **__: object) -> None:
    raise AssertionError("another program was started")


@pytest.mark.parametrize("kind", FOREIGN)
def test_only_jpeg_and_png_are_read_and_no_other_program_is_started(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", never_started)
    for read in (lambda data: decode(data, "a.JPEG"), lambda data: EncodedImage(data, "a.JPEG")):
        with pytest.raises(DataError, match=r"a\.JPEG: the image cannot be decoded \((neither|the file is empty)"):
            read(FOREIGN[kind])
    with pytest.raises(BadImage) as refused:
        check_image(FOREIGN[kind])
    assert refused.value.reason in (Reason.IMAGE_FORMAT, Reason.IMAGE_EMPTY)
    with pytest.raises(ImageFault):
        decode_mask(FOREIGN[kind])


def zero_sided(height: int, width: int) -> bytes:
    encoded = bytearray(saved("RGB", "JPEG"))
    start = encoded.index(b"\xff\xc0") + 5
    encoded[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(encoded)


@pytest.mark.parametrize("height, width", [(0, 120), (90, 0), (0, 0)])
def test_an_image_without_a_side_is_named(height: int, width: int) -> None:
    encoded = zero_sided(height, width)
    for read in (lambda: EncodedImage(encoded, "flat.JPEG"), lambda: decode(encoded, "flat.JPEG")):
        with pytest.raises(DataError, match=r"flat\.JPEG: the image cannot be decoded"):
            read()
    with pytest.raises(BadImage):
        check_image(encoded)
    with pytest.raises(DataError):  # of a grey PNG
        decode(png(np.zeros((0, 4, 1), np.uint8), 0, 8), "flat.png")


def answers(read: Callable[[], object]) -> bool:
    try:
        read()
    except UserError:
        return False
    return True


def damaged(rng: random.Random, encoded: bytes) -> bytes:
    """As a disk or a broken copy does it: a block of one value or of noise, an end that is missing, bits that flip."""
    data = bytearray(encoded)
    start, length = rng.randrange(len(data)), rng.choice([1, 16, 512, 4096])
    kind = rng.randrange(5)
    if kind == 3:
        return bytes(data[:start])
    if kind == 4:
        data[start] ^= 1 << rng.randrange(8)
        return bytes(data)
    num = len(data[start : start + length])
    data[start : start + length] = (b"\xff" * num, b"\0" * num, rng.randbytes(num))[kind]
    return bytes(data)


def photo(kind: str, seed: int, **arguments: Any) -> bytes:
    """Smooth, so that a scan holds codes of all lengths."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((160, 120), Image.Resampling.BICUBIC)
    noise = rng.integers(-9, 10, (120, 160, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)).save(buffer, kind, **arguments)
    return buffer.getvalue()


PHOTOS = [
    photo("JPEG", 0),
    photo("JPEG", 1, progressive=True),
    photo("JPEG", 2, subsampling=0, quality=95),
    photo("JPEG", 3, restart_marker_blocks=7),
    photo("PNG", 4),
]


@pytest.mark.filterwarnings("ignore")  # what Pillow says of odd metadata
def test_the_check_accepts_what_every_decoder_decodes_and_nothing_else() -> None:
    """Of an accepted image every crop of training decodes, and the pixels are those of the whole."""
    rng, accepted, refused = random.Random(0), 0, 0
    for number in range(1500):
        encoded = damaged(rng, rng.choice(PHOTOS))
        whole = answers(lambda: check_image(encoded))  # noqa: B023
        assert whole == answers(lambda: decode(encoded, "a")), number  # noqa: B023
        accepted, refused = accepted + whole, refused + (not whole)
        if whole:
            image = EncodedImage(encoded, "a")
            pixels = np.asarray(decode(encoded, "a"))
            box = sample_crop(np.random.default_rng(number), image.size, (0.08, 1.0))
            rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
            assert image.region(box).shape == pixels[rows, columns].shape
    assert accepted > 200 and refused > 200


def test_the_size_decides_whether_an_image_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("luab_jax.data.decoding", "luab_jax.data.region_jpeg"):
        monkeypatch.setattr(f"{module}.MAX_PIXELS", SIZE[0] * SIZE[1] - 1)
    for encoded in (MODES["JPEG"], MODES["grey 8"]):
        with pytest.raises(ImageFault) as fault:
            open_image(encoded)
        assert fault.value.fault is Fault.TOO_LARGE
        with pytest.raises(DataError, match="too large"):
            EncodedImage(encoded, "a")


def test_a_mask_is_a_png_of_its_image() -> None:
    mask = np.zeros((6, 8), bool)
    mask[2:4] = True
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    np.testing.assert_array_equal(decode_mask(buffer.getvalue()), mask)
    with pytest.raises(ImageFault, match="8, 6"):
        decode_mask(buffer.getvalue(), Size(*SIZE))
    with pytest.raises(ImageFault, match="a mask is a PNG"):
        decode_mask(MODES["JPEG"])


def test_a_checked_image_gives_no_pixels_by_mistake() -> None:
    """The check may decode at an eighth."""
    image = open_image(PHOTOS[0])
    check_whole(image, PHOTOS[0])
    assert image.size[0] <= 160
