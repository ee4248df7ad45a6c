"""Numbers in text from outside: a value, or `None` for what is no usable number."""

from __future__ import annotations

import math
import re

MAX_OVERSHOOT = 0.1
"""How far outside [0, 1] a coordinate may lie, as a fraction of the side. The mouse does leave a picture of 150 to 200
displayed pixels by a pixel or two, and such clicks are real; a value further off is no ratio (a pixel, say)."""

MAX_INTEGER = 2**53
"""Beyond it a float is no longer an exact integer, and no time or count is that large."""

# float() and int() would also take `nan`, `1_000` and digits of other scripts.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


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
