"""results.json and its answers are written suite by suite, and continued."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from luab_jax.errors import UserError, options_are_flags
from luab_jax.evaluation.results import Results
from luab_jax.results.answers import Kind, Sample, answers_path, read_answers
from luab_jax.results.format import Data, Suite
from luab_jax.results.read import read_results
from tests.report import made
from tools.miniatures import tiny_model

SAMPLE = Sample(Kind.RIGHT, np.array([True, False]), ["a", "b"])


def entry(value: float = 0.5) -> Suite:
    return Suite(n=2, scores={"top1": made.share(value)}, data=Data(identity={"val": "f"}))


def test_a_file_states_what_evaluated_it(tmp_path: Path) -> None:
    Results(tmp_path / "results.json", tiny_model()).add("imagenet", entry())
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["results_version"] == 2 and content["dtype"] == "float32" and content["versions"]["jax"]
    assert content["date"].endswith("+00:00")
    assert content["preprocessing"]["image_size"] == tiny_model().preprocessing.image_size


def test_a_file_states_the_command_that_made_it_and_none_where_python_did() -> None:
    """What is on the command line of a script is none of ours."""
    assert Results(None, tiny_model()).content.command == []
    words = ["python", "-m", "luab_jax.evaluate", "--suites=all"]
    with options_are_flags(words):
        assert Results(None, tiny_model()).content.command == words


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_torn_file_is_refused_with_the_remedy_that_works(tmp_path: Path, share: float) -> None:
    """A full disk or a kill leaves the file before, whole; a crash of the machine may leave this."""
    path = tmp_path / "results.json"
    Results(path, tiny_model()).add("imagenet", entry(0.25))
    whole = path.read_text()
    path.write_text(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=rf"^{path}: .* cut off .*overwrite=True"):
        Results(path, tiny_model())
    Results(path, tiny_model(), overwrite=True).add("imagenet", entry())
    assert read_results(path).suites["imagenet"]["top1"] == 0.5


def test_a_full_disk_leaves_the_results_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(tmp_path / "results.json", tiny_model())
    results.add("imagenet", entry())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(UserError, match=r"cannot be written \(No space"):
        disk.setattr(os, "fsync", full)
        results.add("cocc", entry())
    again = Results(tmp_path / "results.json", tiny_model())
    assert again.suites.keys() == {"imagenet"}
    again.add("cocc", entry())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.answers.npz", "results.json"]


def test_answers_of_suites_that_were_done_before_stay(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Results(path, tiny_model()).add("imagenet", entry(), {"top1": SAMPLE})
    Results(path, tiny_model()).add("cocc", entry(), {"top1": SAMPLE})
    answers = read_answers(answers_path(path))
    assert answers.suites.keys() == {"imagenet", "cocc"}
    assert answers.suites["imagenet"]["top1"].data == {"val": "f"}
    assert answers.checkpoint == read_results(path).checkpoint


def test_damaged_answers_do_not_stop_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.json"
    Results(path, tiny_model()).add("imagenet", entry(), {"top1": SAMPLE})
    answers_path(path).write_bytes(b"torn")
    Results(path, tiny_model()).add("cocc", entry(), {"top1": SAMPLE})
    assert "not the answers" in capsys.readouterr().err
    assert read_answers(answers_path(path)).suites.keys() == {"cocc"}


def test_a_result_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json", tiny_model())
    broken = entry()
    broken.scores["top1"].interval = (0.6, 0.7)
    with pytest.raises(ValueError, match="does not hold the value"):
        results.add("imagenet", broken)
    assert not (tmp_path / "results.json").exists()


def test_version_1_is_continued(tmp_path: Path) -> None:
    """Its suites stay, and the file becomes one of the current version."""
    model, path = tiny_model(), tmp_path / "results.json"
    old = {"top1": 0.25, "n": 4, "data": {"val": "f"}, "seconds": 1.0}
    content = {"results_version": 1, "checkpoint": model.identity, "suites": {"imagenet": old}, "name": "tiny"}
    path.write_text(json.dumps(content))
    results = Results(path, model)
    assert results.suites["imagenet"]["top1"] == 0.25 and results.suites["imagenet"].data.identity == {"val": "f"}
    results.add("cocc", entry())
    assert json.loads(path.read_text())["results_version"] == 2
    assert read_results(path).suites.keys() == {"imagenet", "cocc"}
