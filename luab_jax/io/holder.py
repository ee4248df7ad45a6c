"""Who holds a lease: the process that wrote its file, and whether it can still be running."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from luab_jax.io import storage
from luab_jax.io.atomic import is_running


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lease, as the file has it."""

    token: str
    host: str
    process: int
    started: str
    """For people; nothing is computed from it."""
    command: str
    timeout_s: float
    machine: str
    """Equal for processes that can see each other."""
    birth: str
    """Tells a process from a later one of the same number."""

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, started {self.started} ({self.command})"

    def is_gone(self) -> bool:
        """Whether it certainly does not run any more."""
        if self.machine != _machine():
            return False
        state, birth = _process(self.process)
        return state in "XZ" or birth != self.birth

    def runs_here(self) -> bool:
        """Whether it certainly runs; one that is stopped (SIGSTOP, Ctrl-Z) may never continue."""
        return self.machine == _machine() and not self.is_gone() and _process(self.process)[0] not in "Tt"


def this_process(token: str, timeout_s: float) -> Holder:
    return Holder(
        token=token,
        host=socket.gethostname(),
        process=os.getpid(),
        started=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        command=_command(),
        timeout_s=timeout_s,
        machine=_machine(),
        birth=_process(os.getpid())[1],
    )


def read_holder(path: str, timeout_s: float) -> Holder | None:
    """The holder; of a file that is none an unknown one, which gives no sign of life. None if there is no file.

    `timeout_s` is that of a file that states none.
    """
    try:
        content = storage.read_all(path)
    except FileNotFoundError:
        return None
    try:
        values = json.loads(content)
        texts = {
            name: _one_line(str(values[name])) for name in ("token", "host", "started", "command", "machine", "birth")
        }
        return Holder(**texts, process=int(values["process"]), timeout_s=float(values["timeout_s"]))
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return Holder(
            token=content.hex()[:64],
            host="an unknown host",
            process=0,
            started="at an unknown time",
            command=f"{path} cannot be read",
            timeout_s=timeout_s,
            machine="",
            birth="",
        )


def _machine() -> str:
    """Of this boot and this container."""
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(facts)


def _process(number: int) -> tuple[str, str]:
    """State and start of a process of this machine, as in proc(5): `Z` of a dead one, and `X` where there is none."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        has_proc = Path("/proc/self/stat").exists()
        return ("R", "") if not has_proc and is_running(number) else ("X", "")


def _command() -> str:
    """As it was typed, without passwords."""
    words = list(sys.orig_argv)
    for i, word in enumerate(words):
        if word.startswith("--password="):
            words[i] = "--password=..."
        elif word == "--password" and i + 1 < len(words):
            words[i + 1] = "..."
    return _one_line(shlex.join(words))


def _one_line(text: str) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= 300 else f"{text[:297]}..."
