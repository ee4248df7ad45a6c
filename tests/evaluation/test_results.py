"""A results file that no table can be made of ends in one error that names it."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from luab_jax.errors import UserError
from luab_jax.evaluation.results import RESULTS_VERSION, Results, read_results
from tests.evaluation.miniatures import tiny_model
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


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_torn_file_is_refused_with_the_remedy_that_works(tmp_path: Path, share: float) -> None:
    """A full disk or a kill leaves the file before, whole; a crash of the machine may leave this."""
    whole = json.dumps({"results_version": RESULTS_VERSION, **result("none")})
    path = tmp_path / "results.json"
    path.write_text(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=rf"^{path}: .* cut off .*; evaluate with another --out, or with --overwrite"):
        Results(path, tiny_model())
    Results(path, tiny_model(), overwrite=True).add("imagenet", {"top1": 0.5, "n": 2})
    assert read_results(path)["suites"]["imagenet"]["top1"] == 0.5


def test_a_full_disk_leaves_the_results_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(tmp_path / "results.json", tiny_model())
    results.add("imagenet", {"top1": 0.5, "n": 2})

    def full(path: Path, text: str) -> None:
        path.write_bytes(text[:10].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(UserError, match=r"results\.json: cannot be written \(No space"):
        disk.setattr(type(epath.Path(tmp_path)), "write_text", full)
        results.add("cocc", {"top1": 0.4, "n": 2})
    again = Results(tmp_path / "results.json", tiny_model())
    assert again.suites.keys() == {"imagenet"}
    again.add("cocc", {"top1": 0.4, "n": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


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
