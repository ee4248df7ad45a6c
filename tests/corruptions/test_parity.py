"""On photos: with the same draws the same pixels as published packages.

The packages draw from a stand-in for numpy.random that writes the draws down; ours are then given the same ones. So the
random kinds are proved to the pixel too, apart from their generator (`test_noise.py`, `benchmarks/corruptions.py`).
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from benchmarks import corruption_references as references
from benchmarks.photos import PHOTOS
from luab_jax.corruptions import parameters

pytestmark = [
    pytest.mark.skipif(
        bool(references.missing()), reason=f"parity needs pip install {' and '.join(references.missing())}"
    ),
    pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"parity needs photos in {PHOTOS} (LUAB_JAX_TEST_DATA)"),
]
PIXELS = ("contrast", "pixelate", "jpeg_compression")
"""Equal to the bit."""

ONE_LEVEL = ("brightness", "saturate")
"""Many of whose values are whole by their formula: which of them double precision leaves just below, and so cuts off to
the level under it, is chance."""

OWN_GENERATOR = ("shot_noise", "impulse_noise")
SEVERITIES = [s if s in (1, 4) else pytest.param(s, marks=pytest.mark.slow) for s in parameters.SEVERITIES]
NAMES = [n for n in (*parameters.NAMES, *parameters.EXTRA_NAMES) if n not in OWN_GENERATOR]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return references.centre_crop(sorted(PHOTOS.glob("*/*.JPEG"))[20])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_same_draws_give_the_same_pixels(name: str, severity: int, photo: np.ndarray) -> None:
    image = photo[80:144, 80:144] if name == "glass_blur" else photo  # the reference takes seconds for all of it
    with warnings.catch_warnings(action="ignore"):
        theirs, draws = references.with_draws(name, image, severity, seed=severity)
    ours = references.ours_with_same_draws(name, image, severity, draws)
    difference = np.abs(ours.astype(int) - theirs)
    if name == "snow":
        # The authors cut the enlarged flakes to the image before they blow, `imagecorruptions` after.
        reach = 2 * parameters.SNOW[severity - 1].motion.radius + 2
        difference = difference[reach:-reach, reach:-reach]
    if name in PIXELS:
        assert difference.max() == 0
    elif name == "spatter":
        # A drop of one pixel more or less, where a value is at the threshold.
        assert (difference > 1).mean() < 1e-3 and (difference > 0).mean() < 5e-3
    else:
        assert difference.max() <= 1
        assert (difference > 0).mean() < (0.3 if name in ONE_LEVEL else 0.05)
