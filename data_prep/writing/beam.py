"""Tasks of a command carried out by an Apache Beam pipeline: DirectRunner here, or Dask, Dataflow, Spark and Flink.

The pipeline is one map over tasks: of the shards that are missing, or of those that are read again by `verify` and
`inspect`. A task goes to its worker as a file in the prepared directory, since a million listed images do not fit into
the description of a job. What came of a shard that was written returns as the sidecar that resuming reads too, what
came of another task as a file beside it. So a job that fails half-way is continued by the same command, on Beam or not,
and the bytes are those that processes of one machine write.

The launcher counts what is finished while the job runs, and cancels the job if it is interrupted itself.
"""

from __future__ import annotations

import contextlib
import importlib.util
import pickle
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeVar

from data_prep.writing.shards import Part, ShardTask, part_path, read_part, write_shard
from luab_jax.errors import StorageError, UserError
from luab_jax.io import storage
from luab_jax.io.atomic import write_bytes
from luab_jax.io.console import Progress
from luab_jax.io.storage import Place

_ELSEWHERE = ("DataflowRunner",)
"""Runners whose workers never see a disk of this machine. Those of Spark and Flink may, if they share it."""
_LONG = {"--runner=DaskRunner": "--runner=apache_beam.runners.dask.dask_runner.DaskRunner"}
"""Runners that come with Beam and that it knows only by where they are."""
_REQUESTS = 32
"""Files of tasks that are written, read or removed at a time; in a bucket each takes a round trip."""
LOOK_EVERY_S = 10.0
"""How often the launcher looks what is finished, by one listing."""

Result = TypeVar("Result")


class Named(Protocol):
    """A task, which can be pickled."""

    @property
    def name(self) -> str: ...


class _Handed(NamedTuple):
    """What a worker finds in the file of a task."""

    function: Callable[[Any], Any]
    task: Any
    places: tuple[str, ...]
    result: str
    """The file that takes what the function returns; empty where nobody needs it."""


def run_on_beam(tasks: Sequence[ShardTask], *, options: Sequence[str], places: Sequence[str]) -> Iterator[Part]:
    """Has all shards written, then yields what came of them.

    `options` are flags of a Beam pipeline, `places` what workers read. Raises `UserError` if Beam is not installed,
    workers cannot reach a place, or the pipeline fails; shards that were finished are kept.
    """
    job = _Job(options)
    if not tasks:
        return
    folder = storage.absolute(tasks[0].path).parent
    job.check_reach([str(folder), *places])
    job.run(
        {
            f"{task.name}.{job.token}.task": _Handed(
                write_shard, replace(task, path=folder / task.name), (*places,), ""
            )
            for task in tasks
        },
        folder,
        finished=[part_path(folder / task.name).name for task in tasks],
        what="shard(s)",
        kept="Finished shards are kept: the same command goes on",
    )
    yield from _parts(tasks, folder)


def map_on_beam(
    function: Callable[[Any], Result], tasks: Sequence[Named], *, options: Sequence[str], folder: Place
) -> Iterator[Result]:
    """What `function` returns for every task, in their order; all of them read in `folder`. Raises as `run_on_beam`."""
    job = _Job(options)
    if not tasks:
        return
    folder = storage.absolute(folder)
    job.check_reach([str(folder)])
    results = [f"{task.name}.{job.token}.result" for task in tasks]
    handed = {
        f"{task.name}.{job.token}.task": _Handed(function, task, (str(folder),), str(folder / result))
        for task, result in zip(tasks, results, strict=True)
    }
    paths = [folder / result for result in results]
    try:
        job.run(handed, folder, finished=results, what="shard(s) to be read", kept="Nothing was changed")
        with ThreadPoolExecutor(_REQUESTS) as pool:
            found = list(pool.map(storage.read_all, paths))
    except FileNotFoundError as e:
        raise StorageError(f"{folder}: the pipeline ended, but not every result is there; run it again") from e
    finally:
        _remove(paths)
    yield from map(pickle.loads, found)


class _Job:
    """One pipeline. Raises `UserError` for options that Beam refuses, and where it is not installed."""

    def __init__(self, options: Sequence[str]):
        if importlib.util.find_spec("apache_beam") is None:
            raise UserError("--beam_options: Apache Beam is not installed: pip install apache-beam")
        # pyright sees an extra only where it is installed
        from apache_beam.options.pipeline_options import (  # pyright: ignore[reportMissingImports]
            PipelineOptions,
            StandardOptions,
        )

        self.token = uuid.uuid4().hex
        try:
            self._options = PipelineOptions([_LONG.get(option, option) for option in options])
            named = self._options.view_as(StandardOptions).runner or "DirectRunner"
            self._runner: str = named.rpartition(".")[2]
        except SystemExit as e:  # its parser of flags is argparse's
            raise UserError(f"--beam_options={' '.join(options)}: Beam refuses these flags, see above") from e

    def check_reach(self, places: Sequence[str]) -> None:
        """Raises `UserError` for places that no worker of this runner reaches."""
        local = [place for place in places if not storage.is_remote(place)]
        if self._runner in _ELSEWHERE and local:
            raise UserError(
                f"--beam_options: workers of {self._runner} cannot reach {', '.join(local)}; --out and all inputs must"
                " be in a bucket (gs://...), a compressed tar unpacked into one or repacked as a plain .tar, since it"
                " is unpacked on this machine"
            )

    def run(
        self, handed: Mapping[str, _Handed], folder: Place, *, finished: Sequence[str], what: str, kept: str
    ) -> None:
        """Hands the tasks over and waits for the end. finished: The names that appear in `folder` as they are done."""
        files = [folder / name for name in handed]
        try:
            with ThreadPoolExecutor(_REQUESTS) as pool:
                list(pool.map(write_bytes, files, map(pickle.dumps, handed.values())))
            print(f"{folder}: {len(files)} {what} handed to Beam's {self._runner}", flush=True)
            with _counting(folder, finished, self._runner):
                self._run([str(file) for file in files], kept)
        finally:
            _remove(files)

    def _run(self, files: Sequence[str], kept: str) -> None:
        import apache_beam as beam  # pyright: ignore[reportMissingImports]

        try:
            state = self._wait(beam, files)
        except (Exception, SystemExit) as e:  # a worker's error reaches us as text in an error of the runner
            if _last_line(e).startswith("KeyboardInterrupt"):  # met inside a shard
                raise KeyboardInterrupt from e
            raise UserError(f"--beam_options: the pipeline failed: {_last_line(e)}\n{kept}") from e
        if state not in (None, "DONE"):
            raise UserError(f"--beam_options: the job of {self._runner} ended as {state}; its log says why\n{kept}")

    def _wait(self, beam: Any, files: Sequence[str]) -> Any:
        """Runs the pipeline to its end, and returns the state it ended in."""
        pipeline = beam.Pipeline(options=self._options)
        # Reshuffled, or a runner may give them all to one worker.
        _ = pipeline | beam.Create(list(files)) | beam.Reshuffle() | beam.Map(carry_out)
        job = pipeline.run()
        try:
            return job.wait_until_finish()
        except KeyboardInterrupt:
            print(f"cancelling the job of {self._runner} ...", flush=True)
            with contextlib.suppress(Exception):  # of runners that have nothing to cancel
                job.cancel()
            raise


@contextlib.contextmanager
def _counting(folder: Place, finished: Sequence[str], runner: str) -> Iterator[None]:
    """Tells how many of these files there are, as long as it is entered."""
    ended = threading.Event()
    sought, seen = set(finished), 0

    def look() -> None:
        nonlocal seen
        while not ended.wait(LOOK_EVERY_S):
            with contextlib.suppress(OSError, StorageError):  # the next look tells
                now = len(sought & storage.names(folder).keys())
                progress.advance(max(0, now - seen))
                seen = max(seen, now)

    with Progress(f"job of {runner}", len(sought), unit="shards") as progress:
        thread = threading.Thread(target=look, daemon=True, name="beam-progress")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        progress.advance(len(sought) - seen)


def carry_out(file: str) -> str:
    """Runs in a worker; returns the name of the task. Raises `UserError` if the worker cannot read the input.

    That is checked here, since each image that cannot be read would be left out as if it were damaged.
    """
    try:
        handed: _Handed | None = pickle.loads(storage.read_all(file))
    except FileNotFoundError:
        handed = None
    places = (file,) if handed is None else handed.places
    missing = [place for place in places if storage.facts(storage.place(place)) is None]
    if handed is None or missing:
        raise UserError(
            f"worker on {socket.gethostname()}: {', '.join(missing)} is not there; Beam's workers need --out and all"
            " inputs in a bucket (gs://...) or on a file system that they share with the launching machine, under the"
            " same path"
        )
    result = handed.function(handed.task)
    if handed.result:
        write_bytes(handed.result, pickle.dumps(result))
    return handed.task.name


def _remove(files: Sequence[Place]) -> None:
    with ThreadPoolExecutor(_REQUESTS) as pool, contextlib.suppress(OSError, StorageError):
        list(pool.map(storage.remove, files))


def _parts(tasks: Sequence[ShardTask], folder: Place) -> Iterator[Part]:
    sizes = storage.names(folder)
    for task in tasks:
        part = read_part(task, sizes.get(task.name, -1))
        if part is None:
            raise StorageError(
                f"{folder}: the pipeline ended, but {task.name} is not there; run the same command again"
            )
        yield part


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "luab_jax.errors." in line]
    line = (named or lines or [type(error).__name__])[-1].strip()
    return line.partition("luab_jax.errors.")[2] or line
