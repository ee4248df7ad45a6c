"""Numbers from outside, as text or as JSON values: a value, or `None` for what is no usable number."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

MAX_OVERSHOOT = 0.1
"""How far outside [0, 1] a coordinate may lie, as a fraction of the side. The mouse does leave a picture of 150 to 200
displayed pixels by a pixel or two, and such clicks are real; a value further off is no ratio (a pixel, say)."""

MAX_INTEGER = 2**53
"""Beyond it a float is no longer an exact integer, and no time or count is that large."""

# float() and int() would also take `nan`, `1_000` and digits of other scripts.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

_PLAIN = b"0123456789.-e\n"
"""With these characters alone, float() takes what `number` takes."""


def number(text: str | None) -> float | None:
    """A finite decimal number, in scientific notation too."""
    if text is None or len(text) > 400 or not _NUMBER.fullmatch(stripped := text.strip()):
        return None
    value = float(stripped)
    return value if math.isfinite(value) else None


def count(text: str | None) -> int | None:
    """A number from 0 to 2^53, rounded: times, sizes, page indices."""
    value = number(text)
    return round(value) if value is not None and 0 <= value < MAX_INTEGER else None


def ratio(text: str | None) -> float | None:
    """A coordinate as a fraction of the image, at most `MAX_OVERSHOOT` outside it."""
    value = number(text)
    return value if value is not None and -MAX_OVERSHOOT <= value <= 1 + MAX_OVERSHOOT else None


def ratios(texts: Sequence[str | None]) -> list[float] | None:
    """As `ratio` of each, several times faster; `None` unless all are plainly written and all of them good."""
    return _plain_numbers(texts, -MAX_OVERSHOOT, 1 + MAX_OVERSHOOT)


def counts(texts: Sequence[str | None]) -> list[int] | None:
    """As `count` of each, under the terms of `ratios`."""
    values = _plain_numbers(texts, 0, MAX_INTEGER - 1)
    return None if values is None else list(map(round, values))


def _plain_numbers(texts: Sequence[str | None], least: float, largest: float) -> list[float] | None:
    try:
        if "\n".join(texts).encode().translate(None, _PLAIN):  # type: ignore[arg-type]
            return None
        values = list(map(float, texts))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # a text that is missing, or that is no number
        return None
    return values if not values or (least <= min(values) and max(values) <= largest) else None


def json_number(value: Any) -> float | None:
    """As `number`, of a JSON value; a text that holds a number counts as one, True does not."""
    if isinstance(value, str):
        return number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def json_count(value: Any) -> int | None:
    """As `count`, of a JSON value."""
    found = json_number(value)
    return round(found) if found is not None and 0 <= found < MAX_INTEGER else None


def json_id(value: Any) -> int | None:
    """A whole number from 0 to 2^53, exactly."""
    found = json_number(value)
    return int(found) if found is not None and 0 <= found < MAX_INTEGER and found == int(found) else None


def json_ratio(value: Any) -> float | None:
    """As `ratio`, of a JSON value."""
    found = json_number(value)
    return found if found is not None and -MAX_OVERSHOOT <= found <= 1 + MAX_OVERSHOOT else None
