"""How long commands take until they are of use: `python -m benchmarks.startup`.

On the demo's data, by the clock and in CPU time, from the start of the interpreter to the line that is waited for.
Cold: with an empty cache of compiled programs. Warm: the same command again, the least of `--rounds`. Bytecode is there
in both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
from PIL import Image

from benchmarks.machine import machine
from benchmarks.photos import REPOSITORY
from data_prep.argument_types import positive


class Case(NamedTuple):
    """A command of which the line that matches is waited for."""

    name: str
    line: str
    """Empty: the end of the command."""
    arguments: Callable[[Path, str], list[str]]
    """By the folder of the measurement, and a text that no other start has."""
    imports: str
    """Modules that it loads, some of them late."""
    needs: str = ""
    """What `prepare` makes for it: data, study."""
    serves: bool = False


class Taken(NamedTuple):
    seconds: float
    cpu_seconds: float


def cases(sizes: Sequence[str], batch_size: int) -> list[Case]:
    def demo(folder: Path, start: str) -> list[str]:
        return ["data_prep", "demo", f"--out={folder / f'drawn-{start}'}", *sizes]

    def train(folder: Path, start: str) -> list[str]:
        where = [f"--workdir={folder / f'run-{start}'}", f"--config.data.root={folder / 'data' / 'prepared'}"]
        cache = f"--config.compilation_cache={folder / 'cache'}"
        lengths = ["--config.total_steps=2", "--config.log.every_steps=1", f"--config.batch_size={batch_size}"]
        return ["luab_jax.main", "--config=configs/demo.py", *where, cache, *lengths]

    def evaluate(folder: Path, start: str) -> list[str]:
        where = [f"--checkpoint={folder / 'run-cold'}", f"--data={folder / 'data'}"]
        return ["luab_jax.evaluate", *where, "--suites=imagenet", f"--out={folder / f'{start}.json'}"]

    def report(folder: Path, start: str) -> list[str]:
        return ["luab_jax.report", str(folder / "cold.json"), f"--out={folder / f'{start}.html'}"]

    def preflight(folder: Path, start: str) -> list[str]:
        facts = ["--topology=local", "--num_classes=8", "--num_examples=1000", "--probe_s=0"]
        cache = f"--config.compilation_cache={folder / 'cache-of-preflight'}"
        return ["luab_jax.preflight", "--config=configs/demo.py", *facts, cache]

    def serve(folder: Path, start: str) -> list[str]:
        return ["data_prep", "collect", "serve", str(folder / "study"), "--port=0"]

    return [
        Case("data_prep demo: first split", r"^prepared ", demo, "data_prep.commands, tensorflow_datasets"),
        Case("luab_jax.main: first step", r"^step 1/", train, "luab_jax.training.loop", "data"),
        Case("luab_jax.evaluate, one suite: scores", r"top1", evaluate, "luab_jax.evaluation.runner", "data"),
        Case("luab_jax.report: page", "", report, "luab_jax.report.__main__", "data"),
        Case("luab_jax.preflight, local: answer", "", preflight, "luab_jax.preflight.__main__"),
        Case(
            "collect serve: takes annotators", r"^serving ", serve, "data_prep.collect.web.server", "study", serves=True
        ),
    ]


def measure(case: Case, folder: Path, start: str, environment: dict[str, str]) -> Taken:
    """Runs the command to its end, but for a server, which ends by SIGTERM once it serves.

    Raises `SystemExit` with what it said if it fails or the line does not come.
    """
    command = [sys.executable, "-m", *case.arguments(folder, start)]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    taken, said = None, []
    with process.stdout:
        for line in process.stdout:
            said.append(line)
            if taken is None and case.line and re.search(case.line, line):
                taken = Taken(time.perf_counter() - began, _cpu_seconds(process.pid))
                if case.serves:
                    process.send_signal(signal.SIGTERM)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if not case.line:
        taken = Taken(time.perf_counter() - began, used.ru_utime + used.ru_stime)
    if taken is None or (process.returncode and not case.serves):
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}\n{''.join(said)}")
    return taken


def _cpu_seconds(pid: int) -> float:
    """So far, of the process and those that it started."""
    total = 0.0
    with contextlib.suppress(psutil.Error):  # one that has ended
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                total += times.user + times.system
                if one is process:  # children that have ended
                    total += times.children_user + times.children_system
    return total


def prepare(folder: Path, needs: set[str], sizes: Sequence[str], environment: dict[str, str]) -> None:
    """What the commands read: the demo's data, and a planned study."""
    if "data" in needs:
        _run_data_prep(environment, "demo", f"--out={folder / 'data'}", *sizes)
    if "study" in needs:
        for k, name in enumerate(("cat", "dog")):
            (folder / "pictures" / name).mkdir(parents=True)
            for n in range(12):
                Image.new("RGB", (100, 80), (20 * n, 100, 200 * k)).save(folder / "pictures" / name / f"{n}.jpg")
        study = str(folder / "study")
        _run_data_prep(environment, "collect", "init", study, "--task=imagenet", f"--images={folder / 'pictures'}")
        _run_data_prep(environment, "collect", "plan", study)


def _run_data_prep(environment: dict[str, str], *arguments: str) -> None:
    line = [sys.executable, "-m", "data_prep", *arguments]
    done = subprocess.run(line, cwd=REPOSITORY, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")


def environment_of(folder: Path) -> dict[str, str]:
    """With a cache of bytecode, and one of compiled programs for the commands that have no flag for it."""
    changed = {
        "PYTHONUNBUFFERED": "1",  # a line counts when it is written
        "PYTHONPYCACHEPREFIX": os.environ.get("PYTHONPYCACHEPREFIX") or str(folder / "bytecode"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=positive, default=3, help="warm starts of each command")
    parser.add_argument("--num_train", type=int, default=400, help="images of the demo that are trained on")
    parser.add_argument("--num_val", type=int, default=80)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--only", default="", help="parts of names, by commas; evaluate needs main, report both")
    arguments = parser.parse_args()
    sizes = [f"--num_train={arguments.num_train}", f"--num_val={arguments.num_val}"]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = environment_of(folder)
        chosen = [
            case
            for case in cases(sizes, arguments.batch_size)
            if any(part in case.name for part in arguments.only.split(","))
        ]
        prepare(folder, {case.needs for case in chosen}, sizes, environment)
        for case in chosen:
            imports = [sys.executable, "-c", f"import {case.imports}"]  # which leaves their bytecode
            subprocess.run(imports, cwd=REPOSITORY, env=environment, check=True)
            cold = measure(case, folder, "cold", environment)
            warm = [measure(case, folder, f"warm{k}", environment) for k in range(arguments.rounds)]
            rows.append((case.name, cold, Taken(*map(min, zip(*warm, strict=True)))))
    print(machine(len(os.sched_getaffinity(0))))
    print(table(rows, arguments.rounds))


def table(rows: Sequence[tuple[str, Taken, Taken]], rounds: int) -> str:
    lines = [
        f"\nseconds to the line that is waited for, by the clock / of CPU; warm: the least of {rounds}\n",
        f"{'':<42} {'cold':>14} {'warm':>14}",
    ]
    for name, cold, warm in rows:
        cells = (f"{taken.seconds:6.1f} /{taken.cpu_seconds:6.1f}" for taken in (cold, warm))
        lines.append(f"{name:<42} " + " ".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
