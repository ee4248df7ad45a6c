"""What a suite is: a row of the table in `suites.py`."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from luab_jax.data.class_lists import ClassList
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
    WATERMARK = "watermark"
    """Under ImageNet-W's watermark, drawn on the pixels before normalisation."""


class Need(enum.Enum):
    """What a suite asks of a model beyond its logits for every image of a set; the value says what is lacking."""

    LOGITS = "it asks the model for more than its predictions of a set, which is all that was kept"
    """Logits of images that the suite makes."""
    MAP = "it needs a map of where a class is seen, which this model does not give"
    GRADIENT = "it needs the network itself, not only its logits; evaluate a workdir or timm:NAME:FILE"
    """The parameters and a function of jax, through which a gradient can be taken."""
    FEATURES = "it needs what the classifier reads, which this model does not give; evaluate a workdir or timm:FILE"
    """What the last layer is linear on, for images that the suite chooses."""
    FONT = "it draws a watermark on the images, and has no font for it"
    """Given with the command, not by the model. Of every suite with a part in `View.WATERMARK`."""
    BYPRODUCT_HEAD = "the checkpoint has no byproduct head"


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


@dataclass(frozen=True, slots=True)
class Scored:
    """Scored by what is kept of a prediction of every image."""

    score: Callable[[Mapping[str, Any]], Mapping[str, object]]
    """From what `Part.reduce` kept of each part, joined over batches, to scores by name: `results.score.Score`, or
    plain numbers. `n` is the number of images, `groups` a score of every group; integers are counts."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """Asks the model itself, where a prediction of every image in some views is not what is wanted."""

    run: Callable[[Any, Mapping[str, PreparedSplit], Any], Mapping[str, object]]
    """From a predictor, the opened parts and a `Work`, in which it keeps what it has done, to scores by name. What it
    asks the predictor for stands in `Suite.needs`."""


@dataclass(frozen=True, slots=True)
class Named:
    """Data by the names under which it may be prepared, and its classes: six of ImageNet's classes are not ImageNet."""

    datasets: tuple[str, ...]
    classes: Callable[[], ClassList]

    def is_met(self, dataset: str, class_list_hash: str) -> bool:
        return dataset in self.datasets and self.classes().hash == class_list_hash


@dataclass(frozen=True, slots=True)
class Suite:
    """One row: a name, what it reads, how it is scored, and how a user gets its data."""

    name: str
    parts: Mapping[str, Part]
    method: Scored | Procedure
    headline: str
    """The score that stands in a table's column."""
    how_to_get: str = ""
    """The command that prepares its data."""
    label_space: LabelSpace = OF_THE_MODEL
    needs: frozenset[Need] = frozenset()
    """What a model must give besides logits of the images; a model that lacks it is told so."""
    why_not: Callable[[PreparedSplit], str | None] = lambda _: None
    """Why data that was found is not for the suite, as far as that is known before any image is predicted."""
    label_sets: bool = False
    """For models of sets of labels, and not for the others."""
    of_any_photos: bool = False
    """Photos of one's own, as `data_prep folder` prepares them, do as well as the published ones."""
    only_if_named: bool = False
    """Too dear to be part of `all`."""
    protocol: str = ""
    """How it is scored and after whom; stands in every result."""
    preprocessing: str = ""
    """What is done to its images, where that is not what is done to images stored as its parts say; `{side}` is that of
    the model's input."""
    protocols: Mapping[str, str] = field(default_factory=dict)
    """Of single scores, where they are not by the suite's; `{preprocessing}` is what was done to the images."""
    group: str = ""
    """Under which heading its column stands in a table; empty for the paper's place or the end."""
    named_after: Named | None = None
    """The data after which the suite is named; where it ran on other data, its row is named after that."""

    def __post_init__(self) -> None:
        if any(part.view is View.WATERMARK for part in self.parts.values()):
            object.__setattr__(self, "needs", self.needs | {Need.FONT})
