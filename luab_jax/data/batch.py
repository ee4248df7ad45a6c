"""What a step eats. The arrays are numpy's on the host and jax's on the device, hence of `Any` array type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int, UInt8


class Column(NamedTuple):
    """Targets of one byproduct beside the first."""

    targets: Float[Any, "b k d"]
    valid: Bool[Any, "b k"]
    weights: Float[Any, " b"] | None = None
    """As `Batch.target_weights`."""


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
    target_weights: Float[Any, " b"] | None = None
    """Of the byproduct's loss, not normalised; 0 for an image without one. `None` where nothing is weighted."""
    more: tuple[Column, ...] = ()
    """Of the byproducts after the first, in the config's order."""

    @classmethod
    def of(cls, rows: Mapping[str, Any]) -> Batch:
        """Of arrays by name: the fields above, and `targets_1`, `valid_1`, `target_weights_1` of the second byproduct,
        and so on."""
        known = {name: values for name, values in rows.items() if name in cls._fields}
        more = []
        while (targets := rows.get(f"targets_{len(more) + 1}")) is not None:
            suffix = f"_{len(more) + 1}"
            more.append(Column(targets, rows[f"valid{suffix}"], rows.get(f"target_weights{suffix}")))
        return cls(**known, more=tuple(more))

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of all byproducts; one without numbers for the baseline."""
        return (Column(self.targets, self.valid, self.target_weights), *self.more)
