"""Counts against the distributions that the noises are defined by."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.corruptions import parameters
from luab_jax.corruptions.noise import impulse_noise, shot_noise

SIDE = 128
VALUES = SIDE * SIDE * 3


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("level", [1, 100, 255])
def test_shot_noise_counts_photons(severity: int, level: int) -> None:
    photons = parameters.SHOT_NOISE[severity - 1]
    image = jnp.full((SIDE, SIDE, 3), level, jnp.uint8)
    counts = np.ceil(np.asarray(shot_noise(image, severity, jax.random.key(level)), float) / 255 * photons)
    rate = level / 255 * photons
    expected = [math.exp(k * math.log(rate) - rate - math.lgamma(k + 1)) for k in range(photons)]
    expected.append(1 - sum(expected))
    for k, share in enumerate(expected):
        deviation = math.sqrt(max(share * (1 - share), 0) / VALUES)
        assert abs((counts == k).mean() - share) <= 4.5 * deviation + 1e-4, k


@pytest.mark.parametrize("severity", [1, 5])
def test_impulse_noise_is_salt_and_pepper_on_each_channel_alone(severity: int) -> None:
    amount = parameters.IMPULSE_NOISE[severity - 1]
    image = jnp.full((SIDE, SIDE, 3), 99, jnp.uint8)
    pixels = np.asarray(impulse_noise(image, severity, jax.random.key(0)))
    assert set(np.unique(pixels)) == {0, 99, 255}
    deviation = math.sqrt(amount * (1 - amount) / VALUES)
    assert abs((pixels != 99).mean() - amount) < 4 * deviation
    for level in (0, 255):
        assert abs((pixels == level).mean() - amount / 2) < 4 * deviation
    all_hit = (pixels != 99).all(-1).mean()
    assert abs(all_hit - amount**3) < 4 * math.sqrt(amount**3 / SIDE**2)
