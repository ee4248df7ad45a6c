"""Which suites `python -m tools.one_table` may leave without a result; with torch, timm and onnx, as the tool."""

from __future__ import annotations

import pytest

from luab_jax.api import none_could_run
from luab_jax.errors import UserError
from luab_jax.evaluation.run import SuiteResults
from luab_jax.evaluation.runner import choose_suites
from luab_jax.evaluation.suite import Need
from tests.report import made

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("safetensors.torch")

from tools.one_table import print_gaps, print_verdict


def results(missing: dict[str, str]) -> SuiteResults:
    return SuiteResults(made.file("none"), tuple(missing), missing)


def test_what_a_model_lacks_is_no_failure_and_anything_else_is(capsys: pytest.CaptureFixture[str]) -> None:
    (suite,) = choose_suites("imagenet_a")
    expected = {
        "coco": "the checkpoint was trained on one label per image",
        "demo_size": "it scores the demo's classes, the checkpoint was trained on another list of 10 classes (hash a)",
        "localisation": f"{Need.MAP.value}; --maps=rise makes one by occlusion",
        suite.name: f"no data for test; get it with: {suite.how_to_get}",
    }
    assert print_gaps({"a": results(expected), "b": results(expected)}) == (8, 0)
    assert "not run: coco (all models): the checkpoint was" in capsys.readouterr().out
    broken = results(expected | {"cocc": "imagenet/val: record 3 cannot be read"})
    assert print_gaps({"a": results(expected), "b": broken}) == (8, 1)
    assert "FAILED: cocc (b): imagenet/val: record 3 cannot be read\n" in capsys.readouterr().out
    error = UserError(none_could_run(broken, "DATA"))
    assert print_gaps({"a": results(expected), "b": error}) == (4, 1)
    assert "FAILED: all suites (b): error: no suite could run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("num_scored", "failed", "code"), [(2, 0, 0), (1, 0, 1), (2, 1, 1)], ids=["all", "a model less", "a suite failed"]
)
def test_the_last_line_says_why_the_exit_code_is_what_it_is(
    num_scored: int, failed: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_verdict(2, num_scored, 8, failed) == code
    told = capsys.readouterr().out
    assert told.startswith(f"exit code {code}: {num_scored} of 2 models have results;")
    assert "8 as expected" in told and f"{failed} failed" in told
