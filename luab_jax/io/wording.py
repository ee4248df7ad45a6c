"""Words that messages share."""

from __future__ import annotations


def counted(number: int | float, noun: str) -> str:
    """`1 step`, `2,000 steps`."""
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"
