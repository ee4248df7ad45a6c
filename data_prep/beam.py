"""The same shards written by an Apache Beam pipeline: DirectRunner here, or Dataflow, Spark and Flink elsewhere.

The pipeline is one map of `write_shard` over the shards that are missing. A task goes to its worker as a file in the
output directory, since a million listed images do not fit into the description of a job; what came of it returns as
the sidecar that resuming reads too. So a job that fails half-way is continued by the same command, on Beam or not,
and the bytes are those that processes of one machine write.
"""

from __future__ import annotations

import importlib.util
import pickle
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace

from data_prep.shards import Part, ShardTask, read_part, write_shard
from luab_jax.data import storage
from luab_jax.data.storage import Place
from luab_jax.errors import StorageError, UserError

_ELSEWHERE = ("DataflowRunner",)
"""Runners whose workers never see a disk of this machine. Those of Spark and Flink may, if they share it."""


def run_on_beam(tasks: Sequence[ShardTask], *, options: Sequence[str], places: Sequence[str]) -> Iterator[Part]:
    """Has all shards written, then yields what came of them.

    `options` are flags of a Beam pipeline, `places` what workers read. Raises `UserError` if Beam is not installed,
    workers cannot reach a place, or the pipeline fails; shards that were finished are kept.
    """
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError("--beam_options: Apache Beam is not installed: pip install apache-beam")
    if not tasks:
        return
    # pyright sees an extra only where it is installed
    import apache_beam as beam  # pyright: ignore[reportMissingImports]
    from apache_beam.options.pipeline_options import (  # pyright: ignore[reportMissingImports]
        PipelineOptions,
        StandardOptions,
    )

    try:
        pipeline_options = PipelineOptions(list(options))
        runner = pipeline_options.view_as(StandardOptions).runner or "DirectRunner"
    except SystemExit as e:  # its parser of flags is argparse's
        raise UserError(f"--beam_options={' '.join(options)}: Beam refuses these flags, see above") from e
    folder = storage.absolute(tasks[0].path).parent
    _check_reach(runner, [str(folder), *places])
    files = _hand_over(tasks, folder, places)
    print(f"{folder}: {len(tasks)} shard(s) handed to Beam's {runner}", flush=True)
    try:
        with beam.Pipeline(options=pipeline_options) as pipeline:
            # Reshuffled, or a runner may give them all to one worker.
            _ = pipeline | beam.Create([str(file) for file in files]) | beam.Reshuffle() | beam.Map(write_handed_over)
    except (Exception, SystemExit) as e:  # a worker's error reaches us as text in an error of the runner
        if _last_line(e).startswith("KeyboardInterrupt"):  # met inside a shard
            raise KeyboardInterrupt from e
        raise UserError(
            f"--beam_options: the pipeline failed: {_last_line(e)}\nFinished shards are kept: the same command goes on"
        ) from e
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    yield from _parts(tasks, folder)


def _check_reach(runner: str, places: Sequence[str]) -> None:
    local = [place for place in places if not storage.is_remote(place)]
    if runner in _ELSEWHERE and local:
        raise UserError(
            f"--beam_options: workers of {runner} cannot reach {', '.join(local)}; --out and all inputs must be in a"
            " bucket (gs://...), a compressed tar unpacked into one or repacked as a plain .tar, since it is unpacked"
            " on this machine"
        )


def _hand_over(tasks: Sequence[ShardTask], folder: Place, places: Sequence[str]) -> list[Place]:
    files = []
    for task in tasks:
        file = folder / f"{task.name}.task"
        with storage.atomic_file(file) as temporary:
            moved = replace(task, path=folder / task.name)
            temporary.write_bytes(pickle.dumps((moved, tuple(places))))
        files.append(file)
    return files


def write_handed_over(file: str) -> str:
    """Runs in a worker; returns the name of the shard. Raises `UserError` if the worker cannot read the input.

    That is checked here, since each image that cannot be read would be left out as if it were damaged.
    """
    try:
        task, places = pickle.loads(storage.read_all(file))
    except FileNotFoundError:
        task, places = None, (file,)
    missing = [place for place in places if storage.facts(storage.place(place)) is None]
    if task is None or missing:
        raise UserError(
            f"worker on {socket.gethostname()}: {', '.join(missing)} is not there; Beam's workers need --out and all"
            " inputs in a bucket (gs://...) or on a file system that they share with the launching machine, under the"
            " same path"
        )
    return write_shard(task).shard.file_name


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
