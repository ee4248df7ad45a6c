"""The whole road, from images to a report, with every path below one root: a folder, or a bucket of an emulator.

The commands are those a user types. Some run in this process, which saves the seconds that jax takes to load; a
training that is killed has processes of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.data_prep.conftest import RawData
from tests.xla_flags import QUICK_TO_COMPILE

REPOSITORY = Path(__file__).resolve().parents[1]
TOTAL_STEPS, KILLED_AT = 6, 4

CONFIG = """
import os
from luab_jax.config import CheckpointConfig
from tests import tiny


def get_config():
    return tiny.experiment("", total_steps={total_steps}, checkpoint=CheckpointConfig(keep_best=0))
"""

KILLED = """
import os, runpy, signal
os.environ["LUAB_JAX_PARENT"] = str(os.getppid())  # or it would start a child of several hosts, without what follows
from luab_jax.checkpoints.store import Checkpoints

save = Checkpoints.save

def killed(self, step, *arguments, **options):
    save(self, step, *arguments, **options)
    if step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoints.save = killed
runpy.run_module("luab_jax.main", run_name="__main__")
"""
"""The training, killed while it saves."""


@dataclass
class Done:
    """One command that has ended."""

    command: str
    code: int
    printed: str
    seconds: float
    requests: int = 0


@dataclass
class Road:
    """Walks it; `done` holds what was run."""

    root: str
    """`gs://bucket`, `s3://bucket` or a folder."""
    scratch: Path
    """A folder of this machine."""
    environment: Mapping[str, str] = field(default_factory=dict)
    num_requests: Callable[[], int] = lambda: 0
    """How many the bucket has had so far."""
    done: list[Done] = field(default_factory=list)

    def run(self, module: str, *arguments: str, code: int = 0) -> str:
        """A command in this process; raises `AssertionError` unless it ends with `code`."""
        done = self.attempt(module, *arguments)
        return self._add(done, code)

    def attempt(self, module: str, *arguments: str) -> Done:
        """A command in this process, however it ends; not counted as part of the road."""
        start, before, out = time.monotonic(), self.num_requests(), io.StringIO()
        has_package = module in ("data_prep", "luab_jax.report")
        main: Callable[[list[str]], Any] = importlib.import_module(f"{module}.__main__" if has_package else module).main
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            ended = int(main(list(arguments)))
        return Done(
            f"python -m {module} {' '.join(arguments)}",
            ended,
            out.getvalue(),
            time.monotonic() - start,
            self.num_requests() - before,
        )

    def start(self, *arguments: str, program: tuple[str, ...], num_hosts: int = 1, code: int = 0) -> str:
        """A training in processes of its own, of one device each but for a single one, which has two."""
        start, before = time.monotonic(), self.num_requests()
        environment = os.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={8 // num_hosts} {QUICK_TO_COMPILE}",
            **self.environment,
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        hosts = []
        for host in range(num_hosts):
            command = [sys.executable, *program, *arguments]
            if num_hosts > 1:
                flags = {"coordinator_address": f"127.0.0.1:{port}", "num_processes": num_hosts, "process_id": host}
                command += [f"--config.distributed.{name}={value}" for name, value in flags.items()]
            pipe = subprocess.PIPE
            hosts.append(subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=subprocess.STDOUT))
        printed = [host.communicate(timeout=240)[0] for host in hosts]
        codes = {host.returncode for host in hosts}
        name = f"python -m luab_jax.main {' '.join(arguments)}{f' on {num_hosts} hosts' if num_hosts > 1 else ''}"
        ended = codes.pop() if len(codes) == 1 else 1
        seconds, requests = time.monotonic() - start, self.num_requests() - before
        return self._add(Done(name, ended, "\n".join(printed), seconds, requests), code)

    def _add(self, done: Done, code: int) -> str:
        self.done.append(done)
        assert done.code == code, f"{done.command}\nended with {done.code}, not {code}\n{done.printed}"
        return done.printed

    def prepare(self, put: Callable[[str, bytes], object]) -> None:
        """Raw files into the root, by `put`, then a training and a validation split of them."""
        raw_folder = self.scratch / "raw"
        raw_folder.mkdir()
        raw = RawData(raw_folder, per_class=8)
        for path in sorted(raw_folder.rglob("*")):
            if path.is_file():
                put(f"raw/{path.relative_to(raw_folder)}", path.read_bytes())
        flags = [f"--images={self.root}/raw/{raw.images.name}", f"--byproducts={self.root}/raw/xml", "--workers=1"]
        flags += [f"--classes={self.root}/raw/classes.txt", f"--out={self.root}/data", "--shards=2"]
        for split in ("train", "val"):
            self.run("data_prep", "imagenet_ab", *flags, f"--split={split}")

    def training(self, workdir: str = "run") -> list[str]:
        """Its arguments."""
        config = self.scratch / "config.py"
        config.write_text(CONFIG.format(total_steps=TOTAL_STEPS))
        return [f"--config={config}", f"--workdir={self.root}/{workdir}", f"--config.data.root={self.root}/data"]

    def train_killed_and_resumed(self, *, num_hosts: int) -> None:
        """Killed while it saves, by every host at once; the same command resumes on one host."""
        program = ("-c", KILLED.format(step=KILLED_AT))
        self.start(*self.training(), program=program, num_hosts=num_hosts, code=-signal.SIGKILL)
        printed = self.run("luab_jax.main", *self.training())
        assert re.search(rf"resuming from step [24] of {TOTAL_STEPS}", printed), printed

    def train(self) -> None:
        """Without a stop."""
        self.run("luab_jax.main", *self.training())

    def use(self) -> None:
        """All that comes after a training."""
        evaluate = ["--suites=imagenet,byproduct", f"--data={self.root}/data", "--batch_size=8"]
        kept = f"{self.root}/predictions"
        results, again = f"{self.root}/results.json", f"{self.root}/again.json"
        run = f"--checkpoint={self.root}/run"
        cache = f"--cache={self.scratch}/cache:1GB"
        self.run("luab_jax.evaluate", run, *evaluate, f"--out={results}", f"--predictions={kept}", cache)
        self.run("luab_jax.evaluate", f"--checkpoint=predictions:{kept}", *evaluate, f"--out={again}")
        self.run("luab_jax.export", run, f"--out={self.root}/weights.safetensors")
        self.run("luab_jax.report", results, f"--out={self.root}/report.html")
        self.run("data_prep", "verify", f"{self.root}/data", "--workers=1")
        self.run("data_prep", "inspect", f"{self.root}/data", f"--html={self.root}/gallery.html", "--workers=1")

    def outcome(self, read: Callable[[str], bytes]) -> Outcome:
        """What must be the same whatever the root is."""
        lines = [json.loads(line) for line in read("run/metrics.jsonl").decode().splitlines()]
        timeless = [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]
        suites = json.loads(read("results.json"))["suites"]
        return Outcome(
            shards={name: read(f"data/{name}") for name in _shards(read)},
            metrics={int(line["step"]): line for line in timeless if "train/loss" in line},
            scores={name: {k: v for k, v in suite.items() if k != "seconds"} for name, suite in suites.items()},
            weights=read("weights.safetensors"),
        )


@dataclass
class Outcome:
    """Of a road."""

    shards: dict[str, bytes]
    metrics: dict[int, dict[str, float]]
    scores: dict[str, Any]
    weights: bytes


def _shards(read: Callable[[str], bytes]) -> list[str]:
    names: list[str] = []
    for split in ("train", "val"):
        manifest = json.loads(read(f"data/{split}.manifest.json"))
        names += [shard["file_name"] for shard in manifest["shards"]] + [f"{split}.index.npz"]
    return names
