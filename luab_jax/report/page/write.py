"""Results as one HTML page that needs nothing else, and no network.

Names come from other people's files. Jinja2 escapes every text, and the page's own policy forbids it to load or run
anything.
"""

from __future__ import annotations

import datetime
import functools
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from luab_jax.errors import command_line
from luab_jax.io.wording import counted
from luab_jax.report.comparison import FEWER, MOVED, between, other_data
from luab_jax.report.layout import Heading, headings
from luab_jax.report.page.figures import has_fewer_groups, legend, suite_figures
from luab_jax.report.page.pictures import example_pictures
from luab_jax.report.page.tables import headline_table, score_tables
from luab_jax.report.page.training import training_curves
from luab_jax.report.paper import SOURCE, Reported, paper_rows
from luab_jax.report.runs import Comparison, Run
from luab_jax.report.table import has_fewer_seeds
from luab_jax.results.example_images import Examples
from luab_jax.results.text import printable


def page(
    comparison: Comparison, *, with_paper: bool = False, examples: Sequence[Examples] = (), smoothing: int = 1
) -> str:
    """The whole page; `with_paper` puts the paper's numbers below the runs that correspond to one of its rows.

    Of `examples` those are shown whose checkpoint is that of a result.
    """
    experiments = comparison.experiments
    paper, reasons = paper_rows(experiments) if with_paper else ({}, [])
    shown = headings(experiments)
    groups = [found for row in comparison.titles if (found := suite_figures(experiments, row)) is not None]
    drawn = [i for i, of in enumerate(experiments) if any(of.title in found.names for found in groups)]
    curves = training_curves(experiments, smoothing)
    notes = _notes(comparison, shown, paper)
    if with_paper:
        notes += reasons
        if not paper and not reasons:
            notes.append("None of these runs corresponds to a row of the paper (its models, on ImageNet or COCO).")
    return (
        _environment()
        .get_template("page.html")
        .render(
            about=_about(comparison),
            headline=headline_table(comparison, shown, paper),
            notes=notes,
            groups=groups,
            groups_legend=legend(experiments, drawn),
            pictures=example_pictures(experiments, examples),
            curves=curves,
            curves_legend=legend(experiments, curves.drawn),
            suites=score_tables(comparison),
            columns=[(of.title, f"r{i % 8}") for i, of in enumerate(experiments)],
            checkpoints=[_checkpoint(of.name, run) for of in experiments for run in of.runs],
            style=Markup(_resource("style.css")),
        )
    )


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _resource(name: str) -> str:
    return resources.files("luab_jax.report.page").joinpath("templates", name).read_text(encoding="utf-8")


class _About(NamedTuple):
    """Where the page comes from."""

    files: str
    experiments: str
    date: str
    version: str
    command: str


def _about(comparison: Comparison) -> _About:
    count = sum(len(of.runs) for of in comparison.experiments)
    return _About(
        files=counted(count, "results file"),
        experiments=counted(len(comparison.experiments), "experiment"),
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=str(sys.modules["luab_jax"].__version__),  # the package of this module
        command=printable(shlex.join(command_line())),
    )


class _Checkpoint(NamedTuple):
    """Which checkpoint a result is of, and how it was evaluated."""

    name: str
    seed: int
    step: int
    dataset: str
    dtype: str
    weights: str
    preprocessing: str
    date: str
    versions: str
    command: str
    workdir: str
    path: str


def _checkpoint(name: str, run: Run) -> _Checkpoint:
    file, checkpoint = run.file, run.checkpoint
    stated = file.preprocessing
    sizes = [f"{field} {stated[field]}" for field in ("image_size", "resize_side", "filter") if field in stated]
    return _Checkpoint(
        name=name,
        seed=checkpoint.seed,
        step=checkpoint.step,
        dataset=printable(checkpoint.dataset),
        dtype=printable(file.dtype),
        weights="average" if checkpoint.weights == "ema" else "raw",
        preprocessing=printable(", ".join(sizes).replace("_", " ")),
        date=printable(file.date),
        versions=printable(", ".join(f"{package} {version}" for package, version in file.versions.items())),
        command=printable(shlex.join(file.command)) if file.command else "",
        workdir=printable(checkpoint.workdir),
        path=printable(run.path),
    )


def _notes(comparison: Comparison, shown: Sequence[Heading], paper: Mapping[int, Reported]) -> list[str]:
    """What a reader must know to read the table."""
    experiments = comparison.experiments
    found = ["± is the standard deviation over seeds; in brackets 95 % intervals."]
    if has_fewer_seeds(comparison) or has_fewer_groups(comparison):
        found.append(f"{FEWER}.")
    found += comparison.notes
    if len(experiments) > 1:
        found.append(
            f"{between(comparison)} In colour: the interval excludes 0. Bold: better than every other run, and the"
            " interval of each difference excludes 0. Of twenty differences without any effect, one is in colour."
        )
    others = {h.row for of in experiments[1:] for h in shown if other_data(experiments[0], of, h.row)}
    if others:
        found.append(f"† {MOVED}: {', '.join(sorted(others))}.")
    if any(heading.paper == "IN-O" for heading in shown):
        found.append("IN-O: AUROC, which the paper's column fits; AUPR is below.")
    if any(heading.paper == "ObjNet" for heading in shown):
        found.append("ObjNet: argmax over 1,000 classes, ObjectNet's own template; that over its 125 indices is below.")
    if paper:
        found.append(f"In grey: {SOURCE}.")
    return found
