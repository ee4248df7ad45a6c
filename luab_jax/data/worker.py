"""A decoding process: rows of batches, made where the main process asks for them.

It is started as a program of its own (by `worker_pool`, as `python -c`), which neither forks a process that runs jax
nor imports the script of the user again. It imports neither jax nor Grain. What it is given arrives by inherited
descriptors: a socket for tasks, a file with the pickled row maker, the file of the slots, and one in which it counts
what it is done with, records and images, so that it is not taken to hang. When the main process is gone, however it
ended, the socket closes and the worker ends at once, also in the midst of a task.
"""

from __future__ import annotations

import mmap
import os
import pickle
import queue
import signal
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from luab_jax import errors
from luab_jax.data.slots import Layout, Mapped
from luab_jax.io import retries

READY = "ready"


class Task(NamedTuple):
    """Rows to be made."""

    number: int
    slot: int
    first: int
    """Row of the slot."""
    places: np.ndarray


class Failure(NamedTuple):
    """An error of a task, as text: not every exception survives pickling."""

    kind: str
    """A class of `luab_jax.errors`, or nothing."""
    message: str
    trace: str

    @staticmethod
    def of(error: BaseException) -> Failure:
        kinds = [kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind]
        return Failure(kinds[0] if kinds else "", str(error), traceback.format_exc())

    def error(self) -> Exception:
        """As the main process raises it."""
        if self.kind:
            return getattr(errors, self.kind)(self.message)
        return RuntimeError(f"in a worker process:\n{self.trace}")


def write_payload(value: Any, file: int) -> None:
    """Pickles `value` into a file, large arrays apart, so that all who read it share their memory."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    raws = [buffer.raw() for buffer in buffers]
    sizes = [len(text), *(raw.nbytes for raw in raws)]
    with os.fdopen(os.dup(file), "wb") as stream:
        stream.write(np.asarray([len(sizes), *sizes], np.int64).tobytes())
        for part in (text, *raws):
            stream.write(bytes(-stream.tell() % 64))
            stream.write(part)


def read_payload(file: int) -> Any:
    """What `write_payload` wrote; its arrays cannot be written."""
    whole = memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ))
    (count,) = np.frombuffer(whole, np.int64, 1)
    parts, end = [], 8 * (1 + int(count))
    for size in np.frombuffer(whole, np.int64, int(count), 8).tolist():
        start = end + -end % 64
        end = start + size
        parts.append(whole[start:end])
    return pickle.loads(parts[0], buffers=parts[1:])


def _listen(connection: Connection, tasks: queue.SimpleQueue[Task]) -> None:
    """Ends the process when there is nobody left to work for."""
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


def _send(connection: Connection, answer: Any) -> None:
    try:
        connection.send(answer)
    except OSError:  # the main process has ended
        os._exit(0)


def main(socket: int, payload: int, slots: int, signs: int, number: int) -> None:
    # The main process decides what a signal to all of them means; its end closes the socket.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    connection = Connection(socket)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    maker, layout = read_payload(payload)
    assert isinstance(layout, Layout)
    mapped = Mapped(slots, layout)
    done = np.frombuffer(mmap.mmap(signs, 0), np.int64)[number : number + 1]

    def tell() -> None:
        done[0] += 1

    _send(connection, READY)
    threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    while True:
        task = tasks.get()
        start = time.perf_counter()
        views = layout.views(mapped.bytes_of(task.slot))
        rows = {name: column[task.first : task.first + len(task.places)] for name, column in views.items()}
        try:
            answer = maker.fill(task.places, rows, tell)
        except Exception as e:  # the main process raises it where the batch would come
            answer = Failure.of(e)
        _send(connection, (task.number, answer, time.perf_counter() - start, retries.taken()))
