"""data_prep's README names every option that --help has."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

import data_prep
from data_prep.arguments import make_parser

README = Path(data_prep.__file__).with_name("README.md").read_text()
COMMANDS = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices  # pyright: ignore
OF_SEVERAL = README[README.index("All others take") :].partition("\n\n")[0]
"""The paragraph of the options that commands share."""


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "collect"])
def test_the_readme_names_every_option(command: str) -> None:
    usage = re.search(rf"    python -m data_prep {command} .*(?:\n {{20,}}.*)*", README)
    assert usage is not None
    options = {o for action in COMMANDS[command]._actions for o in action.option_strings if o.startswith("--")}
    named = set(re.findall(r"--\w+", usage.group() + OF_SEVERAL))
    assert options - {"--help"} <= named
