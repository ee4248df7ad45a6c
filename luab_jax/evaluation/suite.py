"""What a suite is: a row of the table in `suites.py`."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.transforms import ANY_SIZE, Stored
from luab_jax.evaluation.answers import ARGMAX
from luab_jax.evaluation.label_spaces import OF_THE_MODEL, LabelSpace
from luab_jax.evaluation.predictions import Predictions


class View(enum.Enum):
    """What is done to the model's input after preprocessing."""

    PLAIN = "plain"
    CENTRE_MEAN = "centre_mean"
    """The centre square of half the side is zero after normalisation: the mean colour."""
    CENTRE_BLACK = "centre_black"
    """The same square is zero before normalisation: black."""


@dataclass(frozen=True, slots=True)
class Part:
    """One prepared split, seen in one way."""

    directories: tuple[str, ...]
    """Where it may lie under --data: the first that is complete, else the first that exists."""
    split: str
    view: View = View.PLAIN
    reduce: Callable[[Predictions], Any] = ARGMAX
    """What is kept of the predictions of a batch: `Answers`, `Doubts`, or all of them."""
    stored: Stored = ANY_SIZE
    datasets: tuple[str, ...] = ()
    """Names that the data may have been prepared under; any if empty."""
    optional: bool = False
    """The suite runs without it, and what it gives is then absent."""


def by_procedure(parts: Mapping[str, Any]) -> Mapping[str, object]:
    """In place of a score."""
    raise AssertionError(f"a procedure's scores are its own, not of {', '.join(parts)}")


@dataclass(frozen=True, slots=True)
class Suite:
    """One row: a name, what it reads, how it is scored, and how a user gets its data."""

    name: str
    parts: Mapping[str, Part]
    score: Callable[[Mapping[str, Any]], Mapping[str, object]]
    """From what was kept of each part; `by_procedure` where that is not how it is scored."""
    headline: str
    """The score that stands in a table's column."""
    how_to_get: str
    label_space: LabelSpace = OF_THE_MODEL
    needs_byproduct_head: bool = False
    label_sets: bool = False
    """For models of sets of labels, and not for the others."""
    procedure: Callable[[Any, Mapping[str, PreparedSplit], Any], Mapping[str, object]] | None = None
    """Runs a `Predictor` on the parts itself, where a prediction of every image in some views is not what is asked.

    The last argument is a `Work`, in which it keeps what it has done.
    """
    only_if_named: bool = False
    """Too dear to be part of `all`."""
