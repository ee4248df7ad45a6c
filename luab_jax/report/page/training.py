"""Training curves from the metrics.jsonl of the runs' workdirs, where these are still there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from luab_jax.errors import UserError
from luab_jax.report.page.figures import Figure
from luab_jax.report.page.plots import Line, Point, line_plot
from luab_jax.report.page.workdir import is_number, read_log
from luab_jax.report.runs import Experiment
from luab_jax.results.score import FRACTION, NUMBER
from luab_jax.results.text import printable

_SHOWN = {
    "train/classification_loss": ("classification loss, training", NUMBER),
    "eval/classification_loss": ("classification loss, validation", NUMBER),
    "train/top1": ("top-1 (%), training", FRACTION),
    "eval/top1": ("top-1 (%), validation", FRACTION),
    "eval/map": ("mAP (%), validation", FRACTION),
    "train/byproduct_loss": ("byproduct loss, training (without λ)", NUMBER),
    "eval/click_distance": ("distance to the click, validation (of a side)", NUMBER),
}
_OF_SEVERAL = {
    "train/byproduct_loss/": ("byproduct loss of {target}, training (without λ)", NUMBER),
    "eval/click_distance/": ("distance of {target} to the click, validation (of a side)", NUMBER),
}
"""Of runs with several byproducts, whose targets' names end those of their metrics."""
_MAX_POINTS = 600
"""Of a line on the page; of longer logs every stretch keeps its lowest and its highest value."""


class Curves(NamedTuple):
    """Figures, the experiments that are in them, and why others are not."""

    figures: list[Figure]
    drawn: list[int]
    notes: list[str]


class _Log(NamedTuple):
    experiment: int
    name: str
    lines: Sequence[Mapping[str, Any]]


def training_curves(experiments: Sequence[Experiment], smoothing: int = 1) -> Curves:
    """The curves of all seeds; `smoothing` is over how many logged values each point is the mean."""
    logs: list[_Log] = []
    gone: list[str] = []
    reasons: list[str] = []
    for place, experiment in enumerate(experiments):
        for run in experiment.runs:
            checkpoint = run.checkpoint
            if checkpoint.is_foreign:
                continue
            who = f"{experiment.name}, seed {checkpoint.seed}"
            try:
                lines, reason = read_log(checkpoint)
            except (UserError, OSError, ValueError) as e:
                lines, reason = [], ""
                if isinstance(e, UserError):
                    reasons.append(str(e))
            if lines:
                logs.append(_Log(place, who, lines))
            elif reason:
                reasons.append(f"No training curves of {who}: {reason}.")
            else:
                gone.append(checkpoint.workdir)
    figures = [
        Figure(caption, line_plot([_line(log, metric, smoothing) for log in logs], x_label="step", unit=unit))
        for metric, (caption, unit) in _shown(logs).items()
        if any(is_number(line.get(metric)) for log in logs for line in log.lines)
    ]
    notes = [f"No training curves, for no metrics.jsonl was found in {printable(', '.join(gone))}."] if gone else []
    notes += [printable(reason) for reason in dict.fromkeys(reasons)]
    if smoothing > 1 and figures:
        notes.append(f"Each point is the mean of {smoothing} logged values (--smoothing={smoothing}).")
    return Curves([figure for figure in figures if figure.drawing], sorted({log.experiment for log in logs}), notes)


def _shown(logs: Sequence[_Log]) -> dict[str, tuple[str, str]]:
    """Metrics to captions and units."""
    names = sorted({name for log in logs for line in log.lines for name in line})
    further = {
        name: (caption.format(target=printable(name.removeprefix(prefix))), unit)
        for prefix, (caption, unit) in _OF_SEVERAL.items()
        for name in names
        if name.startswith(prefix)
    }
    return _SHOWN | further


def _line(log: _Log, metric: str, smoothing: int) -> Line:
    found = [(float(line["step"]), float(line[metric])) for line in log.lines if is_number(line.get(metric))]
    smooth = [found[max(0, i - smoothing + 1) : i + 1] for i in range(len(found))]
    points = [Point(part[-1][0], math.fsum(y for _, y in part) / len(part)) for part in smooth]
    return Line(log.experiment, log.name, _thinned(points))


def _thinned(points: list[Point]) -> list[Point]:
    """No more than can be seen, and no peak lost."""
    if len(points) <= _MAX_POINTS:
        return points
    stretch = math.ceil(2 * len(points) / _MAX_POINTS)
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept += sorted({min(part, key=lambda p: p.y), max(part, key=lambda p: p.y)})
    return kept
