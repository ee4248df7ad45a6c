"""One console script for all commands: `luab-jax train --config=...` is `python -m luab_jax.main --config=...`."""

from __future__ import annotations

import difflib
import runpy
import sys
from typing import NoReturn

from luab_jax.errors import ExitCode

COMMANDS = {
    "train": ("luab_jax.main", "trains one experiment"),
    "evaluate": ("luab_jax.evaluate", "runs the robustness suites on a checkpoint"),
    "report": ("luab_jax.report", "puts results side by side, as text or as a page"),
    "export": ("luab_jax.export", "writes a checkpoint by timm's names"),
    "preview": ("luab_jax.preview", "plots the batches that training would see"),
    "preflight": ("luab_jax.preflight", "compiles the training step for devices that need not be there"),
    "data": ("data_prep", "prepares, inspects and verifies data, and collects byproducts"),
}
"""Command to the module that `python -m` runs, and what it does."""


def main() -> None:
    """Runs the command that the first argument names, in this process."""
    command, *rest = sys.argv[1:] or ["--help"]
    if command in ("--help", "-h", "help"):
        print(_help())
        sys.exit(int(ExitCode.DONE))
    if command == "--version":
        from importlib.metadata import version

        print(f"luab_jax {version('luab_jax')}")
        sys.exit(int(ExitCode.DONE))
    if command not in COMMANDS:
        _refuse(command)
    module, _ = COMMANDS[command]
    sys.argv = [f"luab-jax {command}", *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(("luab-jax COMMAND ...", "", *lines, "", "luab-jax COMMAND --help lists a command's options"))


def _refuse(command: str) -> NoReturn:
    near = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; the commands are {', '.join(COMMANDS)}"
    print(f"error: luab-jax has no command {command!r}{hint}", file=sys.stderr)
    sys.exit(int(ExitCode.USAGE))


if __name__ == "__main__":
    main()
