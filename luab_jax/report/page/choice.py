"""Which example images a page shows: of every kind a few, by an order that the data decides, not the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from luab_jax.report.page.overlay import dissimilarity
from luab_jax.report.runs import Experiment
from luab_jax.results.example_images import ExampleImage, Examples

_OF_A_KIND = 3
_MAX_KINDS = 6
"""Kinds of agreement that are shown, of those that more than one run can have."""

Row = tuple[ExampleImage, ...]
"""One image, as each run saw it."""


class Chosen(NamedTuple):
    """Examples of some of the runs on the same data."""

    runs: list[int]
    """Positions of the experiments that have examples."""
    of_run: list[Examples]
    rows: list[Row]
    """All images that these have in common."""


class Kind(NamedTuple):
    """Images under one heading."""

    title: str
    count: int | None
    """How many of the common images there are; None where images were picked for what they show."""
    rows: list[Row]


def common(experiments: Sequence[Experiment], examples: Sequence[Examples]) -> Chosen | None:
    """One set of examples for every experiment that has one of its own on the data that most have; None if none has."""
    found = [_of_experiment(of, examples) for of in experiments]
    data = [key for of_one in found for key in of_one]
    if not data:
        return None
    most = max(data, key=data.count)  # the first of equals
    runs = [run for run, of_one in enumerate(found) if most in of_one]
    of_run = [found[run][most] for run in runs]
    by_name = [{image.file_name: image for image in examples.images} for examples in of_run]
    names = [name for name in by_name[0] if all(name in of_other for of_other in by_name)]
    return Chosen(runs, of_run, [tuple(images[name] for images in by_name) for name in names])


def _of_experiment(experiment: Experiment, examples: Sequence[Examples]) -> dict[tuple[str, str], Examples]:
    """By their data; of several seeds on the same the first."""
    found: dict[tuple[str, str], Examples] = {}
    for run in experiment.runs:
        for candidate in examples:
            if candidate.checkpoint == run.file.checkpoint:
                found.setdefault((candidate.dataset, candidate.fingerprint), candidate)
    return found


def kinds(rows: Sequence[Row], names: Sequence[str]) -> list[Kind]:
    """The rows by who is right (`names` are those of the runs), then those on which the maps differ most."""
    by_pattern: dict[tuple[bool, ...], list[Row]] = {}
    for row in rows:
        by_pattern.setdefault(tuple(image.right for image in row), []).append(row)
    patterns = sorted(by_pattern, key=lambda right: (len(set(right)) == 1, -len(by_pattern[right]), right))
    found = [Kind(_title(p, names), len(by_pattern[p]), by_pattern[p][:_OF_A_KIND]) for p in patterns[:_MAX_KINDS]]
    shown = {row[0].file_name for kind in found for row in kind.rows}
    different = _most_different([row for row in rows if row[0].file_name not in shown])
    return [*found, Kind("Maps differ most, of the others", None, different)] if different else found


def _title(right: Sequence[bool], names: Sequence[str]) -> str:
    if len(names) == 1:
        return "Right" if right[0] else "Wrong"
    if len(set(right)) == 1:
        return f"{'Right' if right[0] else 'Wrong'} in every run"
    those = ", ".join(name for name, is_right in zip(names, right, strict=True) if is_right)
    return f"Right in {those} only"


def _most_different(rows: Sequence[Row]) -> list[Row]:
    """By the mean over all runs of how far a map is from the first run's."""
    measured: list[tuple[float, Row]] = []
    for row in rows:
        maps = [image.map for image in row if image.map is not None]
        if len(row) > 1 and len(maps) == len(row):
            measured.append((sum(dissimilarity(maps[0], other) for other in maps[1:]) / (len(maps) - 1), row))
    measured.sort(key=lambda pair: -pair[0])
    return [row for _, row in measured[:_OF_A_KIND]]
