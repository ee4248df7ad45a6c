"""The adversarial backgrounds challenge finds what trying every pair finds, with fewer predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Int, UInt8

from luab_jax.evaluation.procedures import adversarial_backgrounds
from luab_jax.evaluation.procedures.adversarial_backgrounds import Images, Outcome, Search, composed, groups

SIDE = 6


def drawn(num_foregrounds: int, num_backgrounds: int, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)

    def pixels(count: int) -> np.ndarray:
        return rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)

    masks = rng.random((num_foregrounds, SIDE, SIDE)) < 0.6
    labels = rng.integers(0, 3, num_foregrounds).astype(np.int32)
    return Images(pixels(num_foregrounds), masks, labels, pixels(num_backgrounds))


def classify(_: None, pixels: UInt8[Array, "p h w 3"]) -> Int[Array, " p"]:
    """A linear model of three classes, which says "none of them" of dark images."""
    weights = jax.random.normal(jax.random.key(3), (SIDE * SIDE * 3, 3))
    flat = pixels.reshape(len(pixels), -1).astype(jnp.float32) / 255
    return jnp.where(flat.mean(axis=-1) < 0.44, -1, jnp.argmax((flat - 0.5) @ weights, axis=-1))


def biased(_: None, pixels: UInt8[Array, "p h w 3"]) -> Int[Array, " p"]:
    """Right about class 0 unless the corner, which is a background's, is very bright."""
    return (pixels[:, 0, 0, 0] > 252).astype(jnp.int32)


def find_vulnerable(classify: Callable[[None, Any], Array], images: Images, batch_size: int) -> Outcome:
    """The whole search."""
    placed = [jnp.asarray(of) for of in (images.foregrounds, images.masks, images.backgrounds)]
    answer = jax.jit(lambda *pairs: classify(None, composed(*placed, *pairs)))

    def padded(pairs: np.ndarray) -> np.ndarray:
        rows = np.zeros((batch_size, 2), np.int32)
        rows[: len(pairs)] = pairs
        return np.asarray(answer(*rows.T))[: len(pairs)]

    search = Search(padded, images, batch_size=batch_size)
    for group in groups(len(images.foregrounds)):
        search.take(group)
    return search.outcome()


def by_brute_force(images: Images) -> np.ndarray:
    """Every pair, by the formula in floating point."""
    vulnerable = []
    for image, mask, label in zip(images.foregrounds, images.masks, images.labels, strict=True):
        mask = mask[..., None].astype(np.float64)
        composed = [background * (1 - mask) + image * mask for background in images.backgrounds]
        guesses = np.asarray(classify(None, jnp.asarray(np.stack(composed), jnp.uint8)))
        vulnerable.append(bool(np.any(guesses != label)))
    return np.asarray(vulnerable)


@pytest.mark.parametrize(("at_a_time", "batch_size"), [(256, 64), (5, 8), (5, 64), (7, 3)])
def test_it_is_what_trying_every_pair_gives(at_a_time: int, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial_backgrounds, "FOREGROUNDS_AT_A_TIME", at_a_time)
    images = drawn(40, 4)
    found = find_vulnerable(classify, images, batch_size)
    expected = by_brute_force(images)
    assert 0 < expected.sum() < len(expected)
    np.testing.assert_array_equal(found.vulnerable, expected)
    assert found.num_predictions <= 40 * 4


def test_a_background_that_fools_is_tried_first_on_the_next_foregrounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One background fools all: after the first group, each foreground costs one round."""
    monkeypatch.setattr(adversarial_backgrounds, "FOREGROUNDS_AT_A_TIME", 10)
    images = drawn(40, 30)
    images.masks[:, 0, 0] = False
    images.backgrounds[:, 0, 0, 0] = 0
    images.backgrounds[20, 0, 0, 0] = 255
    images = images._replace(labels=np.zeros(40, np.int32))
    found = find_vulnerable(biased, images, 10)
    assert found.vulnerable.all()
    assert found.num_predictions == 10 * 21 + 30


def test_a_model_that_is_never_fooled_sees_every_pair() -> None:
    images = drawn(6, 5)
    images = images._replace(labels=np.full(6, 2, np.int32))
    found = find_vulnerable(lambda _, pixels: jnp.full(len(pixels), 2), images, 4)
    assert not found.vulnerable.any()
    assert found.num_predictions == 30


def test_a_constant_model_keeps_the_foregrounds_of_its_class() -> None:
    """A ninth of the real set, which has as many images of every class."""
    images = drawn(30, 2)
    found = find_vulnerable(lambda _, pixels: jnp.zeros(len(pixels), jnp.int32), images, 7)
    np.testing.assert_array_equal(found.vulnerable, images.labels != 0)
