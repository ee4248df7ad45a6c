"""Pictures that show what an operation does to them: smooth colours with edges, noise and flat parts."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(seed: int, side: int = 48) -> UInt8[np.ndarray, "side side 3"]:
    """Gradients, a block, a dark low-contrast half and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    waves = [np.sin(rng.uniform(2, 9) * x + rng.uniform(2, 9) * y + rng.uniform(0, 6)) for _ in range(3)]
    levels = 110 + 70 * np.stack(waves, -1) + rng.normal(0, 4, (side, side, 3))
    top, left = rng.integers(4, side // 2, 2)
    levels[top : top + side // 4, left : left + side // 3] = rng.integers(0, 256, 3)
    levels[:, side // 2 :] *= rng.uniform(0.4, 1.0)
    return np.clip(levels, 3, 250).astype(np.uint8)


def pictures(count: int, side: int = 48) -> UInt8[np.ndarray, "b side side 3"]:
    return np.stack([picture(seed, side) for seed in range(count)])


def dotted(points: np.ndarray, side: int, radius: float = 2.5) -> UInt8[np.ndarray, "b side side 3"]:
    """Black pictures with a soft white dot around one point each, in fractions."""
    at = (np.arange(side) + 0.5)[None, :]
    x, y = (points[:, i : i + 1] * side for i in (0, 1))
    squared = (at - x)[:, None, :] ** 2 + (at - y)[:, :, None] ** 2
    dots = 255 * np.clip(1.2 - np.sqrt(squared) / radius, 0, 1)
    return np.repeat(np.minimum(dots, 255).astype(np.uint8)[..., None], 3, -1)


def centre_of_light(images: np.ndarray) -> np.ndarray:
    """Where the light of each image is on average, in fractions; NaN in darkness."""
    light = np.asarray(images, float).sum(-1)
    side = light.shape[1]
    at = (np.arange(side) + 0.5) / side
    total = light.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([(light.sum(1) * at).sum(1) / total, (light.sum(2) * at).sum(1) / total], -1)
