"""Which figure the groups of a suite make: `fog,severity=3` bars, `size=0.20` a curve, `x=0.25,y=0.50` a heat map."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Kind(enum.Enum):
    CURVE = "curve"
    GRID = "grid"
    SEVERITIES = "severities"
    NAMES = "names"


class Axis(NamedTuple):
    """A name and its values, ascending, as numbers and as they are written."""

    name: str
    values: list[float]
    written: list[str]


class Parsed(NamedTuple):
    """The groups of a suite, of one kind.

    `where` has for each group its place: (x, None) on a curve, (x, y) on a grid, (severity, name) of a corruption.
    """

    kind: Kind
    axes: list[Axis]
    where: Mapping[str, tuple[float | str, float | str | None]]


def parse(groups: Iterable[str]) -> Parsed:
    """Groups that do not all have one of the known forms are names."""
    names = list(groups)
    split = {name: _pairs(name) for name in names}
    shapes = {tuple(key for key, _ in pairs) for pairs in split.values()}
    if len(shapes) == 1:
        keys = next(iter(shapes))
        numbers = {name: [_number(value) for _, value in pairs] for name, pairs in split.items()}
        if len(keys) == 1 and keys[0] and _all_numbers(numbers, 0):
            return Parsed(Kind.CURVE, [_axis(keys[0], split, 0)], {n: (v[0] or 0.0, None) for n, v in numbers.items()})
        if len(keys) == 2 and keys[0] and keys[1] and _all_numbers(numbers, 0) and _all_numbers(numbers, 1):
            axes = [_axis(key, split, i) for i, key in enumerate(keys)]
            return Parsed(Kind.GRID, axes, {n: (v[0] or 0.0, v[1] or 0.0) for n, v in numbers.items()})
        if len(keys) == 2 and not keys[0] and keys[1] and _all_numbers(numbers, 1):
            where = {n: (v[1] or 0.0, split[n][0][1]) for n, v in numbers.items()}
            return Parsed(Kind.SEVERITIES, [_axis(keys[1], split, 1)], where)
    return Parsed(Kind.NAMES, [], {name: (name, None) for name in names})


def _pairs(name: str) -> list[tuple[str, str]]:
    """`("", "fog")` of a part without `=`."""
    return [(key, value) if sign else ("", key) for key, sign, value in (p.partition("=") for p in name.split(","))]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e12 else None  # neither NaN nor infinite


def _all_numbers(numbers: dict[str, list[float | None]], place: int) -> bool:
    return all(values[place] is not None for values in numbers.values())


def _axis(key: str, split: dict[str, list[tuple[str, str]]], place: int) -> Axis:
    written = {float(pairs[place][1]): pairs[place][1] for pairs in split.values()}
    values = sorted(written)
    return Axis(key, values, [written[value] for value in values])
