"""What holds for every corruption, and for the table of them; no package of reference is needed."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from luab_jax.corruptions import frost_photos, parameters
from luab_jax.corruptions.corrupt import CORRUPTIONS, corrupt, image_keys
from luab_jax.corruptions.frost_photos import packaged_photos, read_photos, stack_photos
from luab_jax.corruptions.weather import frost
from luab_jax.errors import ConfigError, DataError

SIDE = 48
PHOTOS = stack_photos([np.full((60 + 5 * i, 90 - i, 3), 150 + 20 * i, np.uint8) for i in range(5)])
DETERMINISTIC = (
    *("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"),
    *("gaussian_blur", "saturate"),
)
GROWING = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "defocus_blur", "motion_blur", "zoom_blur"),
    *("gaussian_blur", "brightness", "contrast", "pixelate", "jpeg_compression"),
)
"""Kinds whose constants go one way; those of the others do not (saturate first takes away, then adds)."""

QUICK = ("saturate", "spatter", "motion_blur")
"""Kinds that are run step by step, uncompiled, without asking for slow tests."""


def drawn_image(seed: int, side: int = SIDE) -> np.ndarray:
    """Coloured blocks with some noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(30, 220, (side // 8, side // 8, 3)).repeat(8, 0).repeat(8, 1)
    return np.clip(blocks + rng.normal(0, 8, blocks.shape), 0, 255).astype(np.uint8)


def run(images: np.ndarray, keys: jax.Array, name: str, severity: int = 3) -> np.ndarray:
    return np.asarray(corrupt(images, keys, name=name, severity=severity, photos=PHOTOS))


def test_there_are_fifteen_and_four() -> None:
    assert list(CORRUPTIONS) == [*parameters.NAMES, *parameters.EXTRA_NAMES]
    assert (len(parameters.NAMES), len(parameters.EXTRA_NAMES)) == (15, 4)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_depends_on_its_own_key_and_not_on_its_neighbours(name: str) -> None:
    a, b, c = drawn_image(0), drawn_image(1), drawn_image(2)
    keys = image_keys(["a", "b", "c"], name, 3)
    first = run(np.stack([a, b]), keys[:2], name)
    assert first.shape == (2, SIDE, SIDE, 3) and first.dtype == np.uint8
    assert not np.array_equal(first[0], a), "nothing was changed"
    moved = run(np.stack([c, a]), keys[np.array([2, 0])], name)
    assert np.array_equal(moved[1], first[0])
    other_key = run(np.stack([a, b]), keys[np.array([1, 0])], name)
    assert np.array_equal(other_key[0], first[0]) == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CORRUPTIONS])
def test_compiling_changes_hardly_a_pixel(name: str) -> None:
    """`test_parity.py` proves the functions step by step."""
    image, key = drawn_image(0), image_keys(["a"], name, 4)
    image[:8, :8] = 128
    compiled = run(np.stack([image, image]), key[np.array([0, 0])], name, severity=4)[0].astype(int)
    function = functools.partial(frost, photos=PHOTOS) if name == "frost" else CORRUPTIONS[name]
    difference = np.abs(np.asarray(function(jax.numpy.asarray(image), 4, key[0])) - compiled)
    assert (difference > 1).mean() < 1e-3 and (difference > 0).mean() < 0.02


@pytest.mark.parametrize("name", ["gaussian_noise", "elastic_transform"])
def test_the_size_of_the_batch_does_not_matter(name: str) -> None:
    images, keys = np.stack([drawn_image(i) for i in range(3)]), image_keys(["a", "b", "c"], name, 3)
    alone = np.concatenate([run(images[i : i + 1], keys[i : i + 1], name) for i in range(3)])
    together = run(images, keys, name).astype(int)
    # The compiler may order a sum in another way for another shape, which is seen where a value is cut off to a whole.
    assert np.abs(alone - together).max() <= 1 and np.mean(alone != together) < 1e-3


@pytest.mark.parametrize("name", GROWING)
def test_a_higher_severity_changes_more(name: str) -> None:
    image = np.roll(drawn_image(3), (3, 3), (0, 1))  # its blocks are not to lie on those of pixelate
    changed = [run(image[None], image_keys(["a"], name, 0), name, severity)[0] for severity in (1, 3, 5)]
    differences = [np.abs(pixels - image.astype(float)).mean() for pixels in changed]
    assert differences == sorted(differences) and differences[0] > 0


@pytest.mark.parametrize("severity", [4, 5])
def test_saturated_grey_turns_reddish_compiled_or_not(severity: int) -> None:
    """As scikit-image gives grey the hue of red. A compiler may leave a rounding between equal channels."""
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
    addend = parameters.SATURATE[severity - 1][1]
    others = np.floor(grey[..., 0] * (1 - addend) + 1e-6)
    expected = np.stack([grey[..., 0], others, others], axis=-1)
    compiled = corrupt(grey[None], image_keys(["a"], "saturate", severity), name="saturate", severity=severity)[0]
    assert np.array_equal(compiled, expected)
    assert np.array_equal(CORRUPTIONS["saturate"](jax.numpy.asarray(grey), severity, jax.random.key(0)), expected)


@pytest.mark.parametrize("name", ["shot_noise", "contrast", "fog", "spatter", "saturate", "brightness", "snow"])
def test_black_and_white_images_give_no_nonsense(name: str) -> None:
    images = np.stack([np.full((SIDE, SIDE, 3), level, np.uint8) for level in (0, 255)])
    black, white = run(images, image_keys(["a", "b"], name, 3), name).astype(int)
    if name in ("contrast", "shot_noise", "saturate", "fog"):
        assert (black == 0).all()
    if name in ("contrast", "brightness"):
        assert (white == 255).all()
    assert black.mean() < 200 and white.mean() > 50


def test_keys_depend_on_everything_that_they_should() -> None:
    words = {
        jax.random.key_data(key).tobytes()
        for seed in (0, 1)
        for name in ("fog", "snow")
        for severity in (1, 2)
        for key in image_keys(["a", "b"], name, severity, seed)
    }
    assert len(words) == 16
    again = image_keys(["b"], "fog", 1)[0]
    assert jax.random.key_data(again).tolist() == jax.random.key_data(image_keys(["a", "b"], "fog", 1)[1]).tolist()


def test_a_wrong_name_or_severity_is_refused() -> None:
    images, keys = drawn_image(0)[None], image_keys(["a"], "fog", 1)
    with pytest.raises(ConfigError, match=r"no corruption is called 'fogg'; there are gaussian_noise, "):
        corrupt(images, keys, name="fogg", severity=1)
    with pytest.raises(ConfigError, match=r"fog: severity 6, expected 1 to 5"):
        corrupt(images, keys, name="fog", severity=6)


def test_frost_without_photos_says_where_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(frost_photos, "PACKAGE", "no_such_package")
    packaged_photos.cache_clear()
    with pytest.raises(DataError, match=r"frost needs photographs .* pip install .* or give a folder"):
        frost(jax.numpy.zeros((8, 8, 3), jax.numpy.uint8), 1, jax.random.key(0))
    with pytest.raises(DataError, match=r"frost1\.png: no photograph of frost to be read"):
        read_photos(tmp_path)


def test_frost_refuses_photos_that_are_smaller_than_the_image() -> None:
    image = jax.numpy.zeros((64, 64, 3), jax.numpy.uint8)
    with pytest.raises(DataError, match=r"frost1\.png: 60 x 90 pixels"):
        frost(image, 1, jax.random.key(0), PHOTOS)


def test_frost_takes_crops_of_every_photo_and_of_every_place() -> None:
    pages = [np.dstack([np.full((40, 50), 40 * i), *(4 * np.mgrid[:40, :50])]).astype(np.uint8) for i in range(5)]
    draw = jax.jit(functools.partial(frost, photos=stack_photos(pages)), static_argnums=1)
    black = jax.numpy.zeros((32, 32, 3), jax.numpy.uint8)
    corners = np.stack([draw(black, 5, key)[0, 0] for key in jax.random.split(jax.random.key(0), 300)])
    # Of the severity's weight of 0.75 a fourfold coordinate keeps three parts.
    assert set(corners[:, 0]) == {0, 30, 60, 90, 120}
    assert set(corners[:, 1] // 3) == set(range(8)) and set(corners[:, 2] // 3) == set(range(18))
