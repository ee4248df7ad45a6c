"""A training somewhere odd: no home, no temporary folder, no shared memory, an old locale, stopped, or not alone."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from luab_jax.metrics.history import read_metrics
from tools.faults.runs import STEPS_PER_SAVE, Started, Training, difference
from tools.faults.single import Row

STOPPED_S = 15
"""Longer than it takes from one sign of life to the next."""

CLOCK_JUMPS = """
import runpy, sys, time
from luab_jax.training.metric_log import MetricLog

real, write, ahead = time.time, MetricLog.write, {6: 86400, 10: -86400}
offset = 0

def jumping():
    return real() + offset

def write_and_jump(log, step, scalars):
    global offset
    offset = ahead.get(step, offset)
    write(log, step, scalars)

time.time, MetricLog.write = jumping, write_and_jump
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
NO_SHARED_MEMORY = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o ro tmpfs /dev/shm && exec "$@"', "sh"]


def _said(run: Started, pattern: str) -> str:
    found = [line for line in run.output.splitlines() if re.search(pattern, line)]
    return found[-1] if found else f"WRONG: said nothing of it: {run.output[-300:]!r}"


class Surroundings:
    """The same training in each of them, compared with the one before."""

    def __init__(self, training: Training, reference: Path):
        self._training, self._reference = training, reference

    def _workdir(self, fault: str) -> Path:
        workdir = self._reference.with_name(re.sub(r"\W+", "_", fault))
        shutil.rmtree(workdir, ignore_errors=True)
        return workdir

    def _row(self, fault: str, injected: str, run: Started, seen: str) -> Row:
        code = run.wait()
        what = f"exit code {code}" if code else difference(self._training, run.workdir, self._reference)
        return Row(fault, injected, f"WRONG: {what}" if what else "nothing", seen)

    def started(
        self, fault: str, injected: str, changes: dict[str, str | None], *extra: str, seen: str = r"^done: "
    ) -> Row:
        """With another environment or other arguments."""
        command = self._training.command(self._workdir(fault), *extra)
        if "-O" in fault:
            command.insert(1, "-O")
        run = Started(command, self._workdir(fault), changes=changes)
        run.wait()
        return self._row(fault, injected, run, _said(run, seen))

    def clock_jumps(self) -> Row:
        """Orbax measures by this clock how long a save takes, so one in which it jumps may fail: then once more."""
        fault = "a clock that jumps"
        module, *arguments = self._training.command(self._workdir(fault))[2:]
        run = Started([sys.executable, "-c", CLOCK_JUMPS, module, *arguments], self._workdir(fault))
        seen = f"exit code {run.wait()}: {_said(run, '^done: |^error: ')}"
        again = run if run.wait() == 0 else self._training.run(run.workdir)
        injected = "time.time a day ahead from step 6 on, a day behind from step 10 on; the same command if that fails"
        return self._row(fault, injected, again, seen)

    def stopped(self) -> Row:
        """And continued; nobody took its place meanwhile."""
        fault = "SIGSTOP"
        run = self._training.start(self._workdir(fault))
        run.wait_until(lambda: f"step {STEPS_PER_SAVE + 1}/" in run.output)
        run.process.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED_S)
        run.process.send_signal(signal.SIGCONT)
        run.wait()
        return self._row(fault, f"in the middle of the run, SIGCONT after {STOPPED_S} s", run, _said(run, "^done: "))

    def not_alone(self) -> Row:
        """The first is long enough to be there still, and stopped in the end."""
        fault = "two trainings in one workdir"
        first = self._training.start(self._workdir(fault), "--config.total_steps=100000")
        first.wait_until(lambda: "step 1/" in first.output)
        second = self._training.run(first.workdir, "--config.total_steps=100000")
        first.process.send_signal(signal.SIGTERM)
        codes = [first.wait(), second.wait()]
        steps = [line["step"] for line in read_metrics(first.workdir) if "train/loss" in line]
        whole = codes == [3, 1] and steps == list(range(1, len(steps) + 1))
        lost = f"nothing: the first went on, {len(steps):,} steps in order" if whole else f"WRONG: exit codes {codes}"
        message = re.sub(r" [(]/.*?[)][.]", ".", second.errors())  # without the command, which is long
        return Row(fault, "the command is given again while it runs", lost, f"exit code {codes[1]}: {message}")

    def no_shared_memory(self) -> Iterator[Row]:
        fault, injected = "no /dev/shm", "an empty file system that cannot be written is mounted there"
        probe = Started([*NO_SHARED_MEMORY, "true"], self._workdir("probe"))
        if probe.wait():
            yield Row(fault, f"not here: {probe.output.strip()}", "not tried", "")
            return
        run = Started([*NO_SHARED_MEMORY, *self._training.command(self._workdir(fault))], self._workdir(fault))
        run.wait()
        yield self._row(f"{fault}, training", injected, run, _said(run, "^done: "))
        verify = [sys.executable, "-m", "data_prep", "verify", str(self._training.data), "--workers=2"]
        checked = Started([*NO_SHARED_MEMORY, *verify], self._workdir("verify"))
        code = checked.wait()
        yield Row(
            f"{fault}, data_prep with workers",
            "as before",
            "nothing" if code == 1 else f"WRONG: exit code {code}",
            checked.errors(),
        )


def rows(training: Training, reference: Path) -> Iterator[Row]:
    where = Surroundings(training, reference)
    no_cache = r"compiled programs cannot be kept"
    yield where.started(
        "no home",
        "HOME not set, of a user who has none",
        {"HOME": None},
        "--config.compilation_cache=~a_user_that_is_not_there/cache",
        seen=no_cache,
    )
    (training.folder / "file").write_text("")
    yield where.started(
        "a cache that cannot be written",
        "config.compilation_cache lies below a file",
        {},
        f"--config.compilation_cache={training.folder / 'file' / 'cache'}",
        seen=no_cache,
    )
    yield where.started("TMPDIR that is missing", "TMPDIR=/nowhere", {"TMPDIR": "/nowhere"})
    ascii_only: dict[str, str | None] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    yield where.started("locale C", "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0", ascii_only)
    yield where.started("python -O", "asserts are left out", {})
    yield from where.no_shared_memory()
    yield where.clock_jumps()
    yield where.stopped()
    yield where.not_alone()
