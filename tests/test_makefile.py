"""What the targets of the Makefile install."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def commands(target: str) -> str:
    """Of a machine where nothing is installed yet."""
    make = ["make", "--dry-run", "--always-make", target]
    return subprocess.run(make, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_the_collection_demo_installs_its_server_and_not_what_tests_need() -> None:
    found = commands("collect-demo")
    assert "--constraint requirements-test.lock --editable '.[collect]'" in found
    assert "--requirement requirements-test.lock" not in found
    assert "--requirement requirements-test.lock" in commands("lint")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_the_newest_packages_come_from_no_lock_and_into_their_own_environment() -> None:
    found = commands("test-newest")
    assert ".lock" not in found and "--upgrade --editable '.[test,collect]'" in found
    assert "/.venv/" not in found and ".venv-newest/bin/python -m pytest" in found
