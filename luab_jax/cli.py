"""How every command of luab_jax starts and ends: flags, one clear message, an exit code."""

from __future__ import annotations

import difflib
import os
import re
import runpy
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags, logging

from luab_jax.config import flatten
from luab_jax.errors import ExitCode, UserError
from luab_jax.pipes import quiet_when_unread


def run(main: Callable[..., ExitCode], *, takes_arguments: bool = False, unparsed: str | None = None) -> None:
    """Parses the flags, calls `main`, exits. A `UserError` is one line on stderr; other errors keep their traceback.

    Flags that begin with `unparsed` are left to `main`, after the arguments.
    """

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1 and not takes_arguments:
            usage(f"unexpected argument {argv[1]!r}; options are written --name=value")
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax tells a page of details per checkpoint
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            code = main(argv[1:]) if takes_arguments else main()
        except UserError as e:
            print(f"error: {e}", file=sys.stderr)
            code = ExitCode.FAILED
        except KeyboardInterrupt:
            print("interrupted; the same command continues from what was saved", file=sys.stderr)
            code = ExitCode.STOPPED_RESUMABLE
        sys.exit(int(code))

    with quiet_when_unread():
        app.run(guarded, flags_parser=lambda argv: _parse(argv, unparsed))


def _interrupt(signum: int, frame: object) -> NoReturn:
    """A scheduler's request to stop ends a command as Ctrl-C does; training has a handler of its own."""
    raise KeyboardInterrupt


def _parse(argv: list[str], unparsed: str | None) -> list[str]:
    check_overrides(argv)
    left = [argument for argument in argv[1:] if unparsed and argument.startswith(unparsed)]
    try:
        return flags.FLAGS([argument for argument in argv if argument not in left]) + left
    except flags.Error as e:
        missing = re.search(r"Flag --(\w+) must have a value other than None", str(e))
        usage(f"--{missing[1]}=... is missing" if missing else str(e))


def usage(message: str) -> NoReturn:
    """Exits with the code for wrong usage."""
    print(f"error: {message}\n(--help lists the options)", file=sys.stderr)
    sys.exit(int(ExitCode.USAGE))


def check_overrides(argv: list[str]) -> None:
    """Exits with the nearest name if `--config.some.field` does not exist, or the config file is not there.

    ml_collections would end in a traceback from its own depths.
    """
    paths = [a.partition("=")[2] for a in argv if a.lstrip("-").startswith("config=")]
    if not paths:
        return
    for path in paths:
        if os.path.exists(path):
            continue
        folder = os.path.dirname(path) or "."
        there = sorted(f for f in os.listdir(folder) if f.endswith(".py")) if os.path.isdir(folder) else []
        near = difflib.get_close_matches(os.path.basename(path), there, n=1, cutoff=0.5)
        hint = f"; did you mean {os.path.join(folder, near[0])}?" if near else "; configs/ holds the experiments"
        usage(f"--config={path}: no such file{hint}")
    known = flatten(runpy.run_path(paths[-1])["get_config"]())
    for argument in argv:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and name.startswith("config."):
            field = name.removeprefix("config.")
            if field not in known:
                near = difflib.get_close_matches(field, known, n=1, cutoff=0.0)
                usage(f"--{name}: the config has no field {field!r}; did you mean --config.{near[0]}?")
