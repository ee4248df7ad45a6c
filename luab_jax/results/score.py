"""What a score is: a number with its unit, its direction and its interval, as the scoring function knows them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

FRACTION = "fraction"
"""In [0, 1] as a rule, printed in percent."""
SIDE = "fraction of a side"
"""A distance; printed as it is."""
COUNT = "count"
NUMBER = "number"
"""No unit is known; printed as it is."""


class Direction(enum.Enum):
    """Which of two values is better."""

    HIGHER = "higher"
    LOWER = "lower"
    NONE = "none"
    """Neither: a score of the image's centre, or of a bare background."""

    @property
    def sign(self) -> int:
        """1 if more is better, -1 if less is, 0 if neither."""
        return {Direction.HIGHER: 1, Direction.LOWER: -1, Direction.NONE: 0}[self]

    @property
    def arrow(self) -> str:
        return {Direction.HIGHER: "↑", Direction.LOWER: "↓", Direction.NONE: ""}[self]


class Role(enum.Enum):
    """What a number of a suite is there for."""

    HEADLINE = "headline"
    """The one that stands for the suite in a table."""
    SCORE = "score"
    COUNT = "count"
    """How many images, pairs or predictions; no property of the model."""
    PROTOCOL = "protocol"
    """A setting that the evaluation chose, such as a threshold."""


class Score(float):
    """A number that knows its meaning. Compares and calculates as the number alone.

    `sample` is what a later comparison with another run on the same images needs (see `answers`).
    """

    __slots__ = ("direction", "interval", "method", "role", "sample", "unit")

    unit: str
    direction: Direction
    interval: tuple[float, float] | None
    method: str
    """Of the interval."""
    role: Role
    sample: Any

    def __new__(
        cls,
        value: float,
        unit: str = NUMBER,
        direction: Direction = Direction.NONE,
        interval: Sequence[float] | None = None,
        method: str = "",
        *,
        role: Role = Role.SCORE,
        sample: Any = None,
    ) -> Score:
        """Raises `ValueError` for an interval that does not hold the value."""
        score = super().__new__(cls, value)
        if interval is not None:
            low, high = map(float, interval)
            if not low <= score <= high:
                raise ValueError(f"the interval [{low}, {high}] does not hold the score {float(score)}")
            interval = (low, high)
        score.unit, score.direction, score.interval, score.method = unit, direction, interval, method
        score.role, score.sample = role, sample
        return score

    def __reduce__(self) -> Any:
        fields = (float(self), self.unit, self.direction, self.interval, self.method)
        return (_restored, (*fields, self.role, self.sample))


def _restored(
    value: float, unit: str, direction: Direction, interval: Any, method: str, role: Role, sample: Any
) -> Score:
    return Score(value, unit, direction, interval, method, role=role, sample=sample)
