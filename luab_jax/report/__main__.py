"""Results side by side: `python -m luab_jax.report A.json B.json ... [--out=report.html] [--format=...] [--paper]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from luab_jax import cli
from luab_jax.errors import ExitCode, UserError
from luab_jax.report.render import Format, format_of
from luab_jax.report.write import write_report

_COMMAND = cli.Command(
    "python -m luab_jax.report",
    "Puts results files side by side: a table for the terminal, markdown, LaTeX or CSV,\n"
    "or a page with figures, training curves and example images.",
    (
        "RUNS/*/results.json",
        "RUNS/none RUNS/luab --out=report.html",
        "RUNS/*/results.json --baseline=none --paper --out=table.tex",
    ),
    takes_names=True,
)
_FORMAT = flags.DEFINE_enum(
    "format",
    None,
    [format.value for format in Format],
    "How to write; by the ending of --out (.html .md .tex .csv .txt) if not given, else text.",
    flag_values=_COMMAND.flags,
)
_TO = flags.DEFINE_string("out", None, "A file to write; the terminal otherwise.", flag_values=_COMMAND.flags)
_PAPER = flags.DEFINE_bool(
    "paper", False, "Put the paper's own numbers beside the runs; html and latex have them.", flag_values=_COMMAND.flags
)
_BASELINE = flags.DEFINE_string(
    "baseline",
    None,
    "The run that differences are to: its name in the table, its file or workdir, or its target. By default the run"
    " with target=none, in whatever order the files are given.",
    flag_values=_COMMAND.flags,
)
_SMOOTHING = flags.DEFINE_integer(
    "smoothing",
    1,
    "Average training curves over so many logged values; html only.",
    lower_bound=1,
    flag_values=_COMMAND.flags,
)


def main(argv: Sequence[str] | None = None) -> ExitCode:
    """Runs the command; see `--help`."""
    return _COMMAND.run(_main, argv)


def _main(arguments: cli.Arguments) -> ExitCode:
    if not arguments.names:
        cli.usage("which results? python -m luab_jax.report A.json B.json ...")
    format = _format()
    if _PAPER.value and not format.shows_paper:
        cli.usage(f"--paper: only html and latex show the paper's numbers, not {format.value}")
    text = write_report(
        arguments.names,
        _TO.value,
        format=format.value,
        paper=_PAPER.value,
        baseline=_BASELINE.value,
        smoothing=_SMOOTHING.value,
    )
    if _TO.value is None:
        sys.stdout.write(text)
    else:
        print(f"report in {_TO.value}", file=sys.stderr)
    return ExitCode.DONE


def _format() -> Format:
    if _FORMAT.value:
        return Format(_FORMAT.value)
    try:
        return format_of(_TO.value or "")
    except UserError as e:
        cli.usage(str(e))


if __name__ == "__main__":
    cli.run_program(main)
