"""Effective robustness (Taori et al. 2020): accuracy under a shift beyond what accuracy on val lets expect.

The expectation is a line through the models of `testbed.csv` on logit scales, by least squares, as their plots have it
(modestyachts/imagenet-testbed, plotting/plotter.py, `transform='logit'`). The table has the 82 models that they call
standard training (plotting/model_types.py) and that were run on all of these sets, from robustness_top1s.csv at commit
0170eec; fractions instead of percent.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

import numpy as np
from scipy import special

from luab_jax.evaluation.answers import Answers
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.classification import Scores
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, Direction, Score

SHIFTS = {"imagenet_v2": "val", "imagenet_sketch": "val", "imagenet_r": "val_of_imagenet_r"}
"""A shifted set, and the images of val that it is compared with: for ImageNet-R those of its 200 classes."""
_METHOD = "Wilson score of both accuracies, propagated; the line is taken as known, 95 %"


class Line(NamedTuple):
    """logit(shifted) = slope · logit(val) + offset."""

    slope: float
    offset: float

    def __call__(self, accuracy: float) -> float:
        return float(special.expit(self.slope * special.logit(accuracy) + self.offset))

    def steepness(self, accuracy: float) -> float:
        """Derivative of the expected accuracy."""
        expected = self(accuracy)
        return self.slope * expected * (1 - expected) / (accuracy * (1 - accuracy))


@functools.cache
def published() -> dict[str, np.ndarray]:
    """The accuracies of the table by column, models in its order."""
    text = (resources.files("luab_jax.evaluation.scores") / "testbed.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    return {name: np.asarray([float(row[name]) for row in rows]) for name in rows[0] if name != "model"}


@functools.cache
def line(shift: str) -> Line:
    """Fitted on the table."""
    table = published()
    slope, offset = np.polyfit(special.logit(table[SHIFTS[shift]]), special.logit(table[shift]), 1)
    return Line(float(slope), float(offset))


def effective_robustness(parts: Mapping[str, Answers]) -> Scores:
    """`<shift>` is accuracy less the expected one, of every shifted set that is there; `top1_<part>` the accuracies.

    An accuracy of 0 or 1 on val, which no logit has, is taken as half an image.
    """
    scores: Scores = {name: _beyond(parts[SHIFTS[name]], parts[name], line(name)) for name in SHIFTS
                      if name in parts and SHIFTS[name] in parts}  # fmt: skip
    accuracies = {f"top1_{name}": intervals.share(part.right, images=part.images) for name, part in parts.items()}
    expected = {name: line(name)(_inside(parts[SHIFTS[name]])) for name in scores}
    return {**scores, **accuracies, "expected": expected, "n": len(parts["imagenet_v2"])}


def _inside(answers: Answers) -> float:
    half = 0.5 / len(answers)
    return float(np.clip(answers.right.mean(), half, 1 - half))


def _beyond(val: Answers, shifted: Answers, expected: Line) -> Score:
    accuracy, steepness = _inside(val), expected.steepness(_inside(val))
    value = float(shifted.right.mean()) - expected(accuracy)
    (low, high), (val_low, val_high) = intervals.wilson(shifted.right), intervals.wilson(val.right)
    top, mean = float(shifted.right.mean()), float(val.right.mean())
    below = float(np.hypot(top - low, steepness * (val_high - mean)))
    above = float(np.hypot(high - top, steepness * (mean - val_low)))
    n = len(val) + len(shifted)
    parts = [shifted.right * (n / len(shifted)),
             -(expected(accuracy) + steepness * (val.right - accuracy)) * (n / len(val))]  # fmt: skip
    names = [*(f"shifted/{image}" for image in shifted.images), *(f"val/{image}" for image in val.images)]
    sample = Sample(Kind.MEANS, np.concatenate(parts), names)
    return Score(value, FRACTION, Direction.HIGHER, (value - below, value + above), _METHOD, sample=sample)
