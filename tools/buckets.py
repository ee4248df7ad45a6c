"""Walks the whole road in buckets of the emulators, and shows what failing requests do: `python -m tools.buckets`.

Printed are every command with its exit code, time and requests; whether shards, losses, scores and weights are those of
a disk; and a table of faults. The exit code is 1 if they differ by more than `TOLERANCE`. Needs gcsfs, s3fs and moto
(extra `test`). Minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

import numpy as np
from absl import flags

from data_prep.argument_types import positive
from luab_jax.io import retries
from tests.emulators import emulated
from tests.emulators.faults import Fault
from tools.bucket_road import Outcome, Road

TOLERANCE = 1e-4
"""Of losses (relative), scores and weights: on other numbers of hosts sums are added up in another order."""
FAULTS: dict[str, tuple[float, Callable[[], list[Fault]]]] = {
    "none": (0.0, list),
    "every 5th request: 503": (0.0, lambda: [Fault("status", 503, every=5)]),
    "every 5th request: 429": (0.0, lambda: [Fault("status", 429, every=5)]),
    "every 5th connection lost": (0.0, lambda: [Fault("reset", every=5)]),
    "every 5th answer cut short": (0.0, lambda: [Fault("cut", every=5, matching="^GET")]),
    "50 ms a request": (0.05, list),
    "2 s a request": (2.0, list),
    "every request: 503": (0.0, lambda: [Fault("status", 503)]),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemes", default="gs,s3")
    parser.add_argument("--hosts", type=positive, default=2, help="on which the training is killed")
    arguments = parser.parse_args()
    schemes = arguments.schemes.split(",")
    if unknown := [scheme for scheme in schemes if scheme not in ("gs", "s3")]:
        parser.error(f"no emulator of {', '.join(map(repr, unknown))}")
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("LUAB_JAX_TEST_CACHE", f"{scratch}/compiled")
        expected = on_disk(Path(scratch, "disk"))
        different = [
            scheme for scheme in schemes if not in_bucket(scheme, Path(scratch, scheme), arguments.hosts, expected)
        ]
    if different:
        print(f"\nDIFFERENT from a disk: {', '.join(different)}")
    return int(bool(different))


def on_disk(scratch: Path) -> Outcome:
    root = scratch / "root"

    def put(name: str, content: bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    scratch.mkdir()
    road = Road(str(root), scratch)
    road.prepare(put)
    road.train()
    road.use()
    print_road("a disk, never stopped", road)
    return road.outcome(lambda name: (root / name).read_bytes())


def in_bucket(scheme: str, scratch: Path, hosts: int, expected: Outcome) -> bool:
    """Whether what comes out is what came out on a disk."""
    scratch.mkdir()
    with emulated(scheme) as (server, bucket):
        road = Road(f"{scheme}://{bucket}", scratch, num_requests=server.behaviour.num_requests)
        road.prepare(lambda name, content: server.put(bucket, name, content))
        road.train_killed_and_resumed(num_hosts=hosts)
        road.use()
        print_road(f"{scheme}://, killed on {hosts} host(s) while saving, resumed on one", road)
        found = road.outcome(server.content(bucket).__getitem__)
        is_same = print_differences(found, expected)
        print_faults(road, server)
    return is_same


def print_road(title: str, road: Road) -> None:
    print(f"\n{title}")
    for done in road.done:
        command = re.sub(rf"{re.escape(road.root)}", "ROOT", done.command)
        command = re.sub(r"--config=\S+", "--config=CONFIG", command)
        requests = f"{done.requests:7,} requests  " if "://" in road.root else ""
        print(f"{done.seconds:7.1f} s  exit {done.code:>2}  {requests}{command}")


def print_differences(found: Outcome, expected: Outcome) -> bool:
    """Whether there is none, rounding apart."""
    losses = [
        abs(found.metrics[step]["train/loss"] - line["train/loss"]) / line["train/loss"]
        for step, line in expected.metrics.items()
    ]
    scores = [abs(a - b) for a, b in zip(_numbers(found.scores), _numbers(expected.scores), strict=True)]
    header = 8 + int.from_bytes(found.weights[:8], "little")  # of safetensors
    weights = [np.frombuffer(of.weights[header:], np.float32) for of in (found, expected)]
    of_weights = float(np.abs(weights[0] - weights[1]).max())
    same_bytes = found.shards == expected.shards
    told = "the same bytes as on the disk" if same_bytes else "DIFFER from those on the disk"
    print(f"shards and index: {told} ({len(expected.shards)} files)")
    print(f"losses of {len(losses)} logged steps: largest relative difference {np.max(losses):.1e}")
    print(f"scores, {len(scores)} numbers: largest difference {np.max(scores):.1e}")
    print(f"weights, {weights[0].size:,} numbers: largest difference {of_weights:.1e}")
    return same_bytes and bool(np.max([*losses, *scores, of_weights]) <= TOLERANCE)  # NaN is not


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for name in sorted(value) for number in _numbers(value[name])]
    if isinstance(value, list):
        return [number for entry in value for number in _numbers(entry)]
    return [float(value)] if isinstance(value, int | float) else []


def print_faults(road: Road, server: Any) -> None:
    """Of `data_prep verify`, which reads every byte of four shards."""
    print(f"\n{'data_prep verify, with':32}{'exit':>5}{'seconds':>9}{'requests':>10}  what was told")
    for name, (latency_s, faults) in FAULTS.items():
        before, start = server.behaviour.num_requests(), time.monotonic()
        retries.forget()
        with server.behaviour.failing(*faults()), server.behaviour.slow(latency_s):
            done = road.attempt("data_prep", "verify", f"{road.root}/data", "--workers=1")
        told = next((line for line in done.printed.splitlines()[::-1] if line.startswith(("storage", "error"))), "")
        requests = server.behaviour.num_requests() - before
        told = told.replace(road.root, "ROOT")
        print(f"{name:32}{done.code:>5}{time.monotonic() - start:>9.1f}{requests:>10}  {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
