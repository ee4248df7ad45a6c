"""How preflight lays out its pages and tables, whatever they say."""

from __future__ import annotations

from collections.abc import Sequence


def rows(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Names and values in two columns."""
    width = max(len(name) for name, _ in pairs)
    return [f"  {name.ljust(width)}  {value}" for name, value in pairs]


def columns(table: Sequence[Sequence[str]]) -> list[str]:
    """A table whose first row is its header and whose first column is text."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return [lines[0], "  ".join("-" * w for w in widths), *lines[1:]]


def as_bytes(num_bytes: int | float) -> str:
    """In the largest unit that gives 1 or more."""
    unit, name = next(
        (unit, name)
        for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
        if num_bytes >= unit or unit == 1
    )
    return f"{num_bytes / unit:,.{2 if unit == 1e9 else 1 if unit > 1 else 0}f} {name}"


def ms(seconds: float) -> str:
    """Milliseconds."""
    return f"{seconds * 1e3:.2f} ms"
