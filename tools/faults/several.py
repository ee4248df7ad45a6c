"""Faults of a run on several hosts, which are processes of this machine."""

from __future__ import annotations

import hashlib
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from luab_jax.metrics.history import read_metrics
from tests import tiny
from tools.faults.runs import STEPS_PER_SAVE, Started, Training, saved_steps
from tools.faults.single import Row

HEARTBEAT_S = 20
"""Of a machine that is shared: a process may get no time for many seconds."""
_TOLERANCE = 1e-4
"""Between losses on other numbers of devices: sums of float32 in another order, over 24 steps."""


def losses(workdir: Path) -> dict[int, float]:
    return {line["step"]: line["train/loss"] for line in read_metrics(workdir) if "train/loss" in line}


def compared(workdir: Path, reference: Path) -> str:
    """The largest relative difference of the losses."""
    own, others = losses(workdir), losses(reference)
    if own.keys() != others.keys():
        return f"WRONG: steps {sorted(own)}"
    worst = np.max([abs(own[step] / others[step] - 1) for step in own])
    return f"{'' if worst <= _TOLERANCE else 'WRONG: '}losses of all {len(own)} steps within {worst:.0e}"


def _last_top1(workdir: Path) -> float:
    return [line["eval/top1"] for line in read_metrics(workdir) if "eval/top1" in line][-1]


def order_hash(training: Training, num_hosts: int) -> str:
    """Of the records of every batch of the run, all hosts together, in order."""
    from luab_jax.data.dataset import open_split
    from luab_jax.training.batches import training_batches

    config = tiny.experiment(training.data, total_steps=training.total_steps)
    split = open_split(str(training.data), "train")
    hosts = [
        training_batches(config, split, num_classes=3, process_index=host, process_count=num_hosts)
        for host in range(num_hosts)
    ]
    digest = hashlib.sha256()
    for _ in range(training.total_steps):
        rows = np.stack([next(batches).index for batches in hosts], axis=1)  # the hosts take turns
        digest.update(rows.astype("<i4").tobytes())
    return digest.hexdigest()[:12]


def _all_ended(hosts: list[Started]) -> list[int]:
    return [host.wait() for host in hosts]


def _run(training: Training, num_hosts: int, name: str) -> Path:
    workdir = training.folder / name
    hosts = training.start_hosts(num_hosts, workdir)
    if any(_all_ended(hosts)):
        raise SystemExit(f"{num_hosts} host(s) failed:\n{hosts[0].output}")
    return workdir


def _wait_for_step(hosts: list[Started], step: int) -> None:
    if not hosts[0].wait_until(lambda: f"step {step}/" in hosts[0].output):
        raise SystemExit(f"the hosts ended early:\n{hosts[0].output}")


def host_lost(training: Training, workdir: Path, number: int) -> Row:
    """Kills one of four in the middle of the run, which is left there."""
    heartbeat = f"--config.distributed.heartbeat_timeout_s={HEARTBEAT_S}"
    hosts = training.start_hosts(4, workdir, heartbeat)
    _wait_for_step(hosts, STEPS_PER_SAVE + 1)
    hosts[number].process.kill()
    killed = time.monotonic()
    others = [host for i, host in enumerate(hosts) if i != number]
    codes = _all_ended(others)
    seconds = time.monotonic() - killed
    verdict = "" if all(codes) else "WRONG: a host ended as if all were well; "
    return Row(
        f"host {number + 1} of 4 lost",
        f"kill -9, {heartbeat[2:]}",
        f"{verdict}what came after step {max(saved_steps(workdir), default=0)}, which the rerun repeats",
        f"after {seconds:.0f} s, exit codes {codes}: {others[-1].errors()}",
    )


def one_host_fails(training: Training, workdir: Path) -> Row:
    """The second host reads a copy of the data with a damaged shard."""
    copy = training.folder / "damaged_data"
    shutil.copytree(training.data, copy)
    for shard in copy.rglob("*train*tfrecord*"):
        if shard.stat().st_size > 2000 and shard.suffix != ".json":
            data = bytearray(shard.read_bytes())
            data[len(data) // 2] ^= 1
            shard.write_bytes(data)
    hosts = training.start_hosts(2, workdir, own={1: [f"--config.data.root={copy}"]})
    first = time.monotonic()
    codes = []
    for host in reversed(hosts):
        codes.insert(0, host.wait())
        if len(codes) == 1:
            first = time.monotonic()
    seconds = time.monotonic() - first
    return Row(
        "an error on host 2 of 2",
        "one bit of a record flipped in the data that only it reads",
        "nothing that was saved" if all(codes) else "WRONG: a host ended as if all were well",
        f"exit codes {codes}, {seconds:.0f} s apart; host 1: {hosts[0].errors()}",
    )


def resumed_on_others(training: Training, workdir: Path, reference: Path) -> Row:
    """What four hosts left goes on on one, is stopped there, and ends on two."""
    before = max(saved_steps(workdir))
    (one,) = training.start_hosts(1, workdir)
    _wait_for_step([one], before + 2)
    one.process.send_signal(signal.SIGTERM)
    code = one.wait()
    between = max(saved_steps(workdir))
    codes = _all_ended(training.start_hosts(2, workdir))
    verdict = "" if code == 3 and codes == [0, 0] else f"WRONG: exit codes {code} and {codes}; "
    return Row(
        "resume on other hosts",
        f"4 hosts to step {before}, 1 to step {between}, 2 to step {training.total_steps}",
        f"{verdict}{compared(workdir, reference)} of one uninterrupted host",
        f"resuming from step {between} of {training.total_steps}",
    )


def rows(training: Training) -> Iterator[Row]:
    one = _run(training, 1, "one")
    for num_hosts in (1, 2, 4):
        same = order_hash(training, num_hosts) == order_hash(training, 1)
        workdir = _run(training, num_hosts, f"{num_hosts}_hosts") if num_hosts > 1 else one
        yield Row(
            f"{num_hosts} host(s)",
            "none",
            f"{'' if same else 'WRONG: '}order of records {order_hash(training, num_hosts)},"
            f" {compared(workdir, one)} of one host",
            f"top1 of the last evaluation {_last_top1(workdir):.4f}",
        )
    lost = training.folder / "lost"
    yield host_lost(training, lost, 2)
    yield resumed_on_others(training, lost, one)
    yield one_host_fails(training, training.folder / "one_fails")
    yield host_lost(training, training.folder / "coordinator_lost", 0)
