"""A results file that no table can be made of ends in one error that names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luab_jax.errors import UserError
from luab_jax.evaluation.results import RESULTS_VERSION, read_results
from tests.evaluation.test_page import result


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    content = {"results_version": RESULTS_VERSION, **result("none")}
    assert read_results(written(tmp_path, content)) == content


def test_another_version_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, {"results_version": 99, "checkpoint": {}, "suites": {}})
    with pytest.raises(UserError, match=rf"{path}: results version 99, this version reads {RESULTS_VERSION}"):
        read_results(path)


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no checkpoint": lambda content: content.pop("checkpoint"),
    "no suites": lambda content: content.pop("suites"),
    "suites": lambda content: content.update(suites=[1]),
    "no seed": lambda content: content["checkpoint"].pop("seed"),
    "model": lambda content: content["checkpoint"].update(model=7),
    "weight": lambda content: content["checkpoint"].update(weight="much"),
    "suite": lambda content: content["suites"].update(imagenet=0.5),
    "n": lambda content: content["suites"]["imagenet"].update(n="64"),
    "group": lambda content: content["suites"]["demo_size"].update(groups={"a": "b"}),
    "endless group": lambda content: content["suites"]["demo_size"].update(groups={"a": float("inf")}),
    "one end": lambda content: content["suites"]["imagenet"].update(intervals={"top1": [0.5]}),
    "interval": lambda content: content["suites"]["imagenet"].update(intervals={"top1": [0.7, 0.5]}),
    "notes": lambda content: content["suites"]["imagenet"].update(data_notes={"val": "generated"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_error_that_names_the_file(tmp_path: Path, damage: str) -> None:
    content = {"results_version": RESULTS_VERSION, **result("none")}
    DAMAGE[damage](content)
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=f"{path}: not a results file"):
        read_results(path)
