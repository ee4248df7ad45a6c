"""Results files to a table or a page: what `luab_jax.write_report` and the command call."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from luab_jax.errors import UserError, option
from luab_jax.io.atomic import write_text
from luab_jax.report.render import Format, check_out, format_of, read, render


def write_report(
    results: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    paper: bool = False,
    baseline: str | None = None,
    smoothing: int = 1,
) -> str:
    """Puts results files side by side and returns the text, which is also written to `out` if that is given.

    Args:
        results: One or several results files, or workdirs with a `results.json`; local or in a bucket. Workdirs
            without one are skipped with a line on stderr.
        out: A file; its ending (.html .md .tex .csv .txt) chooses the format.
        format: `text`, `markdown`, `csv`, `latex` or `html`, whatever the ending.
        paper: Puts the paper's own numbers beside the runs; html and latex only.
        baseline: The run that differences are to; by default the one with target=none.
        smoothing: Averages training curves over so many logged values; html only.

    Raises:
        UserError: A file is none of results, or an argument makes no sense.
    """
    paths = [results] if isinstance(results, str | os.PathLike) else list(results)
    if not paths:
        raise UserError("results: no file is named")
    if format is not None and format not in [known.value for known in Format]:
        raise UserError(f"format={format!r}: expected one of {', '.join(known.value for known in Format)}")
    chosen = format_of(out or "") if format is None else Format(format)
    if paper and not chosen.shows_paper:
        raise UserError(f"paper: only html and latex show the paper's numbers, not {chosen.value}")
    if smoothing < 1:
        raise UserError(f"{option('smoothing', smoothing)}: expected 1 or more")
    if out is not None:
        check_out(out, paths)
    comparison = read(paths, baseline)
    if not chosen.shows_notes:
        for note in comparison.notes:
            print(note, file=sys.stderr)
    text = render(comparison, chosen, with_paper=paper, smoothing=smoothing)
    if out is not None:
        write_text(out, text)
    return text
