"""What messages ask for is what setup.cfg has, and can be typed."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import pytest

from luab_jax.io.wording import EXTRAS, how_to_install

ROOT = Path(__file__).parents[2]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_told_with_the_packages_that_it_has(extra: str) -> None:
    wanted = [line for line in SETUP["options.extras_require"][extra].splitlines() if line]
    in_clone, by_name = how_to_install(extra).split(" (in a clone), or ")
    assert shlex.split(in_clone) == ["pip", "install", f".[{extra}]"]
    assert shlex.split(by_name) == ["pip", "install", *(re.split("[<>=]", line)[0] for line in wanted)]


def test_nobody_is_sent_to_an_index_that_does_not_have_this_package() -> None:
    told = re.compile(r"pip install [^`|\n]*\bluab_jax\b")
    suffixes = {".py", ".md", ".cfg", ".toml", ".sh", ".ipynb", ".yaml"}
    folders = ("luab_jax", "data_prep", "configs", "tools", "benchmarks", "docs", "launch", "notebooks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    files += [path for path in ROOT.iterdir() if path.suffix in suffixes]
    assert len(files) > 300
    assert [
        f"{path}: {line}" for path in files for line in path.read_text("utf-8").splitlines() if told.search(line)
    ] == []
