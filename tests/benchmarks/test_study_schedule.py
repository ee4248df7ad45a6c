"""The order in which the study's runs are carried out, one or several at a time."""

from __future__ import annotations

import math
import os
import re
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.study import __main__ as study
from benchmarks.study import plan, runs
from benchmarks.study.schedule import Schedule, expected_seconds
from luab_jax.errors import ExitCode, UserError

two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
RUNS = plan.choosing()


def finish(out: Path, name: str, **facts: float) -> None:
    folder = out / "runs" / name
    folder.mkdir(parents=True)
    runs.write_facts(folder, {"seconds": 1.0, "length": 1.0} | facts)


class Processes:
    """Stands for `subprocess.run`: each command is noted with the cores of its thread, and its run is finished."""

    def __init__(self, codes: dict[str, ExitCode] | None = None):
        self.codes = codes or {}
        self.names: list[str] = []
        self.cores: dict[str, set[int]] = {}
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, command: list[str], **_: object) -> SimpleNamespace:
        out, name = (next(a.partition("=")[2] for a in command if a.startswith(flag)) for flag in ("--out=", "--run="))
        with self._lock:
            self.names.append(name)
            self.cores[name] = os.sched_getaffinity(0)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.05)
        with self._lock:
            self.at_once -= 1
        code = self.codes.get(name, ExitCode.DONE)
        if code == ExitCode.DONE:
            finish(Path(out), name)
        return SimpleNamespace(returncode=int(code))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    made = Processes()
    monkeypatch.setattr(subprocess, "run", made)
    return made


@two_cores
def test_every_run_is_carried_out_once_two_at_a_time_on_cores_of_their_own(tmp_path: Path, processes: Processes):
    finish(tmp_path, RUNS[1].name)
    before = os.sched_getaffinity(0)
    assert Schedule(tmp_path, 1.0, math.inf, jobs=2).carry_out(RUNS, 10.0) == []
    assert sorted(processes.names) == sorted(run.name for run in RUNS if run != RUNS[1])
    assert processes.names[0] in (RUNS[0].name, RUNS[2].name) and processes.most_at_once == 2
    halves = {frozenset(cores) for cores in processes.cores.values()}
    assert len(halves) == 2 and not frozenset.intersection(*halves) and frozenset.union(*halves) == before
    assert os.sched_getaffinity(0) == before


@two_cores
def test_a_failed_run_ends_the_study_and_says_which(tmp_path: Path, processes: Processes):
    processes.codes[RUNS[0].name] = ExitCode.FAILED
    with pytest.raises(UserError, match=re.escape(f"{RUNS[0].name}: ended with exit code 1")):
        Schedule(tmp_path, 1.0, math.inf, jobs=2).carry_out(RUNS, 10.0)
    assert len(processes.names) < len(RUNS)


@two_cores
def test_a_stopped_run_stops_the_study(tmp_path: Path, processes: Processes):
    processes.codes[RUNS[0].name] = ExitCode.STOPPED_RESUMABLE
    with pytest.raises(KeyboardInterrupt):
        Schedule(tmp_path, 1.0, math.inf, jobs=2).carry_out(RUNS, 10.0)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=two_cores)])
def test_a_run_that_would_not_end_in_time_is_left(tmp_path: Path, processes: Processes, jobs: int):
    finish(tmp_path, RUNS[0].name, seconds=100.0)
    left = Schedule(tmp_path, 1.0, time.monotonic() + 50, jobs=jobs).carry_out(RUNS, 10.0)
    assert left == RUNS[1:] and not processes.names


def test_a_run_is_expected_to_take_as_long_as_its_length_says(tmp_path: Path) -> None:
    """Known are one of length 3 and, slower for its length, one of length 1 that an earlier version left."""
    long = next(run for run in plan.ordered() if run.arm.length == 3 and run.model == "resnet")
    short = next(run for run in plan.ordered() if run.arm.length == 1 and run.model == "resnet")
    assert expected_seconds(tmp_path, long) is None
    finish(tmp_path, "resnet/a", seconds=30.0, length=3.0)
    (tmp_path / "runs" / "resnet" / "b").mkdir()
    (tmp_path / "runs" / "resnet" / "b" / runs.SECONDS).write_text('{"seconds": 11.0}')
    assert (expected_seconds(tmp_path, short), expected_seconds(tmp_path, long)) == (11.0, 33.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs=0"], "--jobs=0: expected 1 to"),
        (["--jobs=9999"], "--jobs=9999: expected 1 to"),
        (["--run=resnet/clik-seed0"], "not in the plan; --plan prints it"),
        (["--run=resnet/click-seed0"], "no study has begun there"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert study.main([f"--out={tmp_path}", *arguments]) == ExitCode.FAILED
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
