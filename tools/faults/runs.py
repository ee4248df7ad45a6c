"""Training commands to be interrupted, and what they leave behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from luab_jax.metrics.history import read_metrics
from tests import tiny

REPOSITORY = Path(__file__).resolve().parents[2]

CONFIG = """
from luab_jax.config import CheckpointConfig, EvalConfig, LogConfig
from tests import tiny


def get_config():
    return tiny.experiment(
        "",
        total_steps={total_steps},
        checkpoint=CheckpointConfig(every_epochs=1.0, keep_last=2, keep_best=1),
        eval=EvalConfig(every_epochs=1.0),
        log=LogConfig(every_steps=1, tensorboard=False),
    )
"""
STEPS_PER_SAVE = 4
"""And per evaluation: 32 images in batches of 8."""


class Training:
    """One experiment on tiny data, with as many workdirs as wanted."""

    def __init__(self, folder: Path, total_steps: int):
        self.folder, self.total_steps = folder, total_steps
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        if not self.data.exists():
            tiny.prepare_data(self.data)
        self.config = folder / f"config_{total_steps}.py"
        self.config.write_text(CONFIG.format(total_steps=total_steps))

    def command(self, workdir: Path, *extra: str) -> list[str]:
        return [
            *(sys.executable, "-m", "luab_jax.main"),
            *(f"--config={self.config}", f"--workdir={workdir}", f"--config.data.root={self.data}"),
            f"--config.compilation_cache={os.environ.get('LUAB_JAX_TEST_CACHE') or self.folder / 'cache'}",
            *extra,
        ]

    def start(self, workdir: Path, *extra: str, devices: int = 1, limit_kib: int | None = None) -> Started:
        command = self.command(workdir, *extra)
        return Started(command if limit_kib is None else limited(command, limit_kib), workdir, devices)

    def run(self, workdir: Path, *extra: str, limit_kib: int | None = None) -> Started:
        """To its end."""
        started = self.start(workdir, *extra, limit_kib=limit_kib)
        started.wait()
        return started

    def start_hosts(self, num_hosts: int, workdir: Path, *extra: str, own: dict[int, list[str]] | None = None) -> Any:
        """One process per host, of one device each; `own` are arguments of single hosts."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        hosts = []
        for host in range(num_hosts):
            described = (
                f"--config.distributed.coordinator_address=127.0.0.1:{port}",
                f"--config.distributed.num_processes={num_hosts}",
                f"--config.distributed.process_id={host}",
            )
            hosts.append(self.start(workdir, *(described if num_hosts > 1 else ()), *extra, *(own or {}).get(host, [])))
        return hosts


def limited(command: list[str], limit_kib: int) -> list[str]:
    """The command where no file may grow beyond a limit: writes behind it fail, as on a full disk."""
    # Around the limit, so that what it prints has room. Python 3.11 would leave half a file of bytecode for all others.
    script = f'(export PYTHONDONTWRITEBYTECODE=1; ulimit -f {limit_kib}; exec "$@") 2>&1 | cat; exit ${{PIPESTATUS[0]}}'
    return ["bash", "-c", script, "bash", *command]


class Started:
    """A running command; its output goes to a file, which no full pipe can stop."""

    def __init__(
        self, command: list[str], workdir: Path, devices: int = 1, changes: dict[str, str | None] | None = None
    ):
        """`changes` are those of the environment; None takes a variable away."""
        environment: dict[str, str] = os.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        }
        for name, value in (changes or {}).items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        workdir.parent.mkdir(parents=True, exist_ok=True)
        self.workdir, self.begun = workdir, time.monotonic()
        self._path = workdir.parent / f"{workdir.name}.{time.time_ns()}.log"
        with self._path.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=REPOSITORY)

    @property
    def output(self) -> str:
        return self._path.read_text(errors="replace")

    def wait(self, timeout_s: float = 600) -> int:
        return self.process.wait(timeout_s)

    def wait_until(self, is_reached: Callable[[], bool], timeout_s: float = 600) -> bool:
        """Whether it was reached before the process ended."""
        deadline = time.monotonic() + timeout_s
        while not is_reached():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, self.output
            time.sleep(0.005)
        return True

    def errors(self) -> str:
        """The message that it ended with, of which the first line is enough."""
        # The second are the words of jax, of a process that it aborts.
        words = ("error: ", "Terminating process because")
        lines = [line for line in self.output.splitlines() if line.startswith(words[0]) or words[1] in line]
        return lines[-1] if lines else f"(no message: {self.output[-300:]!r})"


def is_saving(workdir: Path) -> bool:
    """Orbax writes into a folder of another name and renames it."""
    return any("tmp" in path.name for path in (workdir / "checkpoints").glob("*"))


def saved_steps(workdir: Path) -> list[int]:
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())


def final_state(training: Training, workdir: Path) -> dict[str, np.ndarray]:
    """Parameters, batch statistics and optimiser state of the last checkpoint, by name."""
    import jax

    from luab_jax.checkpoints import store
    from luab_jax.training.setup import set_up

    run = set_up(tiny.experiment(training.data, total_steps=training.total_steps), workdir)
    state = store.restore(workdir, training.total_steps, run.abstract_state._asdict())
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def lines_without_times(workdir: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in read_metrics(workdir)]


def difference(training: Training, workdir: Path, reference: Path) -> str:
    """What a run left otherwise than the uninterrupted one; empty if it is the same to the last bit."""
    first, second = final_state(training, reference), final_state(training, workdir)
    wrong = [name for name in first if first[name].tobytes() != second[name].tobytes()]
    if wrong or first.keys() != second.keys():
        return f"{len(wrong)} of {len(first)} arrays differ, the first {wrong[:1]}"
    steps = [line["step"] for line in read_metrics(workdir) if "train/loss" in line]
    if steps != list(range(1, training.total_steps + 1)):
        return f"metrics.jsonl has the steps {steps}"
    return "" if lines_without_times(workdir) == lines_without_times(reference) else "metrics.jsonl has other values"
