"""Pixels against PIL's transforms; points, boxes and heat maps against the pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from luab_jax.augmentation import geometry
from luab_jax.augmentation.geometry import Sampling, moved, resample, rotation, shear, shift
from luab_jax.byproducts.kinds import TargetKind
from tests.augmentation.pictures import centre_of_light, dotted, pictures

SIDE = 48
IMAGES = pictures(4, SIDE)
FILL = (124.0, 116.0, 104.0)
WITH_FILL = {"resample": Image.Resampling.BILINEAR, "fillcolor": (124, 116, 104)}


def column(value: float, count: int = len(IMAGES)) -> jax.Array:
    return jnp.full(count, float(value))


def by_pil(image: np.ndarray, name: str, amount: float) -> np.ndarray:
    picture = Image.fromarray(image)
    if name == "rotate":
        return np.asarray(picture.rotate(amount, **WITH_FILL))
    matrix = {
        "shear_x": (1, amount, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, amount, 1, 0),
        "shift_x": (1, 0, amount * SIDE, 0, 1, 0),
        "shift_y": (1, 0, 0, 0, 1, amount * SIDE),
    }[name]
    return np.asarray(picture.transform(picture.size, Image.Transform.AFFINE, matrix, **WITH_FILL))


def sampling(name: str, amount: float, count: int = len(IMAGES)) -> Sampling:
    amounts, zero = column(amount, count), column(0, count)
    return {
        "rotate": lambda: rotation(amounts),
        "shear_x": lambda: shear(amounts, zero),
        "shear_y": lambda: shear(zero, amounts),
        "shift_x": lambda: shift(amounts, zero),
        "shift_y": lambda: shift(zero, amounts),
    }[name]()


OPERATIONS = [
    (name, sign * amount)
    for name, amount in (("rotate", 27.0), ("shear_x", 0.27), ("shear_y", 0.27), ("shift_x", 0.37), ("shift_y", 0.37))
    for sign in (-1, 1)
]


@pytest.mark.parametrize(("name", "amount"), OPERATIONS)
def test_pixels_are_pils(name: str, amount: float) -> None:
    """Within a level, but where rounding decides whether a pixel still belongs to the image."""
    ours = np.asarray(resample(jnp.asarray(IMAGES, jnp.float32), [sampling(name, amount)], FILL)).astype(int)
    expected = np.stack([by_pil(image, name, amount) for image in IMAGES]).astype(int)
    difference = np.abs(ours - expected).max(-1)
    assert (difference > 1).mean() < 0.002
    assert (difference == 0).mean() > 0.95


def test_nothing_changes_nothing() -> None:
    images = jnp.asarray(IMAGES, jnp.float32)
    assert np.array_equal(resample(images, [shift(column(0), column(0))] * 2, FILL), images)


def test_two_resamplings_are_one_after_the_other() -> None:
    """What the first moved off the image does not come back: as PIL, twice, but for one interpolation less."""
    there, back = sampling("shift_x", 0.25), sampling("shift_x", -0.25)
    result = np.asarray(resample(jnp.asarray(IMAGES, jnp.float32), [there, back], FILL))
    assert np.array_equal(result[:, :, 12:], IMAGES[:, :, 12:])
    assert np.array_equal(result[:, :, :12], np.broadcast_to(FILL, result[:, :, :12].shape))
    turned = [sampling("rotate", 20), sampling("shear_x", 0.2)]
    result = np.asarray(resample(jnp.asarray(IMAGES, jnp.float32), turned, FILL))
    twice = np.stack([by_pil(by_pil(image, "rotate", 20), "shear_x", 0.2) for image in IMAGES])
    assert np.abs(result - twice).mean() < 4


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(OPERATIONS), min_size=2, max_size=2),
    st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)),
    st.floats(0.0, 1.0),
)
def test_a_dot_follows_its_point(
    operations: list[tuple[str, float]], place: tuple[float, float], strength: float
) -> None:
    """Through two operations in a row, and it is gone from the pixels where its point is not valid."""
    side = 64
    point = np.asarray([place], np.float32)
    samplings = [sampling(name, strength * amount, 1) for name, amount in operations]
    image = resample(jnp.asarray(dotted(point, side), jnp.float32), samplings, (0.0, 0.0, 0.0))
    values, valid = moved(TargetKind.POINT, jnp.asarray(point)[:, None], samplings)
    light = np.asarray(image).sum() / dotted(point, side).astype(float).sum()
    if not valid[0, 0]:
        assert light < 0.65  # at most half of a dot is on the image if its centre is not
        assert not values.any()
    elif light > 0.95:
        assert np.abs(np.asarray(values[0]) - centre_of_light(np.asarray(image))).max() < 0.7 / side
    else:
        assert light > 0.12  # a quarter, in a corner


def test_points_and_sampling_are_inverse() -> None:
    xy = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (4, 5, 2)), jnp.float32)
    for name, amount in OPERATIONS:
        there = sampling(name, amount).points(xy)
        back = jnp.stack(sampling(name, amount).at(there[..., 0], there[..., 1]), -1)
        np.testing.assert_allclose(back, xy, atol=1e-5)


@pytest.mark.parametrize(("name", "amount"), OPERATIONS)
def test_a_moved_box_holds_the_moved_pixels_of_the_box(name: str, amount: float) -> None:
    side, box = 64, np.asarray([[[0.25, 0.375, 0.625, 0.5]]], np.float32)
    image = np.zeros((1, side, side, 3), np.float32)
    image[:, 24:32, 16:40] = 255
    result = np.asarray(resample(jnp.asarray(image), [sampling(name, amount, 1)], (0.0, 0.0, 0.0)))[0, ..., 0] > 127
    values, valid = moved(TargetKind.BOX, jnp.asarray(box), [sampling(name, amount, 1)])
    assert valid.all() and result.any()
    rows, columns = np.flatnonzero(result.any(1)), np.flatnonzero(result.any(0))
    pixels = np.asarray([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / side
    np.testing.assert_allclose(values[0, 0], pixels, atol=1.6 / side)


def test_a_box_that_leaves_is_not_valid() -> None:
    boxes = jnp.asarray([[[0.0, 0.2, 0.3, 0.4], [0.3, 0.2, 0.6, 0.4]]])
    values, valid = moved(TargetKind.BOX, boxes, [sampling("shift_x", 0.4, 1)])
    assert valid.tolist() == [[False, True]]
    np.testing.assert_allclose(values[0], [[0, 0, 0, 0], [0, 0.2, 0.2, 0.4]], atol=1e-6)


def test_a_heat_map_moves_with_the_picture_and_keeps_sum_one() -> None:
    """A quarter of the image to the left: one column of four is gone, the rest moves by a cell."""
    heat = np.random.default_rng(0).uniform(0, 1, (1, 1, 4, 4))
    heat /= heat.sum()
    values, valid = moved(
        TargetKind.DISTRIBUTION, jnp.asarray(heat.reshape(1, 1, 16), jnp.float32), [sampling("shift_x", 0.25, 1)]
    )
    expected = np.zeros((4, 4))
    expected[:, :3] = heat[0, 0][:, 1:]
    np.testing.assert_allclose(values[0, 0].reshape(4, 4), expected / expected.sum(), atol=1e-6)
    assert valid.all()
    gone = np.zeros((1, 1, 16), np.float32)
    gone[..., 0] = 1
    values, valid = moved(TargetKind.DISTRIBUTION, jnp.asarray(gone), [sampling("shift_x", 0.45, 1)])
    assert not valid.any() and not values.any()


def test_what_has_no_place_stays() -> None:
    numbers = jnp.asarray([[[1.5]], [[-3.0]]])
    for kind in (TargetKind.NUMBER, TargetKind.CLASS):
        values, valid = moved(kind, numbers, [sampling("shift_x", 0.45, 2)])
        assert np.array_equal(values, numbers) and valid.all()


def test_only_square_images_are_taken() -> None:
    with pytest.raises(ValueError, match="20 x 10 pixels are not square"):
        geometry.resample(jnp.zeros((1, 10, 20, 3)), [sampling("shift_x", 0.1, 1)], FILL)
