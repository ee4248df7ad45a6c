"""Runs in their order: in this process, or several at a time, each in a process of its own on cores of its own.

On a CPU these models are too small for the cores to share: two steps of the ResNet, one core each, take 29 ms, and one
after the other on both cores 47 ms (`python -m benchmarks.study.seeds --seeds=1`, alone and twice with taskset).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.study import runs
from benchmarks.study.plan import Run
from luab_jax.errors import ExitCode, UserError

Finished = Callable[[str, dict[str, float]], None]
"""Told the name of a run that has ended and what stands in its `seconds.json`."""


@dataclass
class Schedule:
    """What the runs of one call share."""

    out: Path
    epochs: float
    """Of arms of length 1."""
    end: float
    """By the monotonic clock: a run that would not end before is not begun."""
    jobs: int = 1
    finished: Finished | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)

    def carry_out(self, wanted: Sequence[Run], weight: float) -> list[Run]:
        """Runs what is not finished; those for which there was no time.

        Args:
            wanted: In the order of their worth.
            weight: λ of arms that state none.

        Raises:
            UserError: A run failed.
            KeyboardInterrupt: It was stopped; the same command continues.
        """
        left = deque(run for run in wanted if not runs.is_finished(self.out, run))
        if self.jobs == 1:
            self._work(left, lambda run: self._here(run, weight))
        else:
            cores = sorted(os.sched_getaffinity(0))
            with ThreadPoolExecutor(self.jobs) as pool:
                parts = [pool.submit(self._on_cores, cores[i :: self.jobs], left, weight) for i in range(self.jobs)]
                try:
                    for part in parts:
                        part.result()
                except KeyboardInterrupt:  # which the processes have got, too
                    self._stopping.set()
                    raise
        return [run for run in wanted if not runs.is_finished(self.out, run)]

    def _work(self, left: deque[Run], carry_out: Callable[[Run], float]) -> None:
        """Until nothing is left, or the next run would take too long."""
        while left and not self._stopping.is_set():
            try:
                run = left.popleft()
            except IndexError:  # another thread was faster
                return
            expected = expected_seconds(self.out, run)
            if expected is not None and time.monotonic() + expected > self.end:
                self._stopping.set()
                return
            print(f"{run.name:<28} {carry_out(run):6.0f} s", flush=True)
            if self.finished is not None:
                self.finished(run.name, facts_of(self.out, run))

    def _here(self, run: Run, weight: float) -> float:
        try:
            return runs.carry_out(run, self.out, weight=weight, epochs=self.epochs)
        except runs.StoppedError as e:
            raise KeyboardInterrupt from e

    def _on_cores(self, cores: list[int], left: deque[Run], weight: float) -> None:
        """What a thread may run on, its child processes inherit, and no other thread."""
        os.sched_setaffinity(0, cores)
        try:
            self._work(left, lambda run: self._in_a_process(run, weight))
        except BaseException:  # the others end the run that they are at
            self._stopping.set()
            raise

    def _in_a_process(self, run: Run, weight: float) -> float:
        command = [sys.executable, "-m", "benchmarks.study", f"--out={self.out}", f"--run={run.name}"]
        done = subprocess.run([*command, f"--weight={weight}"], check=False, stdout=subprocess.DEVNULL)
        if done.returncode == ExitCode.STOPPED_RESUMABLE:
            raise KeyboardInterrupt
        if done.returncode:
            raise UserError(f"{run.name}: ended with exit code {done.returncode}")
        return facts_of(self.out, run)["seconds"]


def facts_of(out: Path, run: Run) -> dict[str, float]:
    """What a finished run took, and with which settings."""
    return json.loads((out / "runs" / run.name / runs.SECONDS).read_text())


def expected_seconds(out: Path, run: Run) -> float | None:
    """By the run of this model that was slowest for its length."""
    known = [json.loads(path.read_text()) for path in (out / "runs" / run.model).glob(f"*/{runs.SECONDS}")]
    rates = [facts["seconds"] / facts.get("length", 1) for facts in known]
    return max(rates) * run.arm.length if rates else None
