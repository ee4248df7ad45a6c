"""Worker processes that make rows of batches in shared memory, watched by a thread.

Why not Grain's `mp_prefetch`: every worker loads jax (200 MB and seconds), every array passes through a shared block of
its own, made, mapped and deleted again, which its users measured at a millisecond an array (google/grain#851), elements
got lost in one order of operations (google/grain#1129), workers
make whole batches and so wait for each other in turns, and one that dies is restarted or waited for, not named. Here a
task is some rows of a batch, given to whoever is free; the order of batches is that of the tasks, so workers have no
influence on it.

A worker that ends, or finishes no image for `Reading.hang_s`, ends the run with its name: `WorkerLostError`.
"""

from __future__ import annotations

import itertools
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from luab_jax.data.input_speed import Meter
from luab_jax.data.reading import Reading
from luab_jax.data.slots import Layout, anonymous_file
from luab_jax.data.worker import READY, Failure, Task, write_payload
from luab_jax.errors import WorkerLostError
from luab_jax.io import retries

_TASKS_EACH = 2
"""One to work on and one to go on with."""
_START_S = 300.0
"""To import the package: from a slow network file system, with many workers at a time."""
_LOOK_S = 0.5
_MAX_NAMED = 4
"""Records in a message."""


@dataclass(slots=True, eq=False)
class _Worker:
    """As the main process sees it."""

    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    tasks: dict[int, tuple[Task, Future[Any]]] = field(default_factory=dict)
    """Given to it and not finished, the oldest first."""
    ready: bool = False
    done: int = 0
    """Images, by its own count."""
    idle_s: float = 0.0
    """Since that count last changed, as far as this process itself was running."""


class WorkerPool:
    """Starts the workers; they import while the main process goes on."""

    def __init__(self, maker: Any, layout: Layout, slots: int, reading: Reading, what: str, meter: Meter):
        """`slots` is the file of the batches. `what` is read, for messages."""
        self._meter = meter
        self._reading, self._what = reading, what
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: deque[tuple[Task, Future[Any]]] = deque()
        self._lost: WorkerLostError | None = None
        self._closed = threading.Event()
        count = reading.num_workers
        signs, payload = anonymous_file(8 * count), anonymous_file()
        self._signs = np.frombuffer(mmap.mmap(signs, 0), np.int64)
        self._workers: list[_Worker] = []
        try:
            write_payload((maker, layout), payload)
            for number in range(count):
                self._workers.append(_start(number, payload, slots, signs))
        except BaseException:
            self._end_workers()
            raise
        finally:
            os.close(signs)
            os.close(payload)
        self._thread = threading.Thread(target=self._watch, daemon=True, name="workers")
        self._thread.start()

    def submit(self, slot: int, rows: dict[str, np.ndarray], first: int, places: np.ndarray) -> Future[Any]:
        """Has rows made; what `fill` returns, or raises, is the result."""
        made: Future[Any] = Future()
        task = Task(next(self._numbers), slot, first, places)
        with self._lock:
            if self._lost is not None:
                made.set_exception(self._lost)
                return made
            self._waiting.append((task, made))
            self._hand_out()
        return made

    def _hand_out(self) -> None:
        """To those with the least to do. A lost worker is noticed by the watching thread."""
        while self._waiting:
            worker = min(self._workers, key=lambda worker: len(worker.tasks))
            if len(worker.tasks) >= _TASKS_EACH:
                return
            task, made = self._waiting.popleft()
            worker.tasks[task.number] = (task, made)
            try:
                worker.connection.send(task)
            except OSError:
                return

    def _watch(self) -> None:
        by_connection = {worker.connection: worker for worker in self._workers}
        looked = time.monotonic()
        while not self._closed.is_set():
            for connection in wait(list(by_connection), _LOOK_S):
                worker = by_connection[connection]  # pyright: ignore[reportArgumentType]
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    self._give_up(worker, _ended(worker))
                    return
                except Exception as e:  # whatever unpickling raises; a thread that ends silently would hang the run
                    self._give_up(worker, f"sent what cannot be read ({type(e).__name__}: {e})")
                    return
                self._take(worker, answer)
            now = time.monotonic()
            if now - looked >= _LOOK_S:
                # Where this process was stopped as well (Ctrl-Z, a busy machine), its workers are not to blame.
                hanging = self._hanging(min(now - looked, 2 * _LOOK_S))
                looked = now
                if hanging is not None:
                    limit = self._reading.hang_s if hanging.ready else _START_S
                    doing = "finished no image" if hanging.ready else "has not started"
                    self._give_up(hanging, f"{doing} for {limit:.0f} s")
                    return

    def _take(self, worker: _Worker, answer: Any) -> None:
        if answer == READY:
            worker.ready, worker.idle_s = True, 0.0
            return
        number, result, seconds, repeated = answer
        retries.add(repeated)
        with self._lock:
            task, made = worker.tasks.pop(number)
            worker.idle_s = 0.0
            self._hand_out()
        if not made.set_running_or_notify_cancel():
            return
        self._meter.count(len(task.places), seconds)
        if isinstance(result, Failure):
            made.set_exception(result.error())
        else:
            made.set_result(result)

    def _hanging(self, passed_s: float) -> _Worker | None:
        for worker, done in zip(self._workers, self._signs.tolist(), strict=True):
            working = not worker.ready or (worker.tasks and done == worker.done)
            worker.idle_s = worker.idle_s + passed_s if working else 0.0
            worker.done = done
            if worker.idle_s > (self._reading.hang_s if worker.ready else _START_S):
                return worker
        return None

    def _give_up(self, worker: _Worker, reason: str) -> None:
        """Every task that is not finished raises."""
        about = f"worker {worker.number + 1} of {len(self._workers)} (process {worker.process.pid})"
        lost = WorkerLostError(
            f"{about} {reason}, reading {self._what}{self._record_of(worker)}; the same command resumes"
            f"{_remedy(reason, len(self._workers))}"
        )
        with self._lock:
            self._lost = lost
            unfinished = [made for each in self._workers for _, made in each.tasks.values()]
            unfinished += [made for _, made in self._waiting]
            self._waiting.clear()
        self._end_workers()
        for made in unfinished:
            if not made.done():
                made.set_exception(lost)

    def _record_of(self, worker: _Worker) -> str:
        """What it worked on; it reads some records at a time."""
        task = next(iter(worker.tasks.values()), None)
        records = [] if task is None else [str(index) for index in task[0].places[:, 1].tolist() if index >= 0]
        if not records:
            return ""
        more = f" and {len(records) - _MAX_NAMED} more" if len(records) > _MAX_NAMED else ""
        return f", at one of the records {', '.join(records[:_MAX_NAMED])}{more}"

    def _end_workers(self) -> None:
        """Closing the sockets ends them; one that cannot even notice is killed."""
        for worker in self._workers:
            worker.connection.close()
        deadline = time.monotonic() + 1.0
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def close(self) -> None:
        """Ends all workers; safe to call twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        self._end_workers()


def _start(number: int, payload: int, slots: int, signs: int) -> _Worker:
    ours, theirs = socket.socketpair()
    with theirs:
        given = (theirs.fileno(), payload, slots, signs)
        arguments = ", ".join(map(str, (*given, number)))
        command = [sys.executable, "-c", f"from luab_jax.data import worker; worker.main({arguments})"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=given,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # the terminal's Ctrl-C goes to the main process alone
        )
    return _Worker(number, process, Connection(ours.detach()))


def _ended(worker: _Worker) -> str:
    try:
        code = worker.process.wait(5)
    except subprocess.TimeoutExpired:
        return "does not answer any more"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
    return f"was ended by {name}"


def _remedy(reason: str, count: int) -> str:
    if signal.SIGKILL.name in reason:
        fewer = f", with fewer workers than {count}" if count > 1 else ", without workers"
        return f" ({signal.SIGKILL.name} is what the system sends when memory runs out: then run it{fewer})"
    return ""
