"""What a model said about a whole set, and what is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    more: Mapping[str, Float[np.ndarray, "n ..."]] = field(default_factory=dict)
    """`[n, K, D]` of each byproduct head after the first, by its target's name."""

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        return np.asarray([truth.label for truth in self.truths], np.int64)

    def __len__(self) -> int:
        return len(self.truths)

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        byproducts = [part.byproduct for part in parts if part.byproduct is not None]
        return cls(
            np.concatenate([part.logits for part in parts]),
            np.concatenate(byproducts) if byproducts else None,
            [truth for part in parts for truth in part.truths],
            parts[0].target,
            {name: np.concatenate([part.more[name] for part in parts]) for name in parts[0].more},
        )

    def rows(self, rows: Sequence[int] | Int[np.ndarray, " m"]) -> tuple[Any, dict[str, Any]]:
        """What the heads predicted for some images: the first, and the others by name."""
        first = None if self.byproduct is None else self.byproduct[rows]
        return first, {name: values[rows] for name, values in self.more.items()}


def whole(predictions: Predictions) -> Predictions:
    """For a score that needs all that was predicted."""
    return predictions
