"""Worker processes make what threads make, and none of their ends is silent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from luab_jax.byproducts.kinds import DEFAULT_SETTINGS
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target
from luab_jax.data import reading
from luab_jax.data.batch import Batch
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.decoding import Fault, ImageFault
from luab_jax.data.pipeline import Reading, train_batches
from luab_jax.data.random_elements import ElementGenerators
from luab_jax.data.rows import batches_of_rows
from luab_jax.data.slots import anonymous_file
from luab_jax.data.training_rows import Records, TrainingRows
from luab_jax.data.worker import Failure, read_payload, write_payload
from luab_jax.errors import DataError, ShardError, WorkerLostError
from luab_jax.io import retries
from tests.data.test_pipeline import (
    AUGMENTATION,
    NUM_RECORDS,
    assert_same_batches,
    evaluate,
    interleaved,
    record,
    train,
    write_split,
)
from tests.data.unlucky_rows import UnluckyRows

TWO_WORKERS = Reading(workers=2, prefetch_examples=8)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    return write_split(tmp_path_factory.mktemp("split"), [record(i) for i in range(NUM_RECORDS)])


@pytest.fixture
def few_rows_are_worth_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_ROWS_WORTH_STARTING", 0)


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children() if "worker.main(" in " ".join(child.cmdline())]


# --- the same batches


def test_training_batches_are_those_of_threads_on_every_host_and_after_a_resume(split: PreparedSplit) -> None:
    changes = {"target": Target.RANDOM, "start_step": 3}
    parts = [train(split, 4, reading=TWO_WORKERS, process_index=i, process_count=2, **changes) for i in range(2)]
    assert_same_batches(interleaved(parts), train(split, 4, **changes))


@pytest.mark.usefixtures("few_rows_are_worth_workers")
def test_evaluation_batches_and_truths_are_those_of_threads(split: PreparedSplit) -> None:
    ones, others = (evaluate(split, 4, start=2, **changes) for changes in ({"reading": TWO_WORKERS}, {}))
    assert_same_batches([batch for batch, _ in ones], [batch for batch, _ in others])
    assert repr([truths for _, truths in ones]) == repr([truths for _, truths in others])


def test_a_small_split_is_evaluated_without_starting_workers(split: PreparedSplit) -> None:
    batches = evaluate(split, 4, reading=Reading(workers=2, hang_s=0.0))
    assert len(batches) == 4
    assert not workers_of(psutil.Process())


@pytest.mark.usefixtures("few_rows_are_worth_workers")
def test_a_broken_image_is_named_after_all_batches_before(tmp_path: Path) -> None:
    records = [record(i) for i in range(8)]
    records[5] = record(5, image=b"no image at all")
    split = write_split(tmp_path, records)
    found: list[tuple[Batch, Any]] = []
    with pytest.raises(DataError, match=r"05\.png: the image cannot be decoded"):
        found.extend(_endless_evaluation(split))
    assert [batch.index.tolist() for batch, _ in found] == [[0, 1], [2, 3]]
    assert not workers_of(psutil.Process())


def _endless_evaluation(split: PreparedSplit) -> Iterator[tuple[Batch, Any]]:
    from luab_jax.data.pipeline import eval_batches
    from luab_jax.data.transforms import Preprocessing

    yield from eval_batches(
        split,
        preprocessing=Preprocessing(image_size=8, resize_side=10),
        batch_size=2,
        reading=Reading(workers=1, prefetch_examples=4),
    )


# --- a worker that is lost


def lose_a_worker(split: PreparedSplit, number: int, **changes: Any) -> tuple[str, int]:
    """The message of a run that signals a worker after its first batch, and the worker's process."""
    reading = Reading(workers=2, prefetch_examples=8, **changes)
    batches = train_batches(split, augmentation=AUGMENTATION, target=Target.NONE, seed=0, batch_size=4, reading=reading)
    next(batches)
    victim, other = workers_of(psutil.Process())
    victim.send_signal(number)
    with pytest.raises(WorkerLostError) as raised:
        while True:
            next(batches)
    psutil.wait_procs([victim, other], timeout=30)
    assert not workers_of(psutil.Process())
    return str(raised.value), victim.pid


def test_a_killed_worker_ends_the_run_with_its_name(split: PreparedSplit) -> None:
    message, process = lose_a_worker(split, signal.SIGKILL)
    assert re.match(
        rf"worker [12] of 2 \(process {process}\) was ended by SIGKILL, reading the split 'train' of ", message
    )
    assert "memory" in message and "resumes" in message and "\n" not in message


def test_a_hanging_worker_ends_the_run_with_its_name(split: PreparedSplit) -> None:
    message, process = lose_a_worker(split, signal.SIGSTOP, hang_s=1.0)
    assert f"(process {process}) finished no image for 1 s" in message
    assert "at one of the records" in message


def test_workers_leave_sigterm_to_the_main_process(split: PreparedSplit) -> None:
    """It reaches all processes of a job; the batches that are needed to stop in order still come."""
    reading = Reading(workers=1, prefetch_examples=8)
    batches = train_batches(split, augmentation=AUGMENTATION, target=Target.NONE, seed=0, batch_size=4, reading=reading)
    next(batches)
    (worker,) = workers_of(psutil.Process())
    worker.send_signal(signal.SIGTERM)
    for _ in range(8):
        next(batches)
    batches.close()
    assert not worker.is_running()


# --- the main process ends

MAIN = """
import itertools, sys
import numpy as np
from luab_jax.byproducts.kinds import DEFAULT_SETTINGS
from luab_jax.byproducts.targets import Target
from luab_jax.data.dataset import open_split
from luab_jax.data.evaluation_rows import EvaluationRows
from luab_jax.data.reading import Reading
from luab_jax.data.rows import batches_of_rows
from luab_jax.data.transforms import ANY_SIZE, Preprocessing

rows = EvaluationRows(records=open_split(sys.argv[1], "train").records, preprocessing=Preprocessing(image_size=8),
                      stored=ANY_SIZE, num_classes=None, target=Target.NONE, settings=DEFAULT_SETTINGS)
places = itertools.repeat(np.arange(4).repeat(2).reshape(4, 2))
print("jax" in sys.modules)
for _ in batches_of_rows(rows, places, 4, Reading(workers=2, prefetch_examples=8), "it"):
    print("batch", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.usefixtures("ctrl_c")
def test_workers_end_with_the_main_process(split: PreparedSplit, number: int) -> None:
    """SIGINT reaches the whole group, as a terminal's Ctrl-C; the workers leave it to the main process."""
    command = [sys.executable, "-c", MAIN, str(split.directory)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as main:
        assert main.stdout is not None and main.stderr is not None
        assert [main.stdout.readline() for _ in range(2)] == ["False\n", "batch\n"]
        workers = workers_of(psutil.Process(main.pid))
        assert len(workers) == 2
        os.killpg(main.pid, number)
        _, errors = main.communicate(timeout=60)
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    assert errors.count("Traceback") == (number == signal.SIGINT), errors
    assert "leaked" not in errors and "worker.py" not in errors


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="has no /dev/shm")
def test_shared_memory_has_no_name_that_could_be_left_behind() -> None:
    descriptor = anonymous_file(8)
    assert str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("/memfd:")
    os.close(descriptor)


# --- what passes between the processes


def test_requests_that_workers_repeated_are_counted_here() -> None:
    retries.forget()
    places = [np.zeros((4, 2), np.int64)] * 3
    assert len(list(batches_of_rows(UnluckyRows(), places, 4, Reading(workers=1, prefetch_examples=4), "it"))) == 3
    assert retries.taken() == {"503": 6}
    assert not retries.counts()


def test_a_record_that_was_read_is_a_sign_of_life(split: PreparedSplit) -> None:
    told: list[str] = []

    class Watched:
        def __len__(self) -> int:
            return NUM_RECORDS

        def __getitem__(self, index: int, /) -> bytes:
            told.append("read")
            return split.records[index]

    maker = training_rows(Watched())
    rows = {name: np.zeros((3, *column.shape), column.dtype) for name, column in maker.columns().items()}
    maker.fill(np.arange(3).repeat(2).reshape(3, 2), rows, lambda: told.append("told"))
    assert told == ["read", "told"] * 3 + ["told"] * 3


def training_rows(records: Records) -> TrainingRows:
    return TrainingRows(
        records=records,
        augmentation=AUGMENTATION,
        target=Target.NONE,
        seed=0,
        label_sets=None,
        settings=DEFAULT_SETTINGS,
        weighting=SampleWeight.NONE,
        generators=ElementGenerators(0),
    )


def test_the_arrays_of_what_a_worker_is_given_are_shared_and_whole(split: PreparedSplit) -> None:
    value = {"records": split.records, "empty": np.zeros((0, 2)), "text": "ü"}
    file = anonymous_file()
    write_payload(value, file)
    read = read_payload(file)
    os.close(file)
    assert [read["records"][i] for i in range(NUM_RECORDS)] == [split.records[i] for i in range(NUM_RECORDS)]
    assert read["empty"].shape == (0, 2) and read["text"] == "ü"
    assert not read["records"].places[0].flags.writeable


def test_an_error_keeps_the_nearest_class_that_the_main_process_knows() -> None:
    for error, kind in ((ShardError("a"), ShardError), (ImageFault(Fault.EMPTY), DataError)):
        made = Failure.of(error).error()
        assert type(made) is kind and str(made) == str(error)
    try:
        _ = 1 // 0
    except ZeroDivisionError as e:
        made = Failure.of(e).error()
    assert isinstance(made, RuntimeError) and "1 // 0" in str(made)


def test_a_worker_hangs_when_it_finishes_nothing_for_as_long_as_is_allowed() -> None:
    from luab_jax.data import worker_pool

    pool = object.__new__(worker_pool.WorkerPool)
    worker = object.__new__(worker_pool._Worker)
    worker.ready, worker.tasks, worker.done, worker.idle_s = True, {1: None}, 0, 0.0  # type: ignore[dict-item]
    pool._reading, pool._workers, pool._signs = Reading(hang_s=50.0), [worker], np.zeros(1, np.int64)
    assert all(pool._hanging(1.0) is None for _ in range(50))
    assert pool._hanging(1.0) is worker
    pool._signs[0] += 1
    assert pool._hanging(1.0) is None
