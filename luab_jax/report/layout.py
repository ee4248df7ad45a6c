"""The columns of a table in the paper's layout: suites side by side, in groups, one score of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from luab_jax.report.paper import COLUMNS, PaperColumn
from luab_jax.report.runs import Experiment
from luab_jax.results.format import Entry, Suite
from luab_jax.results.score import Direction
from luab_jax.results.text import marks, printable, unit_name

_OTHERS = "Others"


class Heading(NamedTuple):
    """One column: which score of which suite, under which group."""

    group: str
    label: str
    row: str
    """The title of the suite."""
    score: str
    unit: str
    direction: Direction
    paper: str | None = None
    """The paper's name of the column, if it has it."""

    @property
    def score_with_unit(self) -> str:
        return f"{printable(self.score.replace('_', ' '))} {unit_name(self.unit)}".rstrip()


def headings(experiments: Sequence[Experiment]) -> list[Heading]:
    """The headline score of every suite in any result; the paper's columns in its order, the others after those.

    A suite whose images are not the published ones (`imagenet_c [generated]`, or `demo` for the validation set of
    that name) is a column of its own, and not the paper's.
    """
    there: dict[str, tuple[str, Suite]] = {}
    for experiment in experiments:
        for run in experiment.runs:
            for row, found in run.by_title.items():
                there.setdefault(row, found)
    shown = [
        _of_paper(column, row, suite)
        for column in COLUMNS
        for row, (name, suite) in there.items()
        if name == column.suite and column.score in suite.scores
    ]
    placed = {heading.row for heading in shown}
    for row, (_, suite) in there.items():
        score = suite.headline or next(iter(suite.scores), None)
        if row not in placed and score is not None:
            shown.append(_heading(suite.group or _OTHERS, row, row, score, suite.scores[score]))
    groups = list(dict.fromkeys(heading.group for heading in shown))
    groups = [*(group for group in groups if group != _OTHERS), *(group for group in groups if group == _OTHERS)]
    return sorted(shown, key=lambda heading: groups.index(heading.group))


def _of_paper(column: PaperColumn, row: str, suite: Suite) -> Heading:
    is_own = not suite.title and not marks(suite.data)
    label = row if suite.title else column.name + marks(suite.data)
    found = _heading(column.group, label, row, column.score, suite.scores[column.score])
    return found._replace(paper=column.name if is_own else None)


def _heading(group: str, label: str, row: str, score: str, entry: Entry) -> Heading:
    return Heading(printable(group), label, row, score, entry.unit, entry.direction)
