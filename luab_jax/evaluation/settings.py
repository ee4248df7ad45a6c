"""What besides the model and the data decides the score of a suite: the font of a watermark, the kind of map.

It stands in every result (`results.format.Suite.settings`), so that a result of other settings is known as one.
"""

from __future__ import annotations

from collections.abc import Mapping

from etils import epath

from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.watermark import Font
from luab_jax.errors import DataError
from luab_jax.evaluation.accumulator import HasSaved, Predicts
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.suite import Need, Suite, View
from luab_jax.results.format import FONT, MAP
from luab_jax.results.format import Suite as Result


def settings(suite: Suite, predictor: Predicts, found: Mapping[str, epath.Path | None]) -> dict[str, str]:
    """Those that are given now, by name; `found` are the directories of the suite's parts.

    Raises `DataError` where predictions that were kept are of several fonts.
    """
    stated: dict[str, str] = {}
    if Need.FONT in suite.needs and (font := _font(suite, predictor, found)):
        stated[FONT] = font
    if Need.MAP in suite.needs & predictor.gives and isinstance(predictor, BatchPredictor):
        stated[MAP] = predictor.map_kind
    return stated


def other_setting(result: Result, given: Mapping[str, str]) -> str:
    """The name of a setting that the result was not made with; empty if there is none.

    What is not given now says nothing. Of maps, results of older versions say nothing either.
    """
    known = result.settings
    others = (name for name, value in given.items() if known.get(name, value if name == MAP else None) != value)
    return next(others, "")


def font_of(predictor: Predicts, split: PreparedSplit | None) -> str | None:
    """Of the watermark on images of the split, by its digest; None where none was given."""
    if isinstance(predictor, HasSaved):
        return None if split is None else predictor.font_of(split)
    font = getattr(predictor, "font", None)
    return font.digest if isinstance(font, Font) else None


def _font(suite: Suite, predictor: Predicts, found: Mapping[str, epath.Path | None]) -> str | None:
    if not isinstance(predictor, HasSaved):
        return font_of(predictor, None)
    drawn = [name for name, part in suite.parts.items() if part.view is View.WATERMARK]
    opened = [open_split(directory, suite.parts[name].split) for name in drawn if (directory := found.get(name))]
    fonts = sorted({font for split in opened if (font := predictor.font_of(split)) is not None})
    if len(fonts) > 1:
        raise DataError(f"{suite.name}: its predictions under a watermark are of fonts {' and '.join(fonts)}")
    return fonts[0] if fonts else None
