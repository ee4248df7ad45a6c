"""Runs in their order: in this process, or several at a time, each in a process of its own on cores of its own.

On a CPU these models are too small for the cores to share. On two cores, two steps of the ResNet, each on one core,
take 29 ms, and one after the other on both 47 ms; of the ViT 147 and 177 (`python -m benchmarks.study.seeds --seeds=1`,
alone and twice at a time under taskset).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from benchmarks.study import runs
from benchmarks.study.plan import Run
from luab_jax.distributed.parent import environment_of_child
from luab_jax.errors import ExitCode, UserError

Finished = Callable[[str, dict[str, float]], None]
"""Told the name of a run that has ended and what stands in its `seconds.json`."""

_STOPPED = (ExitCode.STOPPED_RESUMABLE, -signal.SIGTERM, -signal.SIGINT)
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the runs of one call share."""

    out: Path
    epochs: float
    """Of arms of length 1."""
    end: float
    """By the monotonic clock: a run that would not end before is not begun, so far as other runs of its model tell."""
    jobs: int = 1
    finished: Finished | None = None

    def carry_out(self, wanted: Sequence[Run], weight: float) -> list[Run]:
        """Runs what is not finished; those for which there was no time.

        Args:
            wanted: Each once, in the order of their worth.
            weight: λ of arms that state none.

        Raises:
            UserError: A run failed.
            KeyboardInterrupt: It was stopped; the same command continues.
        """
        left = deque(run for run in wanted if not runs.is_finished(self.out, run))
        if self.jobs == 1:
            while left and self._is_time_for(left[0]):
                self._here(left.popleft(), weight)
        else:
            with _told_to_stop() as stopped:
                self._in_processes(left, stopped)
        return [run for run in wanted if not runs.is_finished(self.out, run)]

    def _here(self, run: Run, weight: float) -> None:
        try:
            runs.carry_out(run, self.out, weight=weight, epochs=self.epochs)
        except runs.StoppedError as e:
            raise KeyboardInterrupt from e
        self._tell(run)

    def _in_processes(self, left: deque[Run], stopped: threading.Event) -> None:
        """Those that run when one fails go on to their end; when this process is stopped, they save and stop."""
        cores = sorted(os.sched_getaffinity(0))
        free = [cores[i :: self.jobs] for i in range(self.jobs)]
        running: dict[subprocess.Popen[bytes], tuple[Run, list[int]]] = {}
        failures: list[str] = []
        while running or left:
            while left and free and not failures and not stopped.is_set() and self._is_time_for(left[0]):
                run, of_run = left.popleft(), free.pop(0)
                running[self._start(run, of_run)] = run, of_run
            if not running:
                break
            time.sleep(_POLL_S)
            for process in [process for process in running if process.poll() is not None]:
                run, of_run = running.pop(process)
                free.append(of_run)
                if process.returncode in _STOPPED:
                    stopped.set()
                elif process.returncode:
                    failures.append(f"{run.name}: ended {_how(process.returncode)}")
                else:
                    self._tell(run)
            if stopped.is_set():
                self._stop({process: run for process, (run, _) in running.items()})
        if failures:
            raise UserError("; ".join(failures))

    def _stop(self, running: dict[subprocess.Popen[bytes], Run]) -> NoReturn:
        """Each is told once: a second signal would not let it save."""
        for process in running:
            process.terminate()
        for process, run in running.items():
            if process.wait() == ExitCode.DONE:
                self._tell(run)
        raise KeyboardInterrupt

    def _start(self, run: Run, cores: list[int]) -> subprocess.Popen[bytes]:
        """In a session of its own, so that a terminal's Ctrl-C reaches it once, by way of this process."""
        command = [sys.executable, "-m", "benchmarks.study", f"--out={self.out}", f"--run={run.name}"]
        output = None if runs.is_verbose() else subprocess.DEVNULL
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)  # which a child inherits
        try:
            return subprocess.Popen(command, env=environment_of_child(), stdout=output, start_new_session=True)
        finally:
            os.sched_setaffinity(0, before)

    def _is_time_for(self, run: Run) -> bool:
        return time.monotonic() + (expected_seconds(self.out, run) or 0.0) <= self.end

    def _tell(self, run: Run) -> None:
        facts = json.loads((self.out / "runs" / run.name / runs.SECONDS).read_text())
        print(f"{run.name:<28} {facts['seconds']:6.0f} s", flush=True)
        if self.finished is not None:
            self.finished(run.name, facts)


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    memory = ", as by the kernel where memory runs out: try fewer --jobs" if code == -signal.SIGKILL else ""
    return f"by {signal.Signals(-code).name}{memory}"


@contextlib.contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Set by SIGTERM and Ctrl-C, which a shell would ignore for what runs in its background."""
    event = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: event.set()) for number in numbers]
    try:
        yield event
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def expected_seconds(out: Path, run: Run) -> float | None:
    """By the run of this model that was slowest for its length."""
    known = [json.loads(path.read_text()) for path in (out / "runs" / run.model).glob(f"*/{runs.SECONDS}")]
    rates = [facts["seconds"] / facts.get("length", 1) for facts in known]
    return max(rates) * run.arm.length if rates else None
