"""Some of the faults that `python -m tools.faults` injects by the dozen, and that it notices a difference."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from tools.faults import outputs, surroundings
from tools.faults.__main__ import main
from tools.faults.kills import kill_often
from tools.faults.runs import Training, difference
from tools.faults.several import order_hash
from tools.faults.single import told_to_stop


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    return Training(tmp_path_factory.mktemp("faults"), total_steps=12)


@pytest.fixture(scope="module")
def reference(training: Training) -> Path:
    workdir = training.folder / "uninterrupted"
    run = training.run(workdir)
    assert run.process.returncode == 0, run.output
    return workdir


def test_kills_lose_nothing(training: Training, reference: Path) -> None:
    killed = kill_often(training, reference, start_s=5.0, kills=2, seed=3)
    assert sum(killed.hits.values()) == 2 and killed.runs >= 1
    assert not killed.differences


@pytest.mark.parametrize("kills", ["-1", "0", "many"])
def test_nothing_is_no_number_of_kills(kills: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--kills={kills}", "--groups=kills"])
    assert "is not a whole number of at least 1" in capsys.readouterr().err


def test_sigterm_saves_and_loses_nothing(training: Training, reference: Path) -> None:
    row = told_to_stop(training, reference, signal.SIGTERM)
    assert row.lost == "nothing"
    assert row.seen.startswith("exit code 3: received SIGTERM") and "the same command resumes" in row.seen


def test_reports_survive_kills_and_a_full_disk(training: Training, reference: Path) -> None:
    written = outputs.Outputs(training, reference)
    first = written.run("evaluation", "results.json")
    assert first.wait() == 0, first.output
    for row in (outputs.killed(written, "report", "report.html"), outputs.full(written, "report", "report.html", 4)):
        assert row.lost.startswith("nothing"), row
    assert "report.html: cannot be written (File too large); raise the limit on file sizes" in row.seen


def test_an_old_locale_and_no_temporary_folder_change_nothing(training: Training, reference: Path) -> None:
    odd = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TMPDIR": "/nowhere", "HOME": None}
    row = surroundings.Surroundings(training, reference).started("odd -O", "all at once", odd)
    assert row.lost == "nothing" and row.seen.startswith("done: 12 steps"), row


def test_what_was_lost_would_be_noticed(training: Training, reference: Path, tmp_path: Path) -> None:
    workdir = Path(shutil.copytree(reference, tmp_path / "copy"))
    assert difference(training, workdir, reference) == ""
    lines = (reference / "metrics.jsonl").read_text().splitlines()
    (workdir / "metrics.jsonl").write_text("\n".join(lines[:3] + lines[2:]) + "\n")
    assert difference(training, workdir, reference).startswith("metrics.jsonl has the steps [1, 2, 3, 3, 4")
    other = json.loads(lines[0]) | {"train/loss": 0.0}
    (workdir / "metrics.jsonl").write_text("\n".join([json.dumps(other), *lines[1:]]) + "\n")
    assert difference(training, workdir, reference) == "metrics.jsonl has other values"


def test_the_order_of_records_does_not_depend_on_the_number_of_hosts(training: Training) -> None:
    assert len({order_hash(training, num_hosts) for num_hosts in (1, 2, 4)}) == 1
