"""What a model said about a whole set, and what is true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from luab_jax.byproducts.targets import Target
from luab_jax.data.pipeline import Truth


@dataclass(frozen=True, slots=True)
class Predictions:
    """Rows are images, in the order of `truths`."""

    logits: Float[np.ndarray, "n c"]
    byproduct: Float[np.ndarray, "n k d"] | None
    """Places in fractions of the model's input; None for a model without the head."""
    truths: list[Truth]
    target: Target | None = None
    """What `byproduct` is; where that is not known, its shape tells."""

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        return np.asarray([truth.label for truth in self.truths], np.int64)

    def __len__(self) -> int:
        return len(self.truths)
