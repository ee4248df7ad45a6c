"""Hosts as network namespaces of this machine: each has its own address, and can be cut off. Needs root and `ip`."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path


def is_available() -> bool:
    """Whether this process may make namespaces."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"luab{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], check=False)
    return made


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Network:
    """Hosts `NAME0`, `NAME1` ... on one bridge, at 10.77.0.1 and on."""

    def __init__(self, num_hosts: int):
        self.prefix = f"luab{os.getpid() % 10000}h"
        self.hosts = [f"{self.prefix}{number}" for number in range(num_hosts)]
        self._bridge = f"{self.prefix}b"

    @staticmethod
    def address(number: int) -> str:
        return f"10.77.0.{number + 1}"

    @contextlib.contextmanager
    def up(self) -> Iterator[Network]:
        """While it is entered the hosts are there."""
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("link", "set", self._bridge, "up")
            for number, host in enumerate(self.hosts):
                self._add(number, host)
            yield self
        finally:
            for host in self.hosts:
                self.kill(host)
            subprocess.run(["ip", "link", "del", self._bridge], check=False, capture_output=True)

    def _add(self, number: int, host: str) -> None:
        _ip("netns", "add", host)
        _ip("link", "add", f"{host}v", "type", "veth", "peer", "name", "eth0", "netns", host)
        _ip("link", "set", f"{host}v", "master", self._bridge, "up")
        _ip("-n", host, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        _ip("-n", host, "link", "set", "eth0", "up")
        _ip("-n", host, "link", "set", "lo", "up")
        # The machine's own name is this host's address: gloo tells the others where it is by that.
        hosts = Path("/etc/netns", host, "hosts")
        hosts.parent.mkdir(parents=True, exist_ok=True)
        names = "".join(f"{self.address(i)} {name}\n" for i, name in enumerate(self.hosts))
        hosts.write_text(f"127.0.0.1 localhost\n{self.address(number)} {socket.gethostname()}\n{names}")

    def processes(self, host: str) -> list[int]:
        found = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True, check=False)
        return [int(word) for word in found.stdout.split()]

    def cut_off(self, host: str) -> None:
        """The cable is pulled: no connection is closed, nothing answers any more."""
        _ip("link", "set", f"{host}v", "down")

    def kill(self, host: str) -> None:
        """All its processes, at once; then it does not answer, and is gone."""
        for process in self.processes(host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)
        shutil.rmtree(Path("/etc/netns", host), ignore_errors=True)
