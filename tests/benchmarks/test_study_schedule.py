"""The order in which the study's runs are carried out, one or several at a time."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.study import __main__ as study
from benchmarks.study import plan, runs, schedule
from benchmarks.study.schedule import Schedule, expected_seconds
from luab_jax.errors import ExitCode, UserError

two_cores = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores"
)
RUNS = plan.choosing()


def finish(out: Path, name: str, **facts: float) -> None:
    folder = out / "runs" / name
    folder.mkdir(parents=True)
    runs.write_facts(folder, {"seconds": 1.0, "length": 1.0} | facts)


class Processes:
    """Stands for `subprocess.Popen`: a process ends at the second look with its code, and has finished its run if 0."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.commands: dict[str, list[str]] = {}
        self.cores: list[set[int]] = []
        self.terminated: list[str] = []
        self.now: set[str] = set()
        self.most_at_once = 0

    def __call__(self, command: list[str], **_: object) -> Process:
        out, name = (next(a.partition("=")[2] for a in command if a.startswith(flag)) for flag in ("--out=", "--run="))
        assert name not in self.commands, "started twice"
        self.commands[name] = command
        self.cores.append(os.sched_getaffinity(0))
        self.now.add(name)
        self.most_at_once = max(self.most_at_once, len(self.now))
        return Process(self, Path(out), name)


class Process:
    def __init__(self, of: Processes, out: Path, name: str):
        self._of, self._out, self._name = of, out, name
        self._looks = 0
        self.returncode: int | None = None

    def poll(self) -> int | None:
        self._looks += 1
        if self._looks >= 2 and self.returncode is None:
            self.returncode = self._of.codes.get(self._name, 0)
            self._of.now.discard(self._name)
            if not self.returncode:
                finish(self._out, self._name)
        return self.returncode

    def terminate(self) -> None:
        self._of.terminated.append(self._name)

    def wait(self) -> int:
        return -signal.SIGTERM


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    made = Processes()
    monkeypatch.setattr(subprocess, "Popen", made)
    monkeypatch.setattr(schedule, "_POLL_S", 0.0)
    return made


@two_cores
def test_every_run_is_carried_out_once_two_at_a_time_on_cores_of_their_own(tmp_path: Path, processes: Processes):
    finish(tmp_path, RUNS[1].name)
    before = os.sched_getaffinity(0)
    assert Schedule(tmp_path, 1.0, math.inf, jobs=2).carry_out(RUNS, 10.0) == []
    assert list(processes.commands) == [run.name for run in RUNS if run != RUNS[1]] and processes.most_at_once == 2
    halves = {frozenset(cores) for cores in processes.cores}
    assert len(halves) == 2 and not frozenset.intersection(*halves) and frozenset.union(*halves) == before
    assert os.sched_getaffinity(0) == before


@two_cores
def test_what_a_process_is_told_is_the_run_at_the_chosen_weight(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
):
    """The command of every run, read by the command itself: λ is the study's, whoever starts it."""
    (tmp_path / study.SETTINGS).write_text('{"epochs": 2.5}')
    monkeypatch.setattr(runs, "chosen_weight", lambda out: 1.0)
    wanted = plan.ordered(1.0)
    Schedule(tmp_path, 2.5, math.inf, jobs=2).carry_out(wanted, 1.0)
    assert len(processes.commands) == len(wanted)
    told = []
    monkeypatch.setattr(runs, "is_finished", lambda out, run: False)
    monkeypatch.setattr(runs, "carry_out", lambda run, out, **settings: told.append((run, out, settings)))
    for command in processes.commands.values():
        assert study.main(command[3:]) == ExitCode.DONE
    assert told == [(run, tmp_path, {"weight": 1.0, "epochs": 2.5}) for run in wanted]


@two_cores
def test_a_failed_run_ends_the_study_once_the_others_have_ended(tmp_path: Path, processes: Processes):
    processes.codes[RUNS[0].name] = ExitCode.FAILED
    with pytest.raises(UserError, match=re.escape(f"{RUNS[0].name}: ended with exit code 1")):
        Schedule(tmp_path, 1.0, math.inf, jobs=2).carry_out(RUNS, 10.0)
    assert list(processes.commands) == [RUNS[0].name, RUNS[1].name]
    assert runs.is_finished(tmp_path, RUNS[1]) and not processes.terminated


@two_cores
@pytest.mark.parametrize("code", [ExitCode.STOPPED_RESUMABLE, -signal.SIGTERM])
def test_a_run_that_was_stopped_stops_the_study(tmp_path: Path, processes: Processes, code: int):
    processes.codes[RUNS[1].name] = code
    with pytest.raises(KeyboardInterrupt):
        Schedule(tmp_path, 1.0, math.inf, jobs=2).carry_out(RUNS, 10.0)
    assert list(processes.commands) == [RUNS[0].name, RUNS[1].name] and runs.is_finished(tmp_path, RUNS[0])


@two_cores
def test_a_killed_run_says_what_may_have_killed_it(tmp_path: Path, processes: Processes):
    processes.codes[RUNS[0].name] = -signal.SIGKILL
    with pytest.raises(UserError, match=r"lambda-0\.3-seed0: ended by SIGKILL, .*memory.*--jobs"):
        Schedule(tmp_path, 1.0, math.inf, jobs=2).carry_out(RUNS, 10.0)


@two_cores
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_processes_do_not_outlive_a_study_that_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
):
    """The signal comes as soon as the second has started."""
    started: list[Any] = []
    popen = subprocess.Popen

    def sleeper(command: list[str], **options: Any) -> Any:
        started.append(popen([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        if len(started) == 2:
            os.kill(os.getpid(), number)
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", sleeper)
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt):
        Schedule(tmp_path, 1.0, math.inf, jobs=2).carry_out(RUNS, 10.0)
    assert [process.returncode for process in started] == [-signal.SIGTERM] * 2
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=two_cores)])
def test_a_run_that_would_not_end_in_time_is_left(tmp_path: Path, processes: Processes, jobs: int):
    finish(tmp_path, RUNS[0].name, seconds=100.0)
    left = Schedule(tmp_path, 1.0, time.monotonic() + 50, jobs=jobs).carry_out(RUNS, 10.0)
    assert left == RUNS[1:] and not processes.commands


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=two_cores)])
def test_the_first_run_of_a_model_is_not_begun_after_the_end(tmp_path: Path, processes: Processes, jobs: int):
    """How long it takes is not known."""
    assert Schedule(tmp_path, 1.0, time.monotonic() - 1, jobs=jobs).carry_out(RUNS, 10.0) == RUNS
    assert not processes.commands


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
        (["--budget=cpu-2h"], "--budget=cpu-2h: expected cpu-1h, cpu-8h, gpu-10min, or seconds"),
        (["--budget=nan"], "--budget=nan: expected"),
        (["--budget=-5"], "--budget=-5: expected"),
        (["--epochs=0"], "--epochs=0: expected a number above 0"),
        (["--epochs=nan"], "--epochs=nan: expected a number above 0"),
        (["--photos=nowhere"], "--photos=nowhere: no train_xml.tar.gz there"),
        (["--report"], "no arm and its control are both finished"),
        (["--run=resnet/click-seed0"], "no study has begun there"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert study.main([f"--out={tmp_path}", *arguments]) == ExitCode.FAILED
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("weight", "name", "message"),
    [
        (None, "resnet/none-seed0", "until λ is chosen"),
        (1.0, "resnet/clik-seed0", "--plan --out="),
        (1.0, "resnet/click-seed0", "--plan --out="),  # which is lambda-1 now
    ],
)
def test_a_run_that_the_study_does_not_know_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    weight: float | None,
    name: str,
    message: str,
) -> None:
    (tmp_path / study.SETTINGS).write_text('{"epochs": 1}')
    monkeypatch.setattr(runs, "chosen_weight", lambda out: weight)
    assert study.main([f"--out={tmp_path}", f"--run={name}"]) == ExitCode.FAILED
    assert f"--run={name}: not in the plan" in (said := capsys.readouterr().err) and message in said


def test_a_plan_needs_no_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert study.main(["--plan"]) == ExitCode.DONE
    assert len(capsys.readouterr().out.splitlines()) == len([*plan.choosing(), *plan.ordered()])


def test_the_plan_of_a_study_has_the_names_that_run_takes_and_says_what_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "chosen_weight", lambda out: 1.0)
    first, second = plan.ordered(1.0)[:2]
    (done := tmp_path / "runs" / first.name).mkdir(parents=True)
    (done / runs.SECONDS).write_text("{}")
    assert study.main(["--plan", f"--out={tmp_path}"]) == ExitCode.DONE
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert next(line for line in lines if first.name in line)[1] == "done"
    assert next(line for line in lines if second.name in line)[1] == second.name
    assert not any("resnet/click-seed0" in line for line in lines)  # lambda-1 now


def test_a_study_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study.main([])
    assert "--out" in capsys.readouterr().err
