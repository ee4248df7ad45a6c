"""Suites that are more than a prediction of every image: each a function of a `Predictor` and the opened parts.

The third argument keeps what is done, so that it is not done again after an interruption. With several hosts they
share decoding, editing, scoring by thresholds and predictions, and every host has all results. Several models share
what is decoded, edited and corrupted: see `by_image`.
"""

from __future__ import annotations

from luab_jax.evaluation.procedures.backgrounds import bgc_accuracy, own_bgc_accuracy
from luab_jax.evaluation.procedures.context import context_dependence
from luab_jax.evaluation.procedures.corrupting import generated_corruptions, generated_corruptions_of
from luab_jax.evaluation.procedures.location import localisation

__all__ = [
    "bgc_accuracy",
    "context_dependence",
    "generated_corruptions",
    "generated_corruptions_of",
    "localisation",
    "own_bgc_accuracy",
]
