"""Faults of what is written besides checkpoints: results, example images, predictions, reports, exported weights."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.faults.runs import Started, Training, limited
from tools.faults.single import Row

KILLED = """
import os, runpy, signal, sys
from luab_jax.io import atomic

left, module = int(sys.argv[1]), sys.argv[2]
del sys.argv[1:3]
replace = atomic._replace

def replace_or_die(temporary, target, *, sync):
    global left
    left -= "lease" not in target.name
    if left == 0:
        data = temporary.read_bytes()
        temporary.write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    replace(temporary, target, sync=sync)

atomic._replace = replace_or_die
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""A command that is killed when half of its n-th file is written."""
SUITES = "imagenet,cocc,byproduct"


class Outputs:
    """Commands that write from one finished run."""

    def __init__(self, training: Training, workdir: Path):
        self._data, self._workdir = training.data, workdir
        self.folder = workdir.with_name("outputs")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def arguments(self, what: str, name: str) -> list[str]:
        """Module and arguments of the command that writes a file."""
        out = self.folder / name
        if what == "report":
            return ["luab_jax.report", str(self.folder / "results.json"), f"--out={out}"]
        if what == "export":
            return ["luab_jax.export", f"--checkpoint={self._workdir}", f"--out={out}"]
        return [
            *("luab_jax.evaluate", f"--checkpoint={self._workdir}", f"--suites={SUITES}", f"--data={self._data}"),
            *("--batch_size=8", f"--out={out}", f"--predictions={self.folder / 'predictions'}"),
        ]

    def run(self, what: str, name: str, *, killed_at: int = 0, limit_kib: int | None = None) -> Started:
        arguments = self.arguments(what, name)
        program = ["-c", KILLED, str(killed_at)] if killed_at else ["-m"]
        command = [sys.executable, *program, *arguments]
        started = Started(command if limit_kib is None else limited(command, limit_kib), self.folder / name)
        started.wait()
        return started

    def content(self, name: str) -> Any:
        """What does not depend on the time: scores of a results file, of a page all lines but those with a time."""
        path = self.folder / name
        if path.suffix == ".html":
            return [line for line in path.read_text(encoding="utf-8").splitlines() if " UTC" not in line]
        if path.suffix != ".json":
            return hashlib.sha256(path.read_bytes()).hexdigest()
        suites = json.loads(path.read_text(encoding="utf-8"))["suites"]
        return {suite: {k: v for k, v in scores.items() if k != "seconds"} for suite, scores in suites.items()}

    def leftovers(self) -> list[str]:
        return [path.name for path in self.folder.rglob("*") if path.name.endswith((".tmp", ".unfinished", ".lease"))]


def killed(outputs: Outputs, what: str, name: str) -> Row:
    """Killed at its first file, when an older one is there; then given again."""
    outputs.run(what, name)
    before = outputs.content(name)
    run = outputs.run(what, name, killed_at=1)
    kept = outputs.content(name) == before
    code = outputs.run(what, name).wait()
    fine = kept and code == 0 and outputs.content(name) == before and not outputs.leftovers()
    return Row(
        f"kill -9 in {what}",
        "half of the file is written when the process is killed; the same command after it",
        "nothing: the file before stayed, the next is the same" if fine else f"WRONG: {outputs.leftovers()}",
        f"exit code {run.wait()}",
    )


def _killed_evaluation(outputs: Outputs) -> Row:
    expected, name, kills = outputs.content("results.json"), "killed.json", 0
    while outputs.run("evaluation", name, killed_at=2**kills).wait() == -9:
        kills += 1
        assert kills < 50
    fine = outputs.content(name) == expected and not outputs.leftovers()
    return Row(
        "kill -9 in evaluation",
        f"{kills} times, when half of its first, second, fourth ... file is written; the same command after each",
        "nothing: the same scores" if fine else f"WRONG: other scores, or left: {outputs.leftovers()}",
        "going on after ...",
    )


def full(outputs: Outputs, what: str, name: str, limit_kib: int) -> Row:
    """An older file is there, except of the evaluation, which would only read it."""
    expected = "results.json" if what == "evaluation" else name
    before = outputs.content(expected)
    run = outputs.run(what, name, limit_kib=limit_kib)
    kept = what == "evaluation" or outputs.content(name) == before
    code = outputs.run(what, name).wait()
    fine = kept and run.wait() == 1 and code == 0 and outputs.content(name) == before and not outputs.leftovers()
    return Row(
        f"full disk in {what}",
        f"files may not grow beyond {limit_kib} KiB; then they may",
        "nothing" if fine else f"WRONG: exit codes {run.wait()}, {code}; left: {outputs.leftovers()}",
        f"exit code {run.wait()}: {run.errors()}",
    )


def rows(training: Training, workdir: Path) -> Iterator[Row]:
    outputs = Outputs(training, workdir)
    if (first := outputs.run("evaluation", "results.json")).wait():
        raise SystemExit(f"the evaluation failed:\n{first.output}")
    yield killed(outputs, "report", "report.html")
    yield killed(outputs, "export", "weights.safetensors")
    yield _killed_evaluation(outputs)
    yield full(outputs, "report", "report.html", 4)
    yield full(outputs, "export", "weights.safetensors", 2)
    yield full(outputs, "evaluation", "full.json", 2)
