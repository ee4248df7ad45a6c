"""Pixels and byproducts go through the same map, and the map is the one of the published protocols."""

from __future__ import annotations

import io
import math
import resource

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from luab_jax.byproducts.geometry import inside
from luab_jax.byproducts.records import Size
from luab_jax.data import region_jpeg, resampling, transforms
from luab_jax.data.decoding import decode
from luab_jax.data.transforms import (
    ANY_SIZE,
    EncodedImage,
    PixelBox,
    Preprocessing,
    ResizeFilter,
    Stored,
    crop_and_resize,
    evaluation_input,
    resize_and_centre_crop,
    sample_crop,
)
from luab_jax.errors import DataError

GROUND = np.array([20, 200, 60], np.uint8)
BLOB = np.array([240, 30, 180], np.uint8)
FILTERS = st.sampled_from(ResizeFilter)
PILLOW_FILTERS = {ResizeFilter.BILINEAR: Image.Resampling.BILINEAR, ResizeFilter.BICUBIC: Image.Resampling.BICUBIC}


@st.composite
def crops(draw: st.DrawFn, width: int, height: int, x: int, y: int) -> PixelBox:
    """Any crop of at least 8 pixels a side that contains the pixel (x, y)."""
    left = draw(st.integers(0, min(x, width - 8)))
    top = draw(st.integers(0, min(y, height - 8)))
    right = draw(st.integers(max(x + 1, left + 8), width))
    bottom = draw(st.integers(max(y + 1, top + 8), height))
    return PixelBox(left, top, right - left, bottom - top)


def reach(box: PixelBox, side: int) -> int:
    """Source pixels around a point that the resized pixel under it may be made of: bicubic's support, and a half."""
    return math.ceil(2.5 * max(1.0, box.width / side, box.height / side)) + 1


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(40, 120), st.integers(40, 120), st.integers(24, 64), FILTERS, st.booleans())
def test_a_point_keeps_its_colour_under_crop_resize_and_flip(
    data: st.DataObject, width: int, height: int, side: int, filter: ResizeFilter, flip: bool
) -> None:
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = data.draw(crops(width, height, x, y))
    radius = reach(box, side)
    pixels = np.tile(GROUND, (height, width, 1))
    pixels[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = BLOB
    seen, view = crop_and_resize(Image.fromarray(pixels), box, side, filter, flip=flip)
    assert seen.shape == (side, side, 3) and seen.dtype == np.uint8
    point = view.points(np.array([[(x + 0.5) / width, (y + 0.5) / height]]))
    assert inside(point).all()
    column, row = (point[0] * side).astype(int)
    np.testing.assert_array_equal(seen[row, column], BLOB)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(40, 120), st.integers(40, 120), st.integers(24, 64), FILTERS, st.booleans())
def test_every_pixel_comes_from_where_the_affine_says(
    data: st.DataObject, width: int, height: int, side: int, filter: ResizeFilter, flip: bool
) -> None:
    """In an image whose red is x and whose green is y, the pixels themselves tell where they are from."""
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = data.draw(crops(width, height, x, y))
    red = np.broadcast_to(255 * (np.arange(width) + 0.5) / width, (height, width))
    green = np.broadcast_to(255 * (np.arange(height)[:, None] + 0.5) / height, (height, width))
    ramps = np.stack([red, green, np.zeros((height, width))], axis=-1).round().astype(np.uint8)
    seen, view = crop_and_resize(Image.fromarray(ramps), box, side, filter, flip=flip)
    centres = (np.arange(side) + 0.5) / side
    grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    source = view.inverse().points(grid)
    # At the crop's border a filter sees one side only; a linear ramp is kept where its support is whole.
    place = source * [width, height] - [box.left, box.top]
    margin = reach(box, side)
    whole = np.all((place > margin) & (place < np.array([box.width, box.height]) - margin), axis=-1)
    assume(whole.any())
    told = seen.reshape(-1, 3)[whole, :2] / 255
    np.testing.assert_allclose(told, source[whole], atol=1.5 / 255)


def test_the_whole_image_at_its_own_size_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    image, box = Image.fromarray(pixels), PixelBox(0, 0, 24, 24)
    seen, view = crop_and_resize(image, box, 24, ResizeFilter.BICUBIC, flip=False)
    np.testing.assert_array_equal(seen, pixels)
    np.testing.assert_array_equal(view.matrix, np.eye(2))
    mirrored, _ = crop_and_resize(image, box, 24, ResizeFilter.BICUBIC, flip=True)
    np.testing.assert_array_equal(mirrored, pixels[:, ::-1])


# --- the inception crop


sizes = st.builds(Size, st.integers(1, 400), st.integers(1, 400))


@settings(max_examples=200, deadline=None)
@given(sizes, st.integers(0, 2**32), st.sampled_from([(0.08, 1.0), (0.5, 1.0), (1.0, 1.0), (0.08, 0.1)]))
def test_a_crop_lies_in_the_image_and_is_never_empty(size: Size, seed: int, scale: tuple[float, float]) -> None:
    box = sample_crop(np.random.default_rng(seed), size, scale)
    assert box.width >= 1 and box.height >= 1
    assert box.left >= 0 and box.left + box.width <= size.width
    assert box.top >= 0 and box.top + box.height <= size.height


def test_area_is_uniform_ratio_log_uniform_and_place_uniform() -> None:
    """In a square image no crop of at most half of its area is refused, so nothing bends the distributions."""
    rng, side = np.random.default_rng(0), 10_000
    boxes = np.array([sample_crop(rng, Size(side, side), (0.08, 0.5)) for _ in range(2000)], float)
    left, top, width, height = boxes.T
    share = width * height / side**2
    log_ratio = np.log(width / height)
    uniforms = {
        "area": (share - 0.08) / (0.5 - 0.08),
        "ratio": (log_ratio - math.log(3 / 4)) / (math.log(4 / 3) - math.log(3 / 4)),
        "left": left / (side - width),
        "top": top / (side - height),
    }
    for name, values in uniforms.items():
        assert stats.kstest(values, "uniform").pvalue > 1e-3, name
    assert abs(stats.spearmanr(share, log_ratio).statistic) < 0.08


def test_every_place_of_a_crop_is_reached_borders_too() -> None:
    """Four ninths of 3 x 3 pixels are 2 x 2, at any allowed ratio."""
    rng = np.random.default_rng(0)
    boxes = {sample_crop(rng, Size(3, 3), (4 / 9, 4 / 9)) for _ in range(200)}
    assert boxes == {PixelBox(left, top, 2, 2) for left in (0, 1) for top in (0, 1)}


def torchvision_fallback(width: int, height: int) -> PixelBox:
    """What torchvision documents: 'fallback to central crop' of the nearest allowed aspect ratio."""
    if width / height < 3 / 4:
        crop_width, crop_height = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        crop_width, crop_height = round(height * (4 / 3)), height
    else:
        crop_width, crop_height = width, height
    return PixelBox((width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(4, 50), st.booleans(), st.integers(0, 99))
def test_an_image_too_thin_for_any_crop_gives_the_largest_central_one(
    short: int, times: int, wide: bool, seed: int
) -> None:
    """Half of the area cannot be had at a ratio of 3/4 to 4/3 where one side is four times the other."""
    width, height = (short * times, short) if wide else (short, short * times)
    assert sample_crop(np.random.default_rng(seed), Size(width, height), (0.75, 1.0)) == torchvision_fallback(
        width, height
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [Size(1, 1), Size(1, 2), Size(2, 1), Size(1, 500), Size(500, 1)])
def test_images_of_single_pixels_pass_through_augmentation(size: Size, seed: int) -> None:
    box = sample_crop(np.random.default_rng(seed), size, (0.08, 1.0))
    seen, _ = crop_and_resize(Image.new("RGB", size, (9, 8, 7)), box, 16, ResizeFilter.BICUBIC, flip=True)
    np.testing.assert_array_equal(seen, np.full((16, 16, 3), (9, 8, 7)))


# --- evaluation


def torchvision_resize_and_centre_crop(image: Image.Image, resize: int, side: int, filter: ResizeFilter) -> np.ndarray:
    """`Resize(resize)` and `CenterCrop(side)`, as their documentation and source say, in two steps of Pillow."""
    width, height = image.size
    if height > width:  # "if height > width, then image will be rescaled to (size * height / width, size)"
        new_width, new_height = resize, int(resize * height / width)
    else:
        new_width, new_height = int(resize * width / height), resize
    # In two calls, since Pillow >= 13 would take the other axis first for some shapes.
    image = image.resize((new_width, height), PILLOW_FILTERS[filter])
    image = image.resize((new_width, new_height), PILLOW_FILTERS[filter])
    top = int(round((new_height - side) / 2.0))  # noqa: RUF046 (as in the source)
    left = int(round((new_width - side) / 2.0))  # noqa: RUF046
    return np.asarray(image)[top : top + side, left : left + side]


@pytest.mark.parametrize("filter", PILLOW_FILTERS)
@pytest.mark.parametrize(
    "size", [(50, 37), (37, 50), (40, 40), (33, 47), (101, 35), (35, 101), (20, 21), (16, 300), (36, 36), (36, 55)]
)
@pytest.mark.parametrize(("resize", "side"), [(36, 32), (37, 32), (36, 31), (32, 32)])
def test_evaluation_pixels_are_torchvisions(
    size: tuple[int, int], resize: int, side: int, filter: ResizeFilter
) -> None:
    noise = np.random.default_rng(size).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    preprocessing = Preprocessing(image_size=side, resize_side=resize, filter=filter)
    seen, _ = resize_and_centre_crop(image, preprocessing)
    assert seen.shape == (side, side, 3)
    np.testing.assert_array_equal(seen, torchvision_resize_and_centre_crop(image, resize, side, filter))


@settings(max_examples=60, deadline=None)
@given(st.integers(40, 120), st.integers(40, 120), st.integers(24, 48), st.integers(0, 16), FILTERS)
def test_evaluation_points_stay_on_their_pixels(
    width: int, height: int, side: int, larger: int, filter: ResizeFilter
) -> None:
    red = np.broadcast_to(255 * (np.arange(width) + 0.5) / width, (height, width))
    green = np.broadcast_to(255 * (np.arange(height)[:, None] + 0.5) / height, (height, width))
    ramps = np.stack([red, green, np.zeros((height, width))], axis=-1).round().astype(np.uint8)
    preprocessing = Preprocessing(image_size=side, resize_side=side + larger, filter=filter)
    seen, view = resize_and_centre_crop(Image.fromarray(ramps), preprocessing)
    centres = (np.arange(side) + 0.5) / side
    grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    source = view.inverse().points(grid)
    scale = max(1.0, min(width, height) / (side + larger))
    margin = (2.5 * scale + 1) / np.array([width, height])
    whole = np.all((source > margin) & (source < 1 - margin), axis=-1)
    np.testing.assert_allclose(seen.reshape(-1, 3)[whole, :2] / 255, source[whole], atol=1.5 / 255)


@pytest.mark.parametrize("filter", ResizeFilter)
@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000), (50_001, 7), (3, 65_500)])
def test_a_picture_of_extreme_shape_takes_little_memory(size: tuple[int, int], filter: ResizeFilter) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen, view = resize_and_centre_crop(image, Preprocessing(filter=filter))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert seen.shape == (224, 224, 3)
    short, long = sorted(size)
    spread = np.asarray(view.matrix).diagonal()
    assert sorted(spread) == pytest.approx(sorted([256 / 224, int(256 * long / short) / 224]))


@pytest.mark.parametrize("filter", ResizeFilter)
@pytest.mark.parametrize("size", [(700, 5), (5, 700), (901, 64), (64, 901), (40, 3)])
@pytest.mark.parametrize("resize", [16, 20, 12])
def test_only_the_middle_resized_is_the_middle_of_all_resized(
    size: tuple[int, int], resize: int, filter: ResizeFilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.fromarray(np.random.default_rng(size).integers(0, 256, (size[1], size[0], 3), np.uint8))
    preprocessing = Preprocessing(image_size=16, resize_side=resize, filter=filter)
    monkeypatch.setattr(transforms, "_MAX_RESIZED_SIDES", 10**9)
    whole, whole_view = resize_and_centre_crop(image, preprocessing)
    monkeypatch.setattr(transforms, "_MAX_RESIZED_SIDES", 2)
    part, part_view = resize_and_centre_crop(image, preprocessing)
    assert np.abs(part.astype(int) - whole).max() <= 1
    np.testing.assert_array_equal(part_view.matrix, whole_view.matrix)
    np.testing.assert_array_equal(part_view.offset, whole_view.offset)


@pytest.mark.parametrize("filter", list(ResizeFilter))
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (333, 500), (256, 256), (512, 300), (41, 29)])
@pytest.mark.parametrize("short", [256, 232, 64])
def test_what_the_centre_crop_keeps_is_what_it_is_in_the_whole_resized_image(
    size: tuple[int, int], filter: ResizeFilter, short: int
) -> None:
    """Bit for bit, whether a side can be resized in part (a short side of 256, 64) or not (232)."""
    pixels = np.random.default_rng(0).choice([0, 255, 90], (size[1], size[0], 3)).astype(np.uint8)
    image, side = Image.fromarray(pixels), short * 7 // 8
    seen, _ = resize_and_centre_crop(image, Preprocessing(image_size=side, resize_side=short, filter=filter))
    scale = short / min(size)
    resized = Size(*(short if length == min(size) else int(short * length / min(size)) for length in size))
    left, top = round((resized.width - side) / 2), round((resized.height - side) / 2)
    whole = resampling.resize_by_pillow(image, resized, filter) if scale != 1 else image
    np.testing.assert_array_equal(seen, np.asarray(whole.crop((left, top, left + side, top + side))))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(20, 260),
    st.integers(20, 260),
    st.sampled_from([(32, 32), (32, 36), (56, 64), (48, 50)]),
    FILTERS,
    st.sampled_from([0, 1, 2]),
    st.booleans(),
    st.sampled_from(["RGB", "L"]),
)
def test_a_jpeg_of_which_a_part_is_decoded_gives_the_pixels_of_the_whole(
    width: int,
    height: int,
    sides: tuple[int, int],
    filter: ResizeFilter,
    subsampling: int,
    progressive: bool,
    mode: str,
) -> None:
    noise = np.random.default_rng(width).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    buffer = io.BytesIO()
    picture = Image.fromarray(noise).resize((width, height)).convert(mode)
    picture.save(buffer, "JPEG", quality=80, subsampling=subsampling, progressive=progressive)
    preprocessing = Preprocessing(image_size=sides[0], resize_side=sides[1], filter=filter)
    part, part_view = evaluation_input(EncodedImage(buffer.getvalue(), "a"), preprocessing, ANY_SIZE)
    whole, whole_view = evaluation_input(decode(buffer.getvalue(), "a"), preprocessing, ANY_SIZE)
    np.testing.assert_array_equal(part, whole)
    np.testing.assert_array_equal(part_view.matrix, whole_view.matrix)


@pytest.mark.skipif(not region_jpeg.is_available(), reason="nvidia-nvimgcodec-cu12 is not installed")
def test_of_a_wide_jpeg_a_part_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above compares: of this image the crop's pixels are made of a third."""
    noise = np.random.default_rng(0).integers(0, 256, (10, 40, 3), np.uint8)
    wide = encoded(Image.fromarray(noise).resize((640, 160)), "JPEG", quality=80)
    preprocessing = Preprocessing(image_size=56, resize_side=64)
    expected, _ = evaluation_input(decode(wide, "a"), preprocessing, ANY_SIZE)

    def whole(self: EncodedImage) -> Image.Image:
        raise AssertionError("all of the image was decoded")

    monkeypatch.setattr(EncodedImage, "whole", whole)
    seen, _ = evaluation_input(EncodedImage(wide, "a"), preprocessing, ANY_SIZE)
    np.testing.assert_array_equal(seen, expected)


def test_a_set_that_is_fed_as_stored_is_not_touched_and_refuses_other_sizes() -> None:
    as_stored = Preprocessing(image_size=32, resize_side=None)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    seen, view = resize_and_centre_crop(Image.fromarray(pixels), as_stored)
    np.testing.assert_array_equal(seen, pixels)
    np.testing.assert_array_equal(view.matrix, np.eye(2))
    for size in ((32, 33), (31, 32), (224, 224)):
        with pytest.raises(DataError, match=f"{size[0]}x{size[1]} pixels.*32x32"):
            resize_and_centre_crop(Image.new("RGB", size), as_stored)


# --- decoding


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("RGBA", "PNG"),
    ],
)
def test_every_kind_of_image_decodes_to_rgb(mode: str, kind: str) -> None:
    grey = Image.new("RGB", (12, 8), (250, 250, 250))
    grey = grey.quantize(4) if mode == "P" else grey.convert(mode)
    decoded = decode(encoded(grey, kind), "a.JPEG")
    assert decoded.mode == "RGB" and decoded.size == (12, 8)
    np.testing.assert_allclose(np.asarray(decoded), 250, atol=5)


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to view"
    assert decode(encoded(Image.new("RGB", (12, 8)), "JPEG", exif=exif), "a.JPEG").size == (12, 8)


PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))


@pytest.mark.parametrize(
    "broken",
    [b"", b"this is text", encoded(PHOTO, "JPEG")[:-200], encoded(PHOTO, "PNG")[:-200], encoded(PHOTO, "JPEG")[:30]],
    ids=["empty", "text", "cut JPEG", "cut PNG", "header of a JPEG"],
)
def test_a_broken_file_is_named(broken: bytes) -> None:
    with pytest.raises(DataError, match=r"n0144/broken\.JPEG: the image cannot be decoded"):
        decode(broken, "n0144/broken.JPEG")


@pytest.mark.filterwarnings("ignore")  # what Pillow says of odd metadata
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"]), st.data())
def test_whatever_happened_to_a_file_it_decodes_or_gives_the_one_error(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(PHOTO, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 120)))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        decoded = decode(bytes(content), "a.JPEG")
    except DataError as e:
        assert "a.JPEG" in str(e)
    else:
        assert decoded.mode == "RGB"


# --- what a suite says of its files


NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def test_squares_of_the_inputs_size_are_fed_as_they_are() -> None:
    """Whatever the checkpoint's `resize_side` is: resizing again is the common mistake with ImageNet-C."""
    preprocessing = Preprocessing(image_size=32, resize_side=40)
    seen, view = evaluation_input(Image.fromarray(NOISE), preprocessing, Stored(side=32))
    np.testing.assert_array_equal(seen, NOISE)
    np.testing.assert_array_equal(view.matrix, np.eye(2))
    again, _ = evaluation_input(Image.fromarray(NOISE), preprocessing, ANY_SIZE)
    assert np.any(again != NOISE)


@pytest.mark.parametrize("filter", PILLOW_FILTERS)
def test_for_another_input_the_whole_square_is_resized(filter: ResizeFilter) -> None:
    preprocessing = Preprocessing(image_size=20, resize_side=25, filter=filter)
    seen, _ = evaluation_input(Image.fromarray(NOISE), preprocessing, Stored(side=32))
    expected = Image.fromarray(NOISE).resize((20, 32), PILLOW_FILTERS[filter]).resize((20, 20), PILLOW_FILTERS[filter])
    np.testing.assert_array_equal(seen, np.asarray(expected))


@pytest.mark.parametrize("size", [(31, 32), (32, 33), (64, 64)])
def test_what_is_not_stored_as_published_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"{size[0]}x{size[1]} pixels, but this set is stored as squares of 32"):
        evaluation_input(Image.new("RGB", size), Preprocessing(image_size=32), Stored(side=32))


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 70), st.integers(20, 70), st.integers(1, 4))
def test_a_border_is_cut_before_anything_else(width: int, height: int, border: int) -> None:
    """The same pixels as of the picture inside; and a point of it is where the maps of both steps put it."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    inner = Image.fromarray(noise[border : height - border, border : width - border])
    preprocessing = Preprocessing(image_size=16, resize_side=18)
    seen, view = evaluation_input(Image.fromarray(noise), preprocessing, Stored(border=border))
    expected, inner_view = evaluation_input(inner, preprocessing, ANY_SIZE)
    np.testing.assert_array_equal(seen, expected)
    point = np.array([[0.4, 0.7]])
    in_inner = (point * [width, height] - border) / [width - 2 * border, height - 2 * border]
    np.testing.assert_allclose(view.points(point), inner_view.points(in_inner), atol=1e-9)


def test_an_image_that_is_all_border_is_refused() -> None:
    with pytest.raises(DataError, match="a border of 2 leaves nothing"):
        evaluation_input(Image.new("RGB", (4, 9)), Preprocessing(image_size=16), Stored(border=2))
