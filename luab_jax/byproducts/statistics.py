"""What targets and sample weights need to know of a whole training split: scales of responses, and the annotators.

The sums are whole numbers, and so do not depend on the order of the records, nor on the threads and hosts among which
they are divided: every host and every resumed run has the same statistics to the last bit.
"""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luab_jax.byproducts.columns import ByproductColumns
from luab_jax.byproducts.responses import Response, annotators, class_log_corrections, log_response

STATISTICS_KEY = "byproduct_statistics"
"""Their place in a run's data.json and in the description of a checkpoint."""

_UNIT = 2.0**40
"""Logarithms are added in units of 2⁻⁴⁰, far below what float32 targets resolve."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation (of the population) of a response's logarithm."""

    mean: float
    std: float


@dataclass(frozen=True, kw_only=True)
class TargetStatistics:
    """Of the training split; only what the experiment needs is there."""

    scales: Mapping[Response, Scale] = field(default_factory=dict)
    annotators: tuple[str, ...] = ()
    """The classes of target `annotator`, most images first."""

    @functools.cached_property
    def annotator_classes(self) -> Mapping[str, int]:
        """Annotator to class."""
        return {annotator: index for index, annotator in enumerate(self.annotators)}

    def __bool__(self) -> bool:
        return bool(self.scales or self.annotators)

    def to_json(self) -> dict[str, Any]:
        scales = {response.value: {"mean": scale.mean, "std": scale.std} for response, scale in self.scales.items()}
        return {"scales": scales, "annotators": list(self.annotators)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TargetStatistics:
        """The inverse of `to_json`; raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        return cls(
            scales={Response(name): Scale(**scale) for name, scale in values["scales"].items()},
            annotators=tuple(values["annotators"]),
        )


@dataclass(slots=True)
class Sums:
    """Of some records; those of others can be added. Memory grows with the annotators, not with the images."""

    responses: tuple[Response, ...] = ()
    """Those that are wanted."""
    count_annotators: bool = False
    powers: dict[Response, list[int]] = field(default_factory=dict)
    """Σ 1, Σ x and Σ x², x in units of 2⁻⁴⁰."""
    images: Counter[str] = field(default_factory=Counter)
    """Annotator to the number of images that he or she selected."""

    def add(self, byproducts: ByproductColumns, num_classes: int | None) -> None:
        """One image; `num_classes` is given for sets of labels, where every class with an icon counts."""
        for response in self.responses:
            for value in _values(response, byproducts, num_classes):
                x = round(value * _UNIT)
                self._add(response, (1, x, x * x))
        if self.count_annotators:
            self.images.update(annotators(byproducts))

    def _add(self, response: Response, powers: tuple[int, ...] | list[int]) -> None:
        old = self.powers.get(response, [0, 0, 0])
        self.powers[response] = [a + b for a, b in zip(old, powers, strict=True)]

    def merge(self, other: Sums) -> None:
        for response, powers in other.powers.items():
            self._add(response, powers)
        self.images.update(other.images)

    def to_text(self) -> str:
        """For another host's `from_text`."""
        return json.dumps([{response.value: powers for response, powers in self.powers.items()}, self.images])

    @classmethod
    def from_text(cls, text: str) -> Sums:
        powers, images = json.loads(text)
        return cls(powers={Response(name): values for name, values in powers.items()}, images=Counter(images))

    def scale(self, response: Response) -> Scale | None:
        """`None` where no image has the response."""
        count, first, second = self.powers.get(response, (0, 0, 0))
        if not count:
            return None
        variance = (second * count - first * first) / count**2 / _UNIT**2
        return Scale(first / count / _UNIT, math.sqrt(variance))

    def vocabulary(self, min_images: int, max_annotators: int) -> tuple[str, ...]:
        """Annotators with at least `min_images` images, most images first (ties by id), no more than told."""
        ranked = sorted(self.images.items(), key=lambda entry: (-entry[1], entry[0]))
        return tuple(annotator for annotator, count in ranked[:max_annotators] if count >= min_images)


def _values(response: Response, byproducts: ByproductColumns, num_classes: int | None) -> list[float]:
    if num_classes is None:
        value = log_response(response, byproducts)
        return [] if value is None else [value]
    of_classes = class_log_corrections(byproducts, num_classes)
    return of_classes[~np.isnan(of_classes)].tolist()
