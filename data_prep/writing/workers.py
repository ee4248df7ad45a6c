"""Tasks in spawned worker processes, one at a time in each, with an end that is quick and leaves nothing behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from luab_jax.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


def default_workers() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], *, workers: int, name_of: Callable[[Task], str]
) -> Iterator[Result]:
    """Yields results as they come, in any order. One worker means this process.

    Raises what `function` raises, and `UserError` naming the tasks at hand if a worker dies.
    """
    if workers == 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    children_before = set(multiprocessing.active_children())
    try:
        pool = ProcessPoolExecutor(
            min(workers, len(tasks)), mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
        )
    except (OSError, ImportError) as e:  # semaphores lie in /dev/shm, which some containers lack
        cause = e.strerror if isinstance(e, OSError) else str(e)
        raise UserError(
            f"worker processes cannot be started here ({cause}): is there a writable /dev/shm? --workers=1 needs none"
        ) from e
    try:
        yield from _in_window(pool, function, tasks, workers, name_of)
    except BaseException:
        # A shard in progress would be finished first, which takes too long for a user who pressed Ctrl-C.
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - children_before:
            child.terminate()
        raise
    pool.shutdown()


def _in_window(
    pool: ProcessPoolExecutor,
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    name_of: Callable[[Task], str],
) -> Iterator[Result]:
    """Submits no more than are worked on, so that few tasks are pickled at a time and a death is easy to place."""
    waiting = iter(tasks)
    running: dict[Future[Result], Task] = {}
    while True:
        while len(running) < workers and (task := next(waiting, None)) is not None:
            with _ctrl_c_held():  # which starts a worker until there are enough
                running[pool.submit(function, task)] = task
        if not running:
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        try:
            results = [future.result() for future in done]
        except BrokenProcessPool as e:
            names = ", ".join(name_of(task) for task in running.values())
            raise UserError(
                f"a worker process died (killed, or out of memory) while working on one of: {names}."
                " What is finished is kept: the same command goes on from there; --workers=N with a smaller N needs"
                " less memory"
            ) from e
        for future in done:
            del running[future]
        yield from results


@contextlib.contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """What is started meanwhile never sees Ctrl-C, not even while it imports; here it comes afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
