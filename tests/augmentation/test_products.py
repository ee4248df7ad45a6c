"""What a TPU does in place of scatters and gathers gives their numbers to the bit."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.augmentation import geometry, products, tones
from luab_jax.augmentation.rand_augment import OPERATIONS, Layer, sampling
from tests.augmentation.pictures import pictures

MOVES = [number for number, name in enumerate(OPERATIONS) if name.startswith(("rotate", "shear", "shift"))]


def test_counting_and_looking_up() -> None:
    values = jnp.asarray(pictures(4), jnp.int32).reshape(4, -1, 3)
    counts = products.histograms(values)
    assert np.array_equal(counts, tones.histograms(values))
    assert np.array_equal(counts.sum(-1), np.full((4, 3), 48 * 48))
    table = jnp.asarray(np.random.default_rng(0).integers(0, 256, counts.shape), jnp.int32)
    assert np.array_equal(products.looked_up(values, table), tones.looked_up(values, table))


def layer(operations: np.ndarray, sign: np.ndarray) -> Layer:
    """At the largest level."""
    return Layer(jnp.asarray(operations), jnp.ones(len(operations)), jnp.asarray(sign, jnp.float32))


_ALL = [(*pair, *signs) for pair in itertools.product(MOVES, MOVES) for signs in itertools.product((-1, 1), (-1, 1))]
PAIRS = [layer(np.asarray(_ALL)[:, place], np.asarray(_ALL)[:, 2 + place]) for place in (0, 1)]
"""All pairs of operations in all directions."""


@pytest.mark.parametrize("side", [70, 24])
def test_neighbours_of_moved_pixels(side: int) -> None:
    """Of sides that blocks do not divide, or exceed."""
    drawn = np.random.default_rng(side).permutation(len(PAIRS[0].level))[:12]
    maps = [jax.tree.map(lambda column: column[drawn], sampling(each)) for each in PAIRS]
    sources = geometry._sources(maps, side)
    images = np.random.default_rng(0).integers(0, 256, (len(drawn), side, side, 3)).astype(np.float32)
    arguments = (jnp.asarray(images), sources.rows(side), sources.columns(side))
    expected = geometry.packed_at(*arguments)
    found = jax.jit(products.packed_at)(*arguments)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours, theirs)


def test_no_pair_of_operations_is_steeper_than_the_parts_of_an_image_allow() -> None:
    """At their largest levels; a map's slopes grow with them."""
    first, second = (np.asarray(sampling(each).matrix, np.float64) for each in PAIRS)
    steepest = np.abs(first @ second).sum(-1).max()
    assert 1.6 < steepest < products.STEEPEST
