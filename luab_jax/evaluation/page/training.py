"""Training curves from the metrics.jsonl of the runs' workdirs, where these are still there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from luab_jax.evaluation.page.figures import figure
from luab_jax.evaluation.page.plots import Line, Point, line_plot
from luab_jax.evaluation.report import Column
from luab_jax.log import read_metrics

_SHOWN = {
    "train/classification_loss": "classification loss, training",
    "eval/classification_loss": "classification loss, validation",
    "train/top1": "top-1 (%), training",
    "eval/top1": "top-1 (%), validation",
    "eval/map": "mAP (%), validation",
    "train/byproduct_loss": "byproduct loss, training (without λ)",
    "eval/click_distance": "distance to the click, validation (of a side)",
}
_MAX_POINTS = 150
"""Of a line on the page; longer logs are averaged over stretches of equal length."""


def training_curves(columns: Sequence[Column]) -> str:
    """The curves of all seeds, and which workdirs are gone."""
    logs: list[tuple[int, str, Sequence[Mapping[str, Any]]]] = []
    gone: list[str] = []
    for run, column in enumerate(columns):
        for result in column.results:
            checkpoint = result["checkpoint"]
            if checkpoint["target"] == "timm":
                continue
            lines = _read(checkpoint["workdir"])
            if lines:
                logs.append((run, f"{column.name}, seed {checkpoint['seed']}", lines))
            else:
                gone.append(checkpoint["workdir"])
    figures = [
        figure(caption, line_plot([_line(*log, metric) for log in logs], x_label="step", score=_score(metric)))
        for metric, caption in _SHOWN.items()
        if any(isinstance(line.get(metric), int | float) for _, _, lines in logs for line in lines)
    ]
    note = f"<p class='note'>No metrics.jsonl (any more) in {escape(', '.join(gone))}.</p>" if gone else ""
    return (f'<div class="figures">{"".join(figures)}</div>' if figures else "") + note


def _read(workdir: str) -> Sequence[Mapping[str, Any]]:
    """Nothing where the file is gone or cannot be read: the report does not depend on it."""
    try:
        return read_metrics(workdir)
    except (OSError, ValueError):
        return []


def _score(metric: str) -> str:
    """A name by which values are printed: shares in percent, losses and distances as they are."""
    return "top1" if metric.endswith(("top1", "map")) else "distance"


def _line(run: int, name: str, lines: Sequence[Mapping[str, Any]], metric: str) -> Line:
    points = [
        Point(float(line["step"]), float(value))
        for line in lines
        if isinstance(value := line.get(metric), int | float) and math.isfinite(value)
    ]
    return Line(run, name, _thinned(points))


def _thinned(points: list[Point]) -> list[Point]:
    stretch = math.ceil(len(points) / _MAX_POINTS) or 1
    parts = [points[i : i + stretch] for i in range(0, len(points), stretch)]
    return [Point(sum(p.x for p in part) / len(part), sum(p.y for p in part) / len(part)) for part in parts]
