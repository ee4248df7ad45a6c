"""A suite is known by what it does, not by its name alone."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luab_jax
from luab_jax.evaluation import definitions
from luab_jax.evaluation.answers import Answer, label_set, own_label
from luab_jax.evaluation.suite import Part, Procedure, Scored, Suite, View
from luab_jax.evaluation.suites import SUITES
from tests import tiny

REPOSITORY = Path(__file__).resolve().parents[2]
Score = Callable[[Mapping[str, Any]], Mapping[str, object]]


def share(parts: Mapping[str, Any]) -> Mapping[str, object]:
    return {"right": float(np.mean(parts["val"].right)), "n": len(parts["val"])}


def share_wrong(parts: Mapping[str, Any]) -> Mapping[str, object]:
    return {"right": 1 - float(np.mean(parts["val"].right)), "n": len(parts["val"])}


def next_label(truth: Any) -> tuple[int, ...]:
    return ((truth.label + 1) % 3,)


def suite(score: Score = share, **part: Any) -> Suite:
    return Suite("mine", {"val": Part((".",), "val", **part)}, Scored(score), "right")


def scaled(by: float) -> Score:
    return lambda parts: {"right": by, "n": 1}


def calls_itself() -> Score:
    def score(parts: Mapping[str, Any]) -> Mapping[str, object]:
        return other(parts)

    def other(parts: Mapping[str, Any]) -> Mapping[str, object]:
        return score(parts)

    return score


def of_exec() -> Score:
    """As a document's example is run: of no module, and without a source."""
    made: dict[str, Any] = {}
    exec("def score(parts): return {'right': 1.0, 'n': 1}", {"__builtins__": {}}, made)
    return made["score"]


OTHERS = {
    "reduce": suite(reduce=Answer(right=label_set)),
    "view": suite(view=View.CENTRE_BLACK),
    "score": suite(share_wrong),
    "closure": suite(scaled(1.0)),
    "another value in it": suite(scaled(2.0)),
    "partial": suite(functools.partial(share_wrong)),
    "procedure": replace(suite(), method=Procedure(lambda predictor, opened, work: {"n": 1})),
    "labels": replace(suite(), label_sets=True),
    "functions that call each other": suite(calls_itself()),
    "of no module": suite(of_exec()),
}


def test_another_row_has_another_definition() -> None:
    found = {name: definitions.of_suite(other) for name, other in {"": suite(), **OTHERS}.items()}
    assert len(set(found.values())) == len(found), found
    assert found[""] == definitions.of_suite(replace(suite(), protocol="in other words", how_to_get="elsewhere"))
    assert definitions.of_part(suite().parts["val"]) != definitions.of_part(OTHERS["reduce"].parts["val"])


def test_every_suite_has_the_same_definition_in_every_process() -> None:
    code = (
        "import json; from luab_jax.evaluation import definitions; from luab_jax.evaluation.suites import SUITES;"
        "print(json.dumps({suite.name: definitions.of_suite(suite) for suite in SUITES}))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == {of.name: definitions.of_suite(of) for of in SUITES}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare_split(tmp_path_factory.mktemp("data"), "val", 16)


def evaluate(data: Path, out: Path, asked: Suite | str, stop_at: int = 0, side: int = 16) -> luab_jax.SuiteResults:
    """By a function that says class 1 of every image, four at a time; Ctrl-C before the batch `stop_at`."""
    num_batches = 0

    def ones(images: np.ndarray) -> np.ndarray:
        nonlocal num_batches
        num_batches += 1
        if num_batches == stop_at:
            raise KeyboardInterrupt
        return np.eye(3)[np.ones(len(images), int)]

    preprocessing = luab_jax.Preprocessing(image_size=side, resize_side=16)
    return luab_jax.run_suites(
        ones, data=data, suites=[asked], out=out, preprocessing=preprocessing, classes=tiny.CLASSES, name="ones",
        batch_size=4, examples=0,
    )  # fmt: skip


EDITED = suite(reduce=Answer(right=next_label))


@pytest.mark.parametrize("edited", [suite(share_wrong), EDITED], ids=["score", "reduce"])
def test_the_result_of_an_edited_suite_is_not_kept(
    edited: Suite, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    evaluate(data, out, suite())
    capsys.readouterr()
    evaluate(data, out, suite())
    assert "mine: already in the results" in capsys.readouterr().err
    found = evaluate(data, out, edited)["mine"]["right"]
    assert "mine: its result is from another definition of the suite" in capsys.readouterr().err
    assert found == evaluate(data, tmp_path / "fresh.json", edited)["mine"]["right"]


def test_work_that_an_edited_suite_had_begun_is_begun_anew(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    right = Answer(right=own_label)
    with pytest.raises(KeyboardInterrupt):
        evaluate(data, out, suite(reduce=right), stop_at=3)
    assert list(tmp_path.glob("results.json.unfinished/*/*.npz"))
    found = evaluate(data, out, EDITED)["mine"]
    assert found["n"] == 16 and found["right"] == evaluate(data, tmp_path / "fresh.json", EDITED)["mine"]["right"]
    assert found["right"] != evaluate(data, tmp_path / "other.json", suite(reduce=right))["mine"]["right"]


def test_results_on_other_pixels_are_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    evaluate(data, out, suite())
    with pytest.raises(luab_jax.UserError, match="another checkpoint or preprocessing"):
        evaluate(data, out, suite(), side=12)


@pytest.mark.parametrize(
    "stated",
    [
        {"outputs": luab_jax.Outputs.PROBABILITIES},
        {"input": luab_jax.InputFormat(dtype="float32")},
        {"columns": np.arange(3)},
    ],
)
def test_a_function_of_which_something_else_is_stated_is_another_model(stated: dict[str, Any]) -> None:
    def usual(**stated: Any) -> luab_jax.FunctionModel:
        preprocessing = luab_jax.Preprocessing(image_size=16, resize_side=16)
        return luab_jax.FunctionModel(np.ones, preprocessing, "ones", classes=tiny.CLASSES, **stated)

    assert usual().identity == usual().identity != usual(**stated).identity
