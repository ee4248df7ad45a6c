"""Results side by side: `python -m luab_jax.report A.json B.json ... [--out=report.html] [--format=...] [--paper]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags
from etils import epath

from luab_jax import cli
from luab_jax.errors import ExitCode, UserError
from luab_jax.evaluation.report import Format, render, table

_FORMAT = flags.DEFINE_enum_class(
    "format", None, Format, "How to write; by the ending of --out (.html .md .tex .csv) if not given, else text."
)
_TO = flags.DEFINE_string("out", None, "A file to write; the terminal otherwise.")
_PAPER = flags.DEFINE_bool("paper", False, "Put the paper's own numbers beside the runs; html and latex have them.")

_OF_ENDING = {".html": Format.HTML, ".htm": Format.HTML, ".md": Format.MARKDOWN, ".tex": Format.LATEX}
_OF_ENDING |= {".csv": Format.CSV}


def main(paths: Sequence[str]) -> ExitCode:
    if not paths:
        cli.usage("which results? python -m luab_jax.report A.json B.json ...")
    target = None if _TO.value is None else epath.Path(_TO.value)
    format = _FORMAT.value or (Format.TEXT if target is None else _OF_ENDING.get(target.suffix.lower(), Format.TEXT))
    if _PAPER.value and format not in (Format.HTML, Format.LATEX):
        cli.usage(f"--paper: only html and latex show the paper's numbers, not {format.value}")
    text = _written(paths, format).encode(errors="replace").decode()  # JSON may hold halves of characters
    if target is None:
        sys.stdout.write(text)
        return ExitCode.DONE
    try:
        target.write_text(text)
    except OSError as e:
        raise UserError(f"--out={_TO.value}: cannot be written ({e.strerror or e})") from e
    print(f"report in {_TO.value}", file=sys.stderr)
    return ExitCode.DONE


def _written(paths: Sequence[str], format: Format) -> str:
    # After the flags, so that a usage error answers at once.
    from luab_jax.evaluation.examples import examples_path, read_examples
    from luab_jax.evaluation.latex import latex
    from luab_jax.evaluation.page.write import page
    from luab_jax.evaluation.results import read_results

    results = [read_results(path) for path in paths]
    if format is Format.HTML:
        beside = [path for result in paths if (path := examples_path(result)).exists()]
        return page(results, with_paper=_PAPER.value, examples=[read_examples(path) for path in beside])
    if format is Format.LATEX:
        return latex(results, with_paper=_PAPER.value)
    return render(table(results), format)


if __name__ == "__main__":
    cli.run(main, takes_arguments=True)
