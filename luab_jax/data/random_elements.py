"""The random numbers of each element of the endless training list, and the crops that are drawn with them.

Element i has the generator that Grain's `random_map` gives it: Philox with the operation's seed as key and i in its
counter. It is made here because worker processes do without Grain, which loads jax. A crop that fits at the first try,
as nearly all do, takes the first four numbers of 64 bits; these are turned into crops for many elements at once, to the
same bits as one by one.
"""

from __future__ import annotations

import math
import threading
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt64

from luab_jax.byproducts.geometry import Affines
from luab_jax.byproducts.records import Size
from luab_jax.data.transforms import CROP_RATIO, PixelBox, sample_crop

_LOW_32 = np.uint64(0xFFFFFFFF)


class ElementGenerators:
    """Generators of elements by their place in the list; safe in threads, where each has one of its own."""

    def __init__(self, seed: int):
        self._seed = seed
        self._threads = threading.local()

    def __reduce__(self) -> Any:
        return ElementGenerators, (self._seed,)

    def at(self, position: int) -> np.random.Generator:
        """At its beginning; the next call in this thread returns the same generator for another element."""
        if not hasattr(self._threads, "generator"):
            bits = np.random.Philox(self._seed)
            self._threads.state = bits.state | {"buffer": np.zeros(4, np.uint64), "buffer_pos": 4, "has_uint32": 0}
            self._threads.generator = np.random.Generator(bits)
        state: Any = self._threads.state
        state["state"]["counter"] = np.array((0, 0, 0, position), np.uint64)
        self._threads.generator.bit_generator.state = state
        return self._threads.generator

    def first_numbers(self, positions: Int[np.ndarray, " n"]) -> UInt64[np.ndarray, "n 4"]:
        """The first four of each element."""
        numbers = np.empty((len(positions), 4), np.uint64)
        for row, position in zip(numbers, positions.tolist(), strict=True):
            row[:] = self.at(position).bit_generator.random_raw(4)
        return numbers


class Crops(NamedTuple):
    """Where images are cut, and whether they are mirrored then."""

    boxes: list[PixelBox]
    flips: Bool[np.ndarray, " n"]

    def views(self, sizes: Int[np.ndarray, "n 2"]) -> Affines:
        """From fractions of the whole images to fractions of what is cut; the same bits as by `crop_and_resize`."""
        boxes = np.asarray(self.boxes, np.int64)
        low, high = boxes[:, :2] / sizes, (boxes[:, :2] + boxes[:, 2:]) / sizes
        scale, offset = 1 / (high - low), -low / (high - low)
        scale[self.flips, 0] *= -1
        offset[self.flips] = offset[self.flips] * (-1.0, 1.0) + (1.0, 0.0)
        matrix = np.zeros((len(boxes), 2, 2))
        matrix[:, 0, 0], matrix[:, 1, 1] = scale[:, 0], scale[:, 1]
        return Affines(matrix, offset)


def sample_crops(
    generators: ElementGenerators,
    positions: Int[np.ndarray, " n"],
    sizes: Int[np.ndarray, "n 2"],
    scale: tuple[float, float],
) -> Crops:
    """For elements and the sizes of their images (width, height), what `sample_crop` and one more number draw."""
    numbers = generators.first_numbers(positions)
    areas, aspects = (numbers[:, :2] >> np.uint64(11)).T * 2.0**-53
    areas = (sizes[:, 0] * sizes[:, 1]) * (scale[0] + (scale[1] - scale[0]) * areas)
    low, high = math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])
    # One by one: numpy's exp differs from math's in the last bit on some machines.
    aspects = np.asarray([math.exp(value) for value in (low + (high - low) * aspects).tolist()])
    sides = np.rint(np.sqrt(np.stack([areas * aspects, areas / aspects], axis=1))).astype(np.int64)
    room = sizes - sides
    offsets, exact = _integers(numbers[:, 2], room)
    at_first = ((sides > 0) & (room >= 0)).all(axis=1) & exact
    # A number without a choice is not drawn, and two of 32 bits share one of 64.
    flips = np.where((room == 0).all(axis=1), numbers[:, 2], numbers[:, 3]) >> np.uint64(11) < np.uint64(1 << 52)
    boxes = [PixelBox(*row) for row in np.concatenate([offsets, sides], axis=1).tolist()]
    for i in np.flatnonzero(~at_first).tolist():
        generator = generators.at(int(positions[i]))
        boxes[i] = sample_crop(generator, Size(*sizes[i].tolist()), scale)
        flips[i] = generator.random() < 0.5
    return Crops(boxes, flips)


def _integers(
    numbers: UInt64[np.ndarray, " n"], room: Int[np.ndarray, "n 2"]
) -> tuple[Int[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    """Two integers from 0 to `room`, as numpy draws them from one number: by Lemire's multiplication (ACM TOMACS 2019).

    And whether no further number was needed, as it is once in millions.
    """
    drawn = np.stack([numbers & _LOW_32, numbers >> np.uint64(32)], axis=1)
    drawn[:, 1] = np.where(room[:, 0] == 0, drawn[:, 0], drawn[:, 1])
    choices = (np.maximum(room, 0) + 1).astype(np.uint64)
    products = drawn * choices
    exact = ((products & _LOW_32) >= choices) | (choices == 1)
    return (products >> np.uint64(32)).astype(np.int64), exact.all(axis=1)
