"""Numbers and names as people read them: one line each, in the unit of the score."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from luab_jax.io.wording import counted
from luab_jax.results.format import Data, Entry, Suite
from luab_jax.results.score import COUNT, FRACTION, SIDE, Role

MISSING = "-"
_MAX_GROUPS = 12
"""That the terminal shows one by one; results.json has them all."""
_INVISIBLE = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, marks of direction, halves of characters and breaks of lines."""


def printable(text: str) -> str:
    r"""On one line and without hidden effect: control and direction characters are shown as `\x1b`, `\u202e`."""
    return "".join(_escaped(char) if unicodedata.category(char) in _INVISIBLE else char for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def format_number(value: float, unit: str) -> str:
    """Fractions in percent with one decimal, distances with three, counts whole, anything else with four digits."""
    if math.isnan(value):
        return MISSING
    if unit == FRACTION:
        return f"{100 * value:.1f}"
    if unit == SIDE:
        return f"{value:.3f}"
    return f"{value:,.0f}" if unit == COUNT and value == int(value) else f"{value:.4g}"


def unit_name(unit: str) -> str:
    """Behind the name of a score: `%` for fractions; nothing for distances and bare numbers."""
    return "%" if unit == FRACTION else "" if unit in (SIDE, "number", COUNT) else printable(unit)


def format_interval(bounds: Sequence[float], unit: str) -> str:
    low, high = (format_number(bound, unit) for bound in bounds)
    return f"[{low}, {high}]"


def title(name: str, suite: Suite) -> str:
    """The row of a suite. Images that are not the published ones are another protocol, hence another row."""
    return printable(suite.title or name) + marks(suite.data)


def marks(data: Data) -> str:
    """In brackets what makes a result incomparable with the suite's own."""
    found = ["generated"] if data.generated else []
    found += [f"images {data.stored_smaller}"] if data.stored_smaller else []
    found += [f"restricted to {data.restricted}"] if data.restricted else []
    return "".join(f" [{printable(mark)}]" for mark in found)


def notes(suite: Suite) -> list[str]:
    """What the data is not as published, what else decides the scores, and by which protocol a score is, where that is
    not the suite's."""
    data = suite.data
    found = ["partial set"] if data.partial else []
    if data.resized_from is not None:
        found.append(f"stored at {data.resized_from} px, resized")
    if data.skipped:
        found.append(f"{counted(sum(data.skipped.values()), 'image')} skipped")
    found += data.notes
    found += [f"{name} {value}" for name, value in suite.settings.items()]
    found += [f"{name}: {entry.protocol}" for name, entry in suite.scores.items() if entry.protocol]
    found += [f"without {part}: {reason}" for part, reason in data.left_out.items()]
    return list(dict.fromkeys(map(printable, found)))


def shown_scores(suite: Suite) -> dict[str, Entry]:
    """The numbers that are results, the headline first; counts and settings are not among them."""
    found = {name: entry for name, entry in suite.scores.items() if entry.role in (Role.HEADLINE, Role.SCORE)}
    return dict(sorted(found.items(), key=lambda pair: pair[1].role is not Role.HEADLINE))


def suite_lines(name: str, suite: Suite) -> list[str]:
    """A suite for the terminal: its scores, and its groups below; of many groups the extremes only."""
    shown = "  ".join(
        f"{printable(score)} {format_number(entry.value, entry.unit)}"
        + (f" {format_interval(entry.interval, entry.unit)}" if entry.interval else "")
        for score, entry in shown_scores(suite).items()
    )
    noted = f"  ({'; '.join(notes(suite))})" if notes(suite) else ""
    lines = [f"{title(name, suite):<18} {shown}  n {suite.n:,}{_effort(suite)}{noted}"]
    unit = suite.scores[suite.headline].unit if suite.headline else FRACTION
    if len(suite.groups) > _MAX_GROUPS:
        worst, best = min(suite.groups, key=suite.groups.__getitem__), max(suite.groups, key=suite.groups.__getitem__)
        if suite.groups[worst] == suite.groups[best]:
            return [*lines, f"  {len(suite.groups)} groups: all {format_number(suite.groups[best], unit)}"]
        ends = (f"{format_number(suite.groups[group], unit)} ({printable(group)})" for group in (worst, best))
        return [*lines, f"  {len(suite.groups)} groups: {' to '.join(ends)}"]
    return lines + [f"  {printable(group):<30} {format_number(value, unit)}" for group, value in suite.groups.items()]


def _effort(suite: Suite) -> str:
    seconds = f"  {suite.seconds:.1f} s" if suite.seconds is not None else ""
    if "forward_passes" not in suite.scores:
        return seconds
    done, all_pairs = suite["forward_passes"], suite["forward_passes_of_brute_force"]
    return f"{seconds}  {done:,.0f} of {all_pairs:,.0f} forward passes"


def compilation_line(compilations: dict[str, float]) -> str:
    """What XLA compiled while the suites ran."""
    total = f"{counted(compilations['programs'], 'program')} compiled or loaded in {compilations['seconds']:.1f} s"
    predict = compilations.get("programs_of_predict")
    return total if predict is None else f"{total}, {predict:.0f} of them to predict, for all suites together"
