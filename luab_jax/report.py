"""Results side by side: `python -m luab_jax.report A.json B.json ... [--format=text|markdown|csv] [--out=FILE]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags
from etils import epath

from luab_jax import cli
from luab_jax.errors import ExitCode, UserError
from luab_jax.evaluation.report import Format, render, table

_FORMAT = flags.DEFINE_enum_class("format", Format.TEXT, Format, "How to write the table.")
_TO = flags.DEFINE_string("out", None, "A file to write; the terminal otherwise.")


def main(paths: Sequence[str]) -> ExitCode:
    from luab_jax.evaluation.results import read_results

    if not paths:
        cli.usage("which results? python -m luab_jax.report A.json B.json ...")
    text = render(table([read_results(path) for path in paths]), _FORMAT.value)
    if _TO.value is None:
        sys.stdout.write(text)
        return ExitCode.DONE
    try:
        epath.Path(_TO.value).write_text(text)
    except OSError as e:
        raise UserError(f"--out={_TO.value}: cannot be written ({e.strerror or e})") from e
    return ExitCode.DONE


if __name__ == "__main__":
    cli.run(main, takes_arguments=True)
