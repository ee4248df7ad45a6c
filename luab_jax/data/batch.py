"""What a step eats."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8


class Batch(NamedTuple):
    """What a step eats; as numpy arrays one host's rows, as jax arrays the global batch."""

    images: UInt8[np.ndarray, "b h w 3"]
    labels: Int[np.ndarray, " b"] | Bool[np.ndarray, "b c"]
    """One class per image, or which of the C classes it shows."""
    targets: Float[np.ndarray, "b k d"]
    """Z in fractions of the crop; K = 0 for the baseline."""
    valid: Bool[np.ndarray, "b k"]
    mask: Bool[np.ndarray, " b"]
    """False for rows that only fill the batch."""
    index: Int[np.ndarray, " b"]
    """Position of the record in its split, to name it in messages."""
