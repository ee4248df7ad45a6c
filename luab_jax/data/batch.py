"""What a step eats. The arrays are numpy's on the host and jax's on the device, hence of `Any` array type."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int, UInt8


class Batch(NamedTuple):
    """What a step eats; as numpy arrays one host's rows, as jax arrays the global batch."""

    images: UInt8[Any, "b h w 3"]
    labels: Int[Any, " b"] | Bool[Any, "b c"]
    """One class per image, or which of the C classes it shows."""
    targets: Float[Any, "b k d"]
    """Z, places in fractions of the crop; K = 0 for the baseline."""
    valid: Bool[Any, "b k"]
    mask: Bool[Any, " b"]
    """False for rows that only fill the batch."""
    index: Int[Any, " b"]
    """Position of the record in its split, to name it in messages."""
    weights: Float[Any, " b"] | None = None
    """Of the classification loss, not normalised; 0 for an image without one. `None` where nothing is weighted."""
