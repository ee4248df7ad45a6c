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


def layer(operations: np.ndarray, sign: np.ndarray, level: float = 1.0) -> Layer:
    return Layer(jnp.asarray(operations), jnp.full(len(operations), level), jnp.asarray(sign, jnp.float32))


_ALL = [(*pair, *signs) for pair in itertools.product(MOVES, MOVES) for signs in itertools.product((-1, 1), (-1, 1))]
_OPERATIONS, _SIGNS = np.asarray(_ALL).T[:2], np.asarray(_ALL).T[2:]
"""Of both layers: all pairs of operations in all directions."""


def slopes(first: float, second: float) -> np.ndarray:
    """The larger |∂/∂x| + |∂/∂y| of either old coordinate, of each of `_ALL` at these levels."""
    maps = [sampling(layer(*of, level)).matrix for *of, level in zip(_OPERATIONS, _SIGNS, (first, second), strict=True)]
    matrices = [np.asarray(matrix, np.float64) for matrix in maps]
    return np.abs(matrices[0] @ matrices[1]).sum(-1).max(-1)


def steepest_pair() -> int:
    return int(slopes(1.0, 1.0).argmax())


@pytest.mark.parametrize("side", [70, 24])
def test_neighbours_of_moved_pixels(side: int) -> None:
    """Of sides that blocks do not divide, or exceed; of the steepest pair and some others at their largest levels."""
    others = np.random.default_rng(side).permutation(len(_ALL))[:11]
    drawn = np.asarray([steepest_pair(), *others])
    maps = [sampling(layer(of[drawn], signs[drawn])) for of, signs in zip(_OPERATIONS, _SIGNS, strict=True)]
    sources = geometry._sources(maps, side)
    images = np.random.default_rng(0).integers(0, 256, (len(drawn), side, side, 3)).astype(np.float32)
    arguments = (jnp.asarray(images), sources.rows(side), sources.columns(side))
    expected = geometry.packed_at(*arguments)
    found = jax.jit(products.packed_at)(*arguments)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours, theirs)


def test_no_pair_of_operations_is_steeper_than_the_parts_of_an_image_allow() -> None:
    """At any levels: two rotations are steepest where they add up to 45 degrees, of 60."""
    levels = np.linspace(0.0, 1.0, 9)
    found = max(slopes(first, second).max() for first in levels for second in levels)
    assert 1.6 < found < products.STEEPEST
    assert found == slopes(1.0, 1.0)[steepest_pair()], "the pair that is drawn above"
    names = {OPERATIONS[number].split("_")[0] for number in _OPERATIONS[:, steepest_pair()]}
    assert names == {"rotate", "shear"}
