"""JPEGs are decoded by the GPU where it can, by the CPU where not. An imitation of nvImageCodec stands for a GPU."""

from __future__ import annotations

import io
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from luab_jax.byproducts.records import Size
from luab_jax.data import gpu_jpeg, region_jpeg
from luab_jax.data.decoding import decode
from luab_jax.data.gpu_jpeg import Difference, GpuJpegs, measure
from luab_jax.data.transforms import EncodedImage, PixelBox
from tests import nvimgcodec
from tests.data.test_decoding import drawn, jpeg, needs_libraries
from tests.nvimgcodec import Gpus

PHOTO = jpeg(drawn(Size(60, 40)))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    return nvimgcodec.install(monkeypatch)


def whole(*images: bytes, devices: tuple[int, ...] = (0,)) -> list[np.ndarray | None]:
    return list(GpuJpegs(devices).whole([EncodedImage(image, "").jpeg for image in images]))


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def test_jpegs_are_decoded_whole_and_several_at_a_time(gpus: Gpus) -> None:
    photos = [jpeg(drawn(Size(60, 40 + i), seed=i)) for i in range(5)]
    for photo, pixels in zip(photos, whole(*photos), strict=True):
        expected = np.clip(np.asarray(decode(photo, "")).astype(int) + 1, 0, 255)
        np.testing.assert_array_equal(pixels, expected)
    assert gpus.batches == [5]


def test_no_more_pixels_than_a_bound_are_decoded_at_a_time(gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_jpeg, "_PIXELS_AT_ONCE", 5000)
    images = whole(PHOTO, PHOTO, PHOTO, jpeg(drawn(Size(100, 90))), PHOTO)
    assert all(pixels is not None for pixels in images)
    assert gpus.batches == [2, 1, 1, 1]  # 2,400 pixels each, but for one of 9,000


def test_only_the_cuda_kernels_decode_and_interpolate_chroma(gpus: Gpus) -> None:
    whole(PHOTO, devices=(3,))
    (options,) = gpus.decoders
    assert options["device_id"] == 3
    assert options["backends"] == [nvimgcodec.HYBRID_CPU_GPU]
    assert options["options"] == ":fancy_upsampling=1"


def test_what_is_no_colour_jpeg_is_not_given_to_the_gpu(gpus: Gpus) -> None:
    image = drawn(Size(60, 40))
    others = [
        png(),
        jpeg(image.convert("L")),
        jpeg(image.convert("CMYK")),
        jpeg(image, keep_rgb=True),
        PHOTO[: len(PHOTO) // 2],
    ]
    parsed = [region_jpeg.open_jpeg(image) for image in others]
    assert list(GpuJpegs((0,)).whole(parsed)) == [None] * len(others)
    assert not gpus.batches


def with_segments(encoded: bytes, *segments: tuple[int, bytes], ids: bytes = b"") -> bytes:
    """A JPEG with these application segments in place of its own, and other numbers of its components."""
    assert encoded[2:4] == b"\xff\xe0"
    rest = bytearray(encoded[4 + int.from_bytes(encoded[4:6], "big") :])
    frame = rest.index(b"\xff\xc0")
    for i, number in enumerate(ids):
        rest[frame + 10 + 3 * i] = number
    own = b"".join(bytes([0xFF, marker]) + (len(text) + 2).to_bytes(2, "big") + text for marker, text in segments)
    return b"\xff\xd8" + own + bytes(rest)


def adobe(transform: int) -> tuple[int, bytes]:
    return 0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform])


JFIF = (0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
EXIF = (0xE1, b"Exif\0\0")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (PHOTO, True),
        (with_segments(PHOTO, EXIF), True),  # of a camera
        (with_segments(PHOTO, EXIF, JFIF), True),
        (with_segments(PHOTO, EXIF, adobe(1)), True),
        (with_segments(PHOTO, adobe(0)), False),
        (with_segments(PHOTO, JFIF, adobe(0)), False),  # libraries do not agree
        (with_segments(PHOTO, adobe(2)), False),
        (with_segments(PHOTO, EXIF, ids=b"RGB"), False),
        (b"\xff\xd8" + b"\xff\xff" + PHOTO[3:], True),  # a fill byte
        (PHOTO[:10], False),
        (b"\xff\xd8\xff", False),
    ],
)
def test_a_jpeg_is_ycbcr_if_its_header_says_so(image: bytes, expected: bool) -> None:
    assert gpu_jpeg.is_ycbcr(image) is expected


@pytest.mark.parametrize("options", [{"keep_rgb": True}, {"progressive": True}, {"subsampling": 0}])
def test_pillow_tells_the_same(options: dict[str, object]) -> None:
    image = jpeg(drawn(Size(60, 40)), **options)
    assert gpu_jpeg.is_ycbcr(image) is not bool(options.get("keep_rgb"))


def test_what_the_gpu_does_not_decode_is_none_and_the_rest_is_not(gpus: Gpus) -> None:
    broken = jpeg(drawn(Size(30, 20)))
    gpus.broken.add(broken)
    first, second, third = whole(PHOTO, broken, PHOTO)
    assert first is not None and second is None and third is not None


def test_a_gpu_that_fails_is_told_once_there_is_no_doubt(gpus: Gpus) -> None:
    gpus.fails = True
    assert whole(PHOTO) == [None]
    with pytest.warns(RuntimeWarning, match="none of 12 JPEGs"):
        assert whole(*[PHOTO] * 12) == [None] * 12


@pytest.mark.parametrize("missing", ["nvidia", "nvidia.nvimgcodec"])
def test_a_machine_without_the_library_loads_nothing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nvidia.nvimgcodec", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    nvimgcodec.forget(monkeypatch)
    assert not gpu_jpeg.load()


def test_a_library_that_was_loaded_for_the_cpu_alone_is_not_loaded_again(gpus: Gpus) -> None:
    assert EncodedImage(PHOTO, "").jpeg is not None
    assert not gpu_jpeg.load()


def test_a_library_that_is_loaded_for_gpus_first_serves_both(gpus: Gpus) -> None:
    assert gpu_jpeg.load() and gpu_jpeg.load()
    assert region_jpeg.is_available()


def test_the_difference_is_the_mean_and_the_share_beyond_four_levels() -> None:
    expected = np.full((10, 10, 3), 100, np.uint8)
    found = expected.copy()
    found[0, 0] = 104, 105, 90
    assert measure(found, expected) == pytest.approx(Difference(19 / 300, 2 / 300))
    assert measure(expected, expected).is_tolerated
    assert measure(expected + np.uint8(1), expected).is_tolerated
    assert not measure(expected + np.uint8(2), expected).is_tolerated
    assert not measure(found, expected).is_tolerated


@needs_libraries
def test_the_library_itself_takes_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """nvImageCodec, with its CPU in the place of a GPU."""
    module = region_jpeg.library()
    monkeypatch.setattr(module, "HYBRID_CPU_GPU", module.CPU_ONLY)
    monkeypatch.setattr(gpu_jpeg, "_threads", threading.local())
    photos = [jpeg(drawn(Size(60, 40 + i), seed=i), progressive=i == 1) for i in range(3)]
    found = whole(photos[0], png(), *photos[1:], devices=(module.NVIMGCODEC_DEVICE_CPU_ONLY,))
    assert found.pop(1) is None
    for photo, pixels in zip(photos, found, strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(decode(photo, "")))


@needs_libraries
def test_repeated_chroma_is_not_tolerated() -> None:
    photo = EncodedImage(jpeg(drawn(Size(173, 131)), subsampling=2), "")
    box = PixelBox(0, 0, *photo.size)
    assert not measure(photo.region(box, smooth_chroma=False), photo.region(box)).is_tolerated
