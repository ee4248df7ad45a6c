"""The difference that an arm makes, with an interval over images and seeds together.

Each seed trains arm and control once, and both answer the same images, so that there is one difference for every seed
and image: d[s, i] = effect + seed_s + image_i + rest. Images and seeds are both samples, of images and of trainings,
and the variance of the mean has a part of each (the two-way random model; Cornfield and Tukey 1956, Annals of
Mathematical Statistics 27(4)):

    Var(mean) = (MS_seeds + MS_images - MS_rest) / (seeds · images)

with degrees of freedom by Satterthwaite (1946). The estimate may fall below one of its parts, by chance; the larger of
these is taken then with its own degrees of freedom, if that makes the interval wider. One seed says nothing of the
spread over seeds: then the interval is over images alone, and says so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

SEEDS_AND_IMAGES = "images and seeds"
IMAGES_ALONE = "images alone"


class Effect(NamedTuple):
    """Arm less control."""

    value: float
    low: float
    high: float
    """95 % interval."""
    over: str
    num_seeds: int
    num_images: int

    @property
    def is_certain(self) -> bool:
        """Whether 0 is outside the interval."""
        return self.low > 0 or self.high < 0


def effect(differences: Float[np.ndarray, "seeds images"]) -> Effect:
    """Of one difference for every seed and image."""
    seeds, images = differences.shape
    mean = float(differences.mean())
    of_seeds, of_images = differences.mean(1), differences.mean(0)
    ms_images = seeds * float(of_images.var(ddof=1)) if images > 1 else 0.0
    if seeds == 1:
        return _effect(mean, ms_images / images, images - 1, IMAGES_ALONE, differences)
    ms_seeds = images * float(of_seeds.var(ddof=1))
    rest = differences - of_seeds[:, None] - of_images + mean
    df_seeds, df_images = seeds - 1, images - 1
    ms_rest = float((rest**2).sum()) / max(df_seeds * df_images, 1)
    parts = ((ms_seeds, df_seeds), (ms_images, df_images), (ms_rest, df_seeds * df_images))
    total = max(ms_seeds + ms_images - ms_rest, 0.0)
    df = total**2 / max(sum(ms**2 / max(of, 1) for ms, of in parts), 1e-300)
    candidates = [(total, df), max(parts[:2])] if total <= max(ms_seeds, ms_images) else [(total, df)]
    found = [_effect(mean, ms / (seeds * images), df, SEEDS_AND_IMAGES, differences) for ms, df in candidates]
    return max(found, key=lambda one: one.high - one.low)


def _effect(mean: float, variance: float, df: float, over: str, differences: np.ndarray) -> Effect:
    half = float(special.stdtrit(max(df, 1), 0.975) * np.sqrt(max(variance, 0.0)))
    return Effect(mean, mean - half, mean + half, over, *differences.shape)
