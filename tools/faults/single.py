"""Faults of a run on one host, each injected into a copy of the same experiment."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tools.faults.runs import REPOSITORY, STEPS_PER_SAVE, Started, Training, difference, saved_steps


class Row(NamedTuple):
    """Of the table."""

    fault: str
    injected: str
    lost: str
    seen: str


def _lost(training: Training, workdir: Path, reference: Path, steps: int = 0) -> str:
    """After the run came to its end."""
    if what := difference(training, workdir, reference):
        return f"WRONG: {what}"
    return f"nothing ({steps} steps repeated)" if steps else "nothing"


def _line(run: Started, *words: str) -> str:
    found = [line for line in run.output.splitlines() if any(word in line for word in words)]
    return " / ".join(found) or f"WRONG: said nothing of it: {run.output[-500:]!r}"


def _copy(reference: Path, name: str) -> Path:
    workdir = reference.with_name(name)
    shutil.rmtree(workdir, ignore_errors=True)
    shutil.copytree(reference, workdir)
    return workdir


def _arrays(workdir: Path, step: int) -> Path:
    """The file with most of a checkpoint's bytes of arrays."""
    files = (workdir / "checkpoints" / str(step) / "state").glob("ocdbt.process_*/d/*")
    return max(files, key=lambda path: path.stat().st_size)


def _tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 0x40
    path.write_bytes(data)


def damaged_checkpoint(training: Training, reference: Path, damage: Callable[[Path], None], fault: str) -> Row:
    workdir = _copy(reference, fault.replace(" ", "_"))
    damage(_arrays(workdir, training.total_steps))
    run = training.run(workdir)
    return Row(
        fault,
        "the last checkpoint's file of arrays " + ("cut in half" if damage is _tear else "with one bit flipped"),
        _lost(training, workdir, reference, STEPS_PER_SAVE),
        _line(run, "damaged", "resuming"),
    )


def damaged_and_evaluated(training: Training, reference: Path) -> Row:
    workdir = _copy(reference, "evaluated")
    _flip(_arrays(workdir, training.total_steps))
    command = [sys.executable, "-m", "luab_jax.evaluate", f"--checkpoint={workdir}", f"--data={training.data}"]
    done = subprocess.run(
        [*command, f"--out={workdir / 'results.json'}"], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    message = done.stderr.strip().splitlines()[-1]
    return Row("damaged, then evaluated", "as before", "nothing", f"exit code {done.returncode}: {message}")


def all_damaged(training: Training, reference: Path) -> Row:
    workdir = _copy(reference, "all_damaged")
    steps = saved_steps(workdir)
    for step in steps:
        _flip(_arrays(workdir, step))
    run = training.run(workdir)
    kept = "nothing is touched" if saved_steps(workdir) == steps else "WRONG: checkpoints are gone"
    return Row("all checkpoints damaged", "one bit in each", kept, f"exit code {run.wait()}: {run.errors()}")


def full_disk(training: Training, reference: Path, *, of_metrics: bool) -> Row:
    """No file may grow beyond a limit: writes behind it fail, as on a full disk."""
    workdir = reference.with_name("full_disk_metrics" if of_metrics else "full_disk")
    shutil.rmtree(workdir, ignore_errors=True)
    # The index of the arrays has 23 KB, metrics.jsonl 3 KB after seven steps.
    extra, limit = (["--config.checkpoint.every_epochs=100"], 3) if of_metrics else ([], 10)
    if not of_metrics:
        first = training.start(workdir)
        first.wait_until(lambda: bool(saved_steps(workdir)))
        first.process.kill()
        first.wait()
    before = saved_steps(workdir)
    run = training.run(workdir, *extra, limit_kib=limit)
    message = f"exit code {run.wait()}: {run.errors()}"
    assert set(before) <= set(saved_steps(workdir)), "a full disk took a checkpoint"
    training.run(workdir)
    return Row(
        f"full disk, {'metrics.jsonl' if of_metrics else 'checkpoint'}",
        f"files may not grow beyond {limit} KiB; then they may",
        _lost(training, workdir, reference),
        message,
    )


def told_to_stop(training: Training, reference: Path, number: signal.Signals) -> Row:
    workdir = reference.with_name(number.name)
    shutil.rmtree(workdir, ignore_errors=True)
    run = training.start(workdir)
    run.wait_until(lambda: f"step {STEPS_PER_SAVE + 1}/" in run.output)
    run.process.send_signal(number)
    code = run.wait()
    training.run(workdir)
    seen = f"exit code {code}: {_line(run, 'received', 'stopped')}"
    return Row(number.name, "sent in the middle of the run", _lost(training, workdir, reference), seen)


def not_finite(training: Training, reference: Path) -> Row:
    workdir = reference.with_name("not_finite")
    shutil.rmtree(workdir, ignore_errors=True)
    run = training.run(workdir, "--config.optim.learning_rate=1e30", "--config.optim.warmup_epochs=0")
    (folder,) = workdir.glob("not_finite-step*")
    facts = json.loads((folder / "process0.json").read_text())
    kept = f"kept: {', '.join(sorted(path.name for path in folder.iterdir()))}; {len(facts['records'])} records named"
    return Row("NaN", "learning rate 1e30", kept, f"exit code {run.wait()}: {run.errors()}")


def rows(training: Training, reference: Path) -> Iterator[Row]:
    yield damaged_checkpoint(training, reference, _tear, "torn checkpoint")
    yield damaged_checkpoint(training, reference, _flip, "bit flip")
    yield damaged_and_evaluated(training, reference)
    yield all_damaged(training, reference)
    yield full_disk(training, reference, of_metrics=False)
    yield full_disk(training, reference, of_metrics=True)
    yield told_to_stop(training, reference, signal.SIGTERM)
    yield told_to_stop(training, reference, signal.SIGINT)
    yield not_finite(training, reference)
