"""Decoding only the crop and resizing by SIMD give the pixels of Pillow's crop and resize."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from luab_jax.byproducts.records import Size
from luab_jax.data import region_jpeg, resampling, transforms
from luab_jax.data.decoding import decode
from luab_jax.data.resampling import ResizeFilter, resize, resize_by_pillow
from luab_jax.data.transforms import EncodedImage, PixelBox, crop_and_resize, sample_crop
from luab_jax.errors import DataError
from tests.data_prep.conftest import SHARED_DATA

PHOTOS = sorted((SHARED_DATA / "imagenet_fullres").glob("n*/*"))
ANTIALIASED = (ResizeFilter.BILINEAR, ResizeFilter.BICUBIC)
needs_libraries = pytest.mark.skipif(
    not (region_jpeg.is_available() and resampling.is_available()),
    reason="nvidia-nvimgcodec-cu12 or cykooz-resizer is not installed",
)


def drawn(size: Size, seed: int = 0) -> Image.Image:
    """Smooth colours under sharp-edged rectangles: what overshoots, and what subsampled chroma shows."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size.height, : size.width]
    pixels = np.stack([255 * x / size.width, 255 * y / size.height, 127 + 127 * np.sin((x + 2 * y) / 9)], axis=-1)
    for _ in range(8):
        left, top = rng.integers(0, size.width), rng.integers(0, size.height)
        pixels[top : top + 40, left : left + 30] = rng.integers(0, 2, 3) * 255
    return Image.fromarray(pixels.astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def pillow_crop(encoded: bytes, box: PixelBox) -> Image.Image:
    return decode(encoded, "").crop((box.left, box.top, box.left + box.width, box.top + box.height))


KINDS = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "RGB": {"keep_rgb": True},
    "low quality": {"quality": 20},
}


@needs_libraries
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_decoded_part_is_the_part_of_the_decoded_whole(kind: str, mode: str) -> None:
    if kind == "RGB" and mode != "RGB":
        pytest.skip("RGB is stored of RGB")
    size = Size(173, 131)
    encoded = jpeg(drawn(size).convert(mode), **KINDS[kind])
    rng = np.random.default_rng(0)
    for box in (
        PixelBox(0, 0, *size),
        PixelBox(172, 130, 1, 1),
        *(sample_crop(rng, size, (0.02, 1.0)) for _ in range(40)),
    ):
        np.testing.assert_array_equal(EncodedImage(encoded, "").region(box), np.asarray(pillow_crop(encoded, box)))


@pytest.fixture(params=["nvidia", "nvidia.nvimgcodec"])
def hide_nvimgcodec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """From the call on, this process has the library as little as a machine for which there is no build of it."""

    def hide() -> None:
        monkeypatch.delitem(sys.modules, "nvidia.nvimgcodec", raising=False)
        monkeypatch.setitem(sys.modules, request.param, None)  # the package, or all that NVIDIA packages
        region_jpeg._load.cache_clear()

    yield hide
    monkeypatch.undo()
    region_jpeg._load.cache_clear()


@pytest.mark.parametrize("filter", ResizeFilter)
def test_without_nvimgcodec_pillow_decodes_the_same_pixels(
    filter: ResizeFilter, hide_nvimgcodec: Callable[[], None]
) -> None:
    """But for the fast mode, which repeats subsampled chroma: Pillow knows no way but to interpolate it."""
    size = Size(173, 131)
    kinds = [(mode, kind) for mode in ("RGB", "L", "CMYK") for kind in KINDS if mode == "RGB" or kind != "RGB"]
    images = [jpeg(drawn(size).convert(mode), **KINDS[kind]) for mode, kind in kinds]
    box = PixelBox(20, 11, 97, 64)

    def crops() -> list[np.ndarray]:
        return [crop_and_resize(EncodedImage(image, ""), box, 32, filter, flip=True)[0].copy() for image in images]

    before, was_there = crops(), region_jpeg.is_available()
    hide_nvimgcodec()
    assert not region_jpeg.is_available() and all(region_jpeg.open_jpeg(image) is None for image in images)
    after = crops()
    for image, pixels in zip(images, after, strict=True):
        expected = resize(np.asarray(pillow_crop(image, box)), Size(32, 32), filter)[:, ::-1]
        np.testing.assert_array_equal(pixels, expected)
    if was_there and filter is not ResizeFilter.BILINEAR_PLAIN:
        np.testing.assert_array_equal(np.stack(before), np.stack(after))


@needs_libraries
@settings(max_examples=150, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 300), st.integers(1, 300), st.sampled_from(ANTIALIASED))
def test_resized_pixels_are_pillows_within_a_rounding_for_each_pass(
    width: int, height: int, new_width: int, new_height: int, filter: ResizeFilter
) -> None:
    """Noise of 0 and 255 is the worst that can be; coefficients of 16 bits instead of Pillow's 22 differ on ties."""
    noise = np.random.default_rng(width).integers(0, 2, (height, width, 3), np.uint8) * np.uint8(255)
    size = Size(new_width, new_height)
    difference = np.abs(
        resize(noise, size, filter).astype(int) - np.asarray(resize_by_pillow(Image.fromarray(noise), size, filter))
    )
    assert difference.max() <= 2


@needs_libraries
@pytest.mark.skipif(not PHOTOS, reason="no photos; set LUAB_JAX_TEST_DATA to the folder of imagenet_fullres")
@pytest.mark.parametrize("filter", ANTIALIASED)
def test_crops_of_photos_are_pillows(filter: ResizeFilter) -> None:
    """Bit-exact before resizing; after it at most 2 of 255 and 0.02 on average."""
    rng, largest, means = np.random.default_rng(0), 0, []
    for photo in PHOTOS:
        encoded = photo.read_bytes()
        image = EncodedImage(encoded, photo.name)
        for _ in range(3):
            box = sample_crop(rng, image.size, (0.08, 1.0))
            seen, view = crop_and_resize(image, box, 224, filter, flip=True)
            cut = pillow_crop(encoded, box)
            np.testing.assert_array_equal(image.region(box), np.asarray(cut))
            wanted = np.asarray(resize_by_pillow(cut, Size(224, 224), filter))[:, ::-1]
            difference = np.abs(seen.astype(int) - wanted)
            largest, means = max(largest, int(difference.max())), [*means, float(difference.mean())]
            _, of_pillow = crop_and_resize(decode(encoded, ""), box, 224, filter, flip=True)
            np.testing.assert_array_equal(view.matrix, of_pillow.matrix)
            np.testing.assert_array_equal(view.offset, of_pillow.offset)
    assert largest <= 2
    assert np.mean(means) < 0.02


@needs_libraries
def test_the_fast_mode_is_plain_bilinear() -> None:
    """Pillow's `transform` interpolates as plainly; the two round differently."""
    for size in (Size(500, 375), Size(90, 410), Size(64, 64)):
        pixels = np.asarray(drawn(size))
        wanted = resize_by_pillow(Image.fromarray(pixels), Size(64, 64), ResizeFilter.BILINEAR_PLAIN)
        seen = resize(pixels, Size(64, 64), ResizeFilter.BILINEAR_PLAIN)
        assert np.abs(seen.astype(int) - np.asarray(wanted)).max() <= 2


@pytest.mark.parametrize("filter", ResizeFilter)
def test_threads_do_not_change_pixels(filter: ResizeFilter) -> None:
    size = Size(311, 207)
    images = [jpeg(drawn(size, seed)) for seed in range(24)]

    def pixels(seed: int) -> bytes:
        image = EncodedImage(images[seed], "")
        box = sample_crop(np.random.default_rng(seed), image.size, (0.08, 1.0))
        return crop_and_resize(image, box, 64, filter, flip=bool(seed % 2))[0].tobytes()

    alone = [pixels(seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(pixels, [*range(24)] * 4)) == alone * 4


@pytest.mark.parametrize("kind", ["PNG", "CMYK"])
@pytest.mark.parametrize("libraries", [True, False])
def test_whatever_else_is_left_to_pillow(kind: str, libraries: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not libraries:
        monkeypatch.setattr(transforms, "open_jpeg", lambda encoded: None)
        monkeypatch.setattr(resampling, "_library", lambda: None)
    image, buffer = drawn(Size(60, 50)), io.BytesIO()
    image.convert("CMYK" if kind == "CMYK" else "RGB").save(buffer, "JPEG" if kind == "CMYK" else kind)
    box = PixelBox(7, 9, 31, 22)
    seen, _ = crop_and_resize(EncodedImage(buffer.getvalue(), ""), box, 24, ResizeFilter.BICUBIC, flip=False)
    wanted = resize_by_pillow(pillow_crop(buffer.getvalue(), box), Size(24, 24), ResizeFilter.BICUBIC)
    assert np.abs(seen.astype(int) - np.asarray(wanted)).max() <= 2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6, 0.95])
def test_a_cut_off_file_is_named_even_if_the_crop_lies_above_the_cut(share: float) -> None:
    encoded = jpeg(drawn(Size(200, 200)))
    with pytest.raises(DataError, match=r"cut\.JPEG: the image cannot be decoded"):
        EncodedImage(encoded[: int(share * len(encoded))], "cut.JPEG").region(PixelBox(3, 3, 20, 10))


def test_a_header_of_four_billion_pixels_is_refused() -> None:
    encoded = bytearray(jpeg(drawn(Size(48, 40))))
    start = encoded.index(b"\xff\xc0") + 5
    encoded[start : start + 4] = b"\xff" * 4
    with pytest.raises(DataError, match="bomb"):
        EncodedImage(bytes(encoded), "bomb.JPEG")


@pytest.mark.filterwarnings("ignore")  # what Pillow says of odd metadata
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_gives_pixels_or_the_one_error(data: st.DataObject) -> None:
    content = bytearray(jpeg(drawn(Size(48, 40))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = EncodedImage(bytes(content), "a.JPEG")
        box = sample_crop(np.random.default_rng(0), image.size, (0.08, 0.09))
        assert image.region(box).shape == (box.height, box.width, 3)
    except DataError as e:
        assert "a.JPEG" in str(e)


def test_threads_may_be_the_first_to_decode() -> None:
    """In a process of its own, where nothing has been loaded."""
    script = """
import io, sys, threading
import numpy as np
from PIL import Image
from luab_jax.data.resampling import ResizeFilter
from luab_jax.data.transforms import EncodedImage, PixelBox, crop_and_resize
buffer = io.BytesIO()
Image.new("RGB", (64, 48), (10, 200, 30)).save(buffer, "JPEG")
barrier, seen = threading.Barrier(16), []
def work():
    barrier.wait()
    image = EncodedImage(buffer.getvalue(), "a.JPEG")
    seen.append(crop_and_resize(image, PixelBox(3, 5, 40, 30), 32, ResizeFilter.BICUBIC, flip=True)[0].tobytes())
threads = [threading.Thread(target=work) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit(not (len(seen) == 16 and len(set(seen)) == 1))
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert not finished.stderr
