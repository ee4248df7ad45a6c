"""Results files as one text in any format: what the command and the Python API call."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from pathlib import Path, PurePath

from luab_jax.errors import UserError, option
from luab_jax.io import storage
from luab_jax.io.console import say
from luab_jax.report.comparison import seed_notes
from luab_jax.report.latex import latex
from luab_jax.report.records import as_csv
from luab_jax.report.runs import Comparison, compare, read_run
from luab_jax.report.table import as_markdown, as_text, table, table_notes
from luab_jax.report.training import training_notes
from luab_jax.results.example_images import examples_path, read_examples
from luab_jax.results.read import FILE_NAME


class Format(enum.Enum):
    TEXT = "text"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"
    HTML = "html"

    @property
    def shows_paper(self) -> bool:
        """Whether the paper's own numbers can stand beside the runs."""
        return self in (Format.HTML, Format.LATEX)

    @property
    def shows_notes(self) -> bool:
        """Whether the text itself says how the reference was chosen, to a person who reads it."""
        return self in (Format.HTML, Format.TEXT, Format.MARKDOWN)


_OF_ENDING = {".html": Format.HTML, ".htm": Format.HTML, ".md": Format.MARKDOWN, ".tex": Format.LATEX}
_OF_ENDING |= {".csv": Format.CSV, ".txt": Format.TEXT}


def format_of(path: str | os.PathLike[str]) -> Format:
    """By the ending of a file's name; text if it has none. Raises `UserError` for an ending that is not known."""
    ending = PurePath(os.fspath(path)).suffix
    if not ending:
        return Format.TEXT
    if ending.lower() not in _OF_ENDING:
        known = " ".join(name for name in _OF_ENDING if name != ".htm")
        raise UserError(
            f"{option('out', os.fspath(path))}: no report ends in {ending}; expected one of {known}, or"
            f" {option('format')}"
        )
    return _OF_ENDING[ending.lower()]


def read(paths: Sequence[str | os.PathLike[str]], baseline: str | None = None) -> Comparison:
    """Results files, or folders with a `results.json`, with what lies beside them.

    A folder without one, such as a run that was not evaluated yet, is skipped with a line on stderr. Raises
    `UserError` where no other is left, for a file that is none of results or is given twice, and for a `baseline` that
    names no run or several.
    """
    names = [os.fspath(path) for path in paths]
    without = {name: line for name in names if (line := _no_results(name))}
    if len(without) == len(set(names)):
        raise UserError("\n".join(without.values()))
    chosen = [name for name in names if name not in without]
    _check_twice(chosen)
    for line in without.values():
        say(line)
    comparison = compare([read_run(name) for name in chosen], baseline)
    comparison.notes.extend([*seed_notes(comparison.experiments), *training_notes(comparison.experiments)])
    return comparison


def _no_results(name: str) -> str | None:
    """Why a local folder stands for no results, and what to do; None for all else."""
    place = storage.place(name)
    if storage.is_remote(place) or not place.is_dir() or (place / FILE_NAME).exists():
        return None
    shown = name.rstrip("/") or name
    if next(Path(place).glob(f"*/{FILE_NAME}"), None) is not None:
        return f"{shown}: no {FILE_NAME} in this folder; did you mean {shown}/*/{FILE_NAME}?"
    out = f"{shown}/{FILE_NAME}"
    return f"{shown}: no results yet; python -m luab_jax.evaluate --checkpoint={shown} --data=DATA --out={out}"


def _check_twice(names: Sequence[str]) -> None:
    """Raises `UserError` where two names are of one results file."""
    seen: set[str] = set()
    for name in names:
        if (file := _results_file(name)) in seen:
            raise UserError(f"{name} is given twice")
        seen.add(file)


def check_out(out: str | os.PathLike[str], paths: Sequence[str | os.PathLike[str]]) -> None:
    """Raises `UserError` where a report would replace results that it is made of."""
    place = storage.place(os.fspath(out))
    file = os.fspath(place) if storage.is_remote(place) else os.fspath(storage.resolved(place))
    if file in [_results_file(os.fspath(path)) for path in paths]:
        raise UserError(
            f"{option('out', os.fspath(out))}: is one of the results that the report is of; choose another name"
        )


def _results_file(name: str) -> str:
    """The file that a name stands for, by its one true path."""
    place = storage.place(name)
    if storage.is_remote(place):
        return name
    return os.fspath(storage.resolved(place / FILE_NAME if place.is_dir() else place))


def render(comparison: Comparison, format: Format, *, with_paper: bool = False, smoothing: int = 1) -> str:
    """The whole text. `smoothing` is of training curves, over so many logged values."""
    match format:
        case Format.HTML:
            from luab_jax.report.page.write import page  # Jinja2 and Pillow, which the other formats do without

            runs = [run for experiment in comparison.experiments for run in experiment.runs if run.path]
            beside = [path for run in runs if storage.facts(path := examples_path(run.path)) is not None]
            examples = [read_examples(path) for path in beside]
            text = page(comparison, with_paper=with_paper, examples=examples, smoothing=smoothing)
        case Format.LATEX:
            text = latex(comparison, with_paper=with_paper)
        case Format.CSV:
            text = as_csv(comparison)
        case Format.MARKDOWN:
            text = as_markdown(table(comparison, markdown=True), table_notes(comparison))
        case Format.TEXT:
            text = as_text(table(comparison), table_notes(comparison))
    return text.encode(errors="replace").decode()  # JSON may hold halves of characters
