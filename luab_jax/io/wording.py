"""Words that messages share."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int | float, noun: str) -> str:
    """`1 step`, `2,000 steps`."""
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


def joined(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), *names[-1:]])
