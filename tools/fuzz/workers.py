"""Worker processes that feed a reader each, watched for time and memory."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path
from random import Random
from typing import Any

from luab_jax.errors import UserError
from tools.fuzz.reader import Reader

MAX_GROWTH_MB = 400
"""What one input may add to the memory of the process. The largest image that is taken has 256 MiB of pixels."""
_SPAWN = multiprocessing.get_context("spawn")


def rng_of(seed: int, reader: str, index: int) -> Random:
    return Random(f"{seed}/{reader}/{index}")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class _State:
    """What a worker and its parent both see: the input at hand since when, and the sums so far."""

    FIELDS = ("index", "begun", "since", "refused", "accepted", "crashes", "slowest_s", "peak_mb")

    def __init__(self, values: SynchronizedArray[float]):
        self._values = values

    def __getitem__(self, name: str) -> float:
        return self._values[self.FIELDS.index(name)]

    def __setitem__(self, name: str, value: float) -> None:
        self._values[self.FIELDS.index(name)] = value


def _work(
    name: str, make: Callable[[Path], Reader], seed: int, inputs: range, values: Any, crashes: Any, folder: str
) -> None:
    """In a process of its own; `values` are those of a `_State`."""
    os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
    scratch = Path(folder, "scratch")
    scratch.mkdir(parents=True)
    state, reader = _State(values), make(scratch)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (to the end of the process) for the progress lines of readers
    for data in reader.seeds:
        _outcome(reader.read, data)  # what is imported late counts for no input
    peak = _peak_mb()
    parent = os.getppid()
    for index in inputs:
        if os.getppid() != parent:  # which was killed, and nobody waits for the rest
            return
        state["index"], state["begun"] = index, 1
        data = reader.input(rng_of(seed, name, index))
        state["since"] = time.monotonic()
        outcome, detail = _outcome(reader.read, data)
        seconds = time.monotonic() - state["since"]
        state["since"] = 0
        grown, peak = _peak_mb() - peak, _peak_mb()
        if grown > MAX_GROWTH_MB:
            outcome, detail = "crashes", f"memory grew by {grown:.0f} MB"
        state[outcome] += 1
        state["peak_mb"] = peak
        if seconds > state["slowest_s"]:
            state["slowest_s"] = seconds
        if detail:
            crashes.send((index, detail))
        if index % 1000 == 0:
            shutil.rmtree(f"{folder}/cache", ignore_errors=True)


def _outcome(read: Callable[[bytes], object], data: bytes) -> tuple[str, str]:
    """`accepted`, `refused` or `crashes`, and of the last where."""
    try:
        read(data)
    except UserError:
        return "refused", ""
    except Exception as e:
        at = traceback.extract_tb(e.__traceback__)
        ours = [frame for frame in at if "/tools/fuzz/" not in frame.filename]
        place = (ours or at)[-1]
        return "crashes", f"{type(e).__name__}: {e!s:.100} ({Path(place.filename).name}:{place.lineno})"
    return "accepted", ""


@dataclass
class Result:
    """One reader's row of the table."""

    reader: str
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_State.FIELDS, 0.0))
    crashes: list[tuple[int, str]] = field(default_factory=list)

    def row(self) -> str:
        refused, accepted = int(self.sums["refused"]), int(self.sums["accepted"])
        count = refused + accepted + len(self.crashes)
        return (
            f"{self.reader:<10} {count:>10,} {refused:>10,} {accepted:>10,} {len(self.crashes):>8}"
            f" {1e3 * self.sums['slowest_s']:>11.0f} {self.sums['peak_mb']:>8.0f}"
        )


HEADER = (
    f"{'reader':<10} {'inputs':>10} {'refused':>10} {'accepted':>10} {'crashes':>8} {'slowest ms':>11} {'peak MB':>8}"
)


class _Watched:
    """The worker of one reader, started again behind an input that it did not survive."""

    def __init__(self, reader: str, make: Callable[[Path], Reader], seed: int, count: int, timeout: float):
        self.result = Result(reader)
        self._make, self._seed, self._count, self._timeout = make, seed, count, timeout
        self._folder = ""
        self._start(0)

    def _start(self, first: int) -> None:
        self._folder = tempfile.mkdtemp(prefix="luab_jax_fuzz_")
        values = _SPAWN.Array("d", len(_State.FIELDS), lock=False)
        self._state = _State(values)  # type: ignore[arg-type]
        self._pipe, theirs = _SPAWN.Pipe(duplex=False)
        inputs = range(first, self._count)
        arguments = (self.result.reader, self._make, self._seed, inputs, values, theirs, self._folder)
        self._process = _SPAWN.Process(target=_work, args=arguments)
        self._process.start()
        theirs.close()

    def poll(self) -> bool:
        """Whether it is done."""
        while self._pipe.poll():
            try:
                self.result.crashes.append(self._pipe.recv())
            except EOFError:
                break
        since, index = self._state["since"], int(self._state["index"])
        if self._process.is_alive():
            if not since or time.monotonic() - since < self._timeout:
                return False
            self._process.kill()
            return self._follow(index, f"hangs: no end after {self._timeout:g} s")
        if self._process.exitcode and not self._state["begun"]:
            raise RuntimeError(f"the worker for {self.result.reader} did not start")
        if self._process.exitcode:
            return self._follow(index, f"the process died with exit code {self._process.exitcode}")
        return self._follow(self._count - 1, "")

    def _follow(self, index: int, crash: str) -> bool:
        self._process.join()
        if crash:
            self.result.crashes.append((index, crash))
        sums = self.result.sums
        for name in ("refused", "accepted"):
            sums[name] += self._state[name]
        for name in ("slowest_s", "peak_mb"):
            sums[name] = max(sums[name], self._state[name])
        shutil.rmtree(self._folder, ignore_errors=True)
        if index + 1 < self._count and len(self.result.crashes) < 1000:
            self._start(index + 1)
            return False
        return True


def fuzz(
    readers: Mapping[str, Callable[[Path], Reader]], *, inputs: int, seed: int, workers: int, timeout: float
) -> Iterator[Result]:
    """Shares `inputs` out among the readers; yields their results as they end."""
    counts = [inputs * (k + 1) // len(readers) - inputs * k // len(readers) for k in range(len(readers))]
    waiting = [(name, make, count) for (name, make), count in zip(readers.items(), counts, strict=True) if count]
    running: list[_Watched] = []
    while waiting or running:
        while waiting and len(running) < workers:
            name, make, count = waiting.pop(0)
            running.append(_Watched(name, make, seed, count, timeout))
        for watched in list(running):
            if watched.poll():
                running.remove(watched)
                yield watched.result
        time.sleep(0.05)
