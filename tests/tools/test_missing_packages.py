"""A tool that lacks a package says in one line which extra has it."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tools

ROOT = Path(__file__).parents[2]
INSTALLED_AS = {"argon2": "argon2-cffi", "sklearn": "scikit-learn", "werkzeug": "moto"}
"""Packages that are imported by another name than they are installed by, and one that comes with another."""


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("tools.proof", "sklearn", "test"),
        ("tools.one_table", "torch", "torch"),
        ("tools.roads", "torch", "torch"),
        ("benchmarks.recipe_parity", "timm", "torch"),
    ],
)
def test_a_missing_package_is_one_line_with_its_extra(module: str, missing: str, extra: str, tmp_path: Path) -> None:
    hidden = f"raise ModuleNotFoundError(\"No module named '{missing}'\", name='{missing}')"
    (tmp_path / f"{missing}.py").write_text(hidden)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: needs the package {missing}: pip install '.[{extra}]'\n"


def test_other_errors_keep_their_traceback() -> None:
    for error in (ModuleNotFoundError("x", name="luab_jax.dta"), ImportError("x", name="sklearn"), ValueError("x")):
        assert tools.what_is_missing(error) is None


def test_the_extra_has_the_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    for package, extra in tools._EXTRA_OF.items():
        there = {re.split(r"[\[<>=]", line)[0] for line in extras[extra].split()}
        assert INSTALLED_AS.get(package, package) in there, package
