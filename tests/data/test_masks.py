"""Segmentations become the pixels that COCO means, and follow the image into the model's input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from luab_jax.byproducts.geometry import crop, identity
from luab_jax.byproducts.records import Size
from luab_jax.data.masks import rasterise, view_mask
from luab_jax.data.transforms import Preprocessing, resize_and_centre_crop
from luab_jax.errors import DataError


def test_polygons_cover_what_they_enclose() -> None:
    square, triangle = [2, 1, 6, 1, 6, 4, 2, 4], [10, 0, 14, 0, 10, 8]
    mask = rasterise(json.dumps([square, triangle]), Size(16, 9))
    expected = np.zeros((9, 16), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(mask[:, :9], expected[:, :9])
    assert abs(int(mask[:, 9:].sum()) - 16) <= 4, "half of 4 x 8, but for the pixels of the edge"
    assert mask[0, 10]
    assert not mask[7, 13]


def test_run_lengths_go_down_the_columns() -> None:
    mask = rasterise(json.dumps({"counts": [1, 3, 4], "size": [4, 2]}), Size(2, 4))
    np.testing.assert_array_equal(mask, np.asarray([[0, 0], [1, 0], [1, 0], [1, 0]], bool))


def test_compressed_run_lengths_are_those_of_pycocotools() -> None:
    from pycocotools import mask as coco_mask  # pyright: ignore[reportMissingTypeStubs]

    drawn = np.random.default_rng(0).random((13, 7)) < 0.4
    encoded = coco_mask.encode(np.asfortranarray(drawn.astype(np.uint8)))
    text = json.dumps({"counts": encoded["counts"].decode(), "size": [13, 7]})
    np.testing.assert_array_equal(rasterise(text, Size(7, 13)), drawn)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "7",
        "[]",
        "[[1,2]]",
        "[[1,2,3]]",
        '[["a",1,2,3,4,5]]',
        '{"size":[4,2]}',
        '{"counts":[1,3,4],"size":[2,4]}',
        '{"counts":"zzzzzzzz","size":[4,2]}',
        '{"counts":[1,3],"size":[4,2]}',
        '{"counts":5,"size":[4,2]}',
    ],
)
def test_what_is_no_segmentation_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        rasterise(text, Size(2, 4))


def test_polygons_that_leave_the_image_take_no_memory() -> None:
    mask = rasterise("[[-1e9,-1e9,1e12,-1e9,1e12,1e12,-1e9,1e12]]", Size(30, 20))
    assert mask.all()


@pytest.mark.parametrize("size", [Size(40, 60), Size(61, 33), Size(32, 32)])
def test_a_mask_lies_where_the_object_lies_in_the_input(size: Size) -> None:
    """A bright disc and its mask, through the evaluation's preprocessing: equal but for the rim."""
    y, x = np.mgrid[: size.height, : size.width]
    disc = (x - size.width * 0.45) ** 2 + (y - size.height * 0.55) ** 2 < (min(size) / 4) ** 2
    image = Image.fromarray((255 * disc[..., None]).repeat(3, axis=2).astype(np.uint8))
    pixels, view = resize_and_centre_crop(image, Preprocessing(image_size=56, resize_side=64))
    seen = view_mask(disc, view, 56)
    assert seen.sum() > 300
    assert np.mean(seen != (pixels[..., 0] > 127)) < 0.02


def test_outside_of_the_image_there_is_no_object() -> None:
    mask = np.ones((10, 10), bool)
    assert view_mask(mask, identity(), 8).all()
    wider = view_mask(mask, crop(-0.5, 0.0, 1.5, 1.0), 8)
    np.testing.assert_array_equal(wider[0], [0, 0, 1, 1, 1, 1, 0, 0])
