"""Maps by occlusion, for a model that gives logits alone: RISE (Petsiuk, Das and Saenko 2018, §3; eclique/RISE).

Masks are grids of 7 x 7 cells, each open with probability 1/2, enlarged bilinearly to (7 + 1) cells and cut at a random
place; the map of a class is the mean of the masks, weighted by the probability that the model gives the class through
each. The authors take 4,000 masks for VGG-16 and 8,000 for ResNet-50. Ours are the same for every image and model
(seed 0), have 256 levels, and hide by the mean colour of the preprocessing, which is zero after normalisation as theirs
is. Every image costs as many predictions as there are masks.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import special

from luab_jax.errors import UserError, option

if TYPE_CHECKING:
    from luab_jax.evaluation.predictor import BatchPredictor

_CELLS = 7
_OPEN = 0.5
_NUM_MASKS = 1000
_PREFIX = "rise"


@dataclass(frozen=True, slots=True)
class Rise:
    """So many masks."""

    num_masks: int = _NUM_MASKS

    @classmethod
    def parse(cls, text: str) -> Rise:
        """`rise`, or `rise:MASKS`; raises `UserError`."""
        kind, _, count = text.partition(":")
        if kind != _PREFIX or (count and not (count.isdecimal() and int(count))):
            raise UserError(f"{option('maps', text)}: expected rise, or rise:NUMBER_OF_MASKS as in rise:4000")
        return cls(int(count)) if count else cls()

    @property
    def name(self) -> str:
        """Beside every result made from the maps."""
        return f"{_PREFIX}_{self.num_masks}"

    def maps(
        self, predictor: BatchPredictor[Any], images: UInt8[np.ndarray, "n h w 3"], labels: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, "n h w"]:
        """One for each image, of the class that is its label."""
        side = images.shape[1]
        masks = _masks(self.num_masks, side)
        mean = np.round(255 * np.asarray(predictor.loaded.preprocessing.mean)).astype(np.float32)
        return np.stack(
            [
                self._map(predictor, masks, image.astype(np.float32) - mean, mean, int(label))
                for image, label in zip(images, labels, strict=True)
            ]
        )

    def _map(
        self, predictor: BatchPredictor[Any], masks: np.ndarray, offset: np.ndarray, mean: np.ndarray, label: int
    ) -> Float[np.ndarray, "h w"]:
        total = np.zeros(masks.shape[1:], np.float32)
        for start in range(0, len(masks), predictor.batch_size):
            some = masks[start : start + predictor.batch_size].astype(np.float32) / 255
            seen = np.round(mean + some[..., None] * offset).astype(np.uint8)
            logits = predictor.logits(seen).astype(np.float64)
            shares = special.expit(logits) if predictor.loaded.label_sets else special.softmax(logits, axis=1)
            total += np.tensordot(shares[:, label].astype(np.float32), some, 1)
        return total / (len(masks) * _OPEN)


@functools.lru_cache(maxsize=1)
def _masks(count: int, side: int) -> UInt8[np.ndarray, "n h w"]:
    rng = np.random.default_rng(0)
    cell = -(-side // _CELLS)
    enlarged = (_CELLS + 1) * cell
    masks = np.empty((count, side, side), np.uint8)
    for mask in masks:
        grid = (rng.random((_CELLS, _CELLS)) < _OPEN).astype(np.float32)
        x, y = rng.integers(0, cell, 2)
        large = cv2.resize(grid, (enlarged, enlarged), interpolation=cv2.INTER_LINEAR)
        mask[:] = np.round(255 * large[y : y + side, x : x + side])
    return masks
