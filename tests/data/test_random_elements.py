"""What is drawn for an element of the training list: as by Grain and one by one."""

from __future__ import annotations

import grain
import numpy as np
import pytest

from luab_jax.byproducts import geometry
from luab_jax.byproducts.records import Size
from luab_jax.data.random_elements import ElementGenerators, sample_crops
from luab_jax.data.transforms import PixelBox, sample_crop

SEED = 123456
SHAPES = np.random.default_rng(0)
SIZES = np.concatenate(
    [
        SHAPES.integers(1, 700, (300, 2)),
        SHAPES.integers(1, 5, (150, 2)),  # offsets without a choice, which are not drawn
        np.stack([SHAPES.integers(1, 9, 100), np.full(100, 500)], axis=1),  # tries that do not fit
    ]
)


def one_by_one(scale: tuple[float, float]) -> list[tuple[PixelBox, bool]]:
    """By the generators of Grain's `random_map`."""

    def draw(index: int, rng: np.random.Generator) -> tuple[PixelBox, bool]:
        return sample_crop(rng, Size(*SIZES[index].tolist()), scale), bool(rng.random() < 0.5)

    drawn = grain.MapDataset.range(len(SIZES)).random_map(draw, seed=SEED)
    return [drawn[i] for i in range(len(SIZES))]


@pytest.mark.parametrize("scale", [(0.08, 1.0), (1.0, 1.0)])
def test_crops_of_many_elements_are_those_of_each(scale: tuple[float, float]) -> None:
    crops = sample_crops(ElementGenerators(SEED), np.arange(len(SIZES)), SIZES, scale)
    views = crops.views(SIZES)
    for i, (box, flip) in enumerate(one_by_one(scale)):
        assert (crops.boxes[i], crops.flips[i]) == (box, flip), SIZES[i]
        width, height = SIZES[i].tolist()
        view = geometry.crop(
            box.left / width, box.top / height, (box.left + box.width) / width, (box.top + box.height) / height
        )
        view = view.then(geometry.flip_horizontal()) if flip else view
        assert view.matrix.tobytes() == views[i].matrix.tobytes()
        assert view.offset.tobytes() == views[i].offset.tobytes()


def test_an_element_has_its_numbers_wherever_it_stands() -> None:
    generators = ElementGenerators(SEED)
    far = 1 << 40  # an endless list of a million images is there after a million epochs
    together = generators.first_numbers(np.array([5, far, 7]))
    alone = generators.first_numbers(np.array([far]))
    np.testing.assert_array_equal(together[1], alone[0])
    assert len(set(together.ravel().tolist())) == together.size
