#!/usr/bin/env python3
"""Runs a training on several hosts, and again on those that are left when one is lost.

    python launch/elastic.py --hosts=a,b,c,d --on='ssh {host}' --devices_per_host=8 -- \\
      python -m luab_jax.main --config=vit_b --workdir=/shared/runs/vit_b --config.data.root=/shared/data

Every host runs the command with its number and the address of the first one. If all end with 0, so does this program;
exit code 1 or 2 of any host ends it too, as its message names something to fix. After anything else (exit code 3, a
killed process, a host that cannot be reached) the hosts that still answer start again, at most --max_restarts times.
Behind `ssh` every word of the command is quoted, so that it arrives as it was given; what the host's shell is to read,
as `cd DIR;` or `${NAME}`, stands at the end of --on.
SIGTERM and Ctrl-C are handed on as SIGTERM; nothing starts again after them, and the exit code is 3.

The global batch stays, so it must divide by hosts x devices x config.accumulation_steps: of the hosts that answer, the
largest number that divides is taken. Exit codes: those of the training; 3 if no host or no number of them is left.
"""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from luab_jax.config.flags import load_config
from luab_jax.errors import UserError

RESUMABLE = 3
_PROBE_S = 20.0


def say(text: str) -> None:
    print(f"elastic: {text}", file=sys.stderr, flush=True)


def divisor(command: Sequence[str]) -> int:
    """Of what hosts x devices must be a divisor: the batch of a microstep, from the training's own arguments."""
    overrides = [word for word in command if word.startswith("--config.")]
    name = next((word.removeprefix("--config=") for word in command if word.startswith("--config=")), None)
    if name is None:
        raise UserError("the command has no --config=...")
    config = load_config(name, [word for word in overrides if not word.startswith("--config.distributed.")])
    return config.batch_size // config.accumulation_steps


def fitting(available: int, devices_per_host: int, batch: int) -> int:
    """The largest number of hosts, at most `available`, whose devices divide the batch; 0 if none does."""
    return next((n for n in range(available, 0, -1) if batch % (n * devices_per_host) == 0), 0)


class Hosts:
    """One process per host, started by the prefix `on`."""

    def __init__(self, on: str, command: Sequence[str], address: str, port: int):
        self._on, self._command, self._address, self._port = on, list(command), address, port

    def words(self, host: str, command: Sequence[str]) -> list[str]:
        """What runs a command there. ssh hands one line to a shell, for which the words are quoted."""
        prefix = [word.replace("{host}", host) for word in shlex.split(self._on)]
        over_ssh = bool(prefix) and Path(prefix[0]).name == "ssh"
        return [*prefix, *(map(shlex.quote, command) if over_ssh else command)]

    def answers(self, host: str) -> bool:
        try:
            return subprocess.run(self.words(host, ["true"]), timeout=_PROBE_S, check=False).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False

    def start(self, hosts: Sequence[str], attempt: int) -> list[subprocess.Popen[bytes]]:
        """The port changes with every attempt: the one before may not be free yet."""
        address = f"{self._address.replace('{host}', hosts[0])}:{self._port + attempt}"
        described = [f"--config.distributed.coordinator_address={address}"]
        described.append(f"--config.distributed.num_processes={len(hosts)}")
        if len(hosts) == 1:
            described.clear()
        processes = []
        for number, host in enumerate(hosts):
            own = [f"--config.distributed.process_id={number}"] if described else []
            processes.append(subprocess.Popen(self.words(host, [*self._command, *described, *own])))
        return processes


def stopped() -> int:
    say("stopped; the same command resumes")
    return RESUMABLE


class Stop:
    """Hands SIGTERM and Ctrl-C on as SIGTERM to what was started, which saves and ends; nothing starts afterwards."""

    def __init__(self) -> None:
        self.asked = False
        self._processes: Sequence[subprocess.Popen[bytes]] = ()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._forward)

    def _forward(self, number: int, frame: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait
        self._tell()

    def _tell(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def wait(self, processes: Sequence[subprocess.Popen[bytes]]) -> list[int]:
        """Exit codes."""
        self._processes = processes
        if self.asked:  # while they were being started
            self._tell()
        return [process.wait() for process in processes]


def run(arguments: argparse.Namespace) -> int:
    stop = Stop()
    known = arguments.hosts.split(",")
    batch = divisor(arguments.command)
    hosts = Hosts(arguments.on, arguments.command, arguments.address, arguments.port)
    for attempt in range(arguments.max_restarts + 1):
        answering = [host for host in known if not stop.asked and hosts.answers(host)]
        if stop.asked:
            return stopped()
        number = fitting(len(answering), arguments.devices_per_host, batch)
        if not number:
            say(f"{len(answering)} of {len(known)} hosts answer, and no number of them divides the batch of {batch}")
            return RESUMABLE
        chosen = answering[:number]
        lost = ", ".join(host for host in known if host not in answering)
        say(f"{number} of {len(known)} hosts: {', '.join(chosen)}{f'; no answer from {lost}' if lost else ''}")
        codes = stop.wait(hosts.start(chosen, attempt))
        if not any(codes):
            return 0
        if stops := [code for code in codes if code in (1, 2)]:
            return stops[0]
        say(f"exit codes {', '.join(f'{host} {code}' for host, code in zip(chosen, codes, strict=True))}")
        if stop.asked:
            return stopped()
        if arguments.once:
            return RESUMABLE
        time.sleep(arguments.pause_s)
    say(f"gave up after {arguments.max_restarts} restarts; the same command resumes")
    return RESUMABLE


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], usage="%(prog)s --hosts=A,B [options] -- COMMAND"
    )
    parser.add_argument("--hosts", required=True, help="names, the first one first, separated by commas")
    parser.add_argument(
        "--on",
        default="ssh {host}",
        help="what runs a command on a host; empty for this machine. Behind ssh the words of the command are quoted",
    )
    parser.add_argument("--address", default="{host}", help="of a host, as the others reach it")
    parser.add_argument("--port", type=int, default=8476, help="of the first host; one more for each restart")
    parser.add_argument("--devices_per_host", type=int, default=8)
    parser.add_argument("--max_restarts", type=int, default=20)
    parser.add_argument("--pause_s", type=float, default=5.0, help="before a restart")
    parser.add_argument("--once", action="store_true", help="do not restart")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args(argv)
    arguments.command = [word for word in arguments.command if word != "--"] if arguments.command else []
    if not arguments.command:
        parser.error("no command after --")
    if not re.fullmatch(r"[^,]+(,[^,]+)*", arguments.hosts) or arguments.devices_per_host < 1:
        parser.error("--hosts=A,B,C and --devices_per_host of 1 or more")
    try:
        return run(arguments)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return stopped()


if __name__ == "__main__":
    sys.exit(main())
