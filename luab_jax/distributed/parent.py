"""The parent of a host's process: it turns how that process ended into one line and an exit code.

jax aborts every host whose coordination service is gone, as when the first host is lost: SIGABRT, after a page of C++
frames. A process cannot survive that: jaxlib 0.10 cannot pass the error to a callback written in Python, and its
`jax_enable_recoverability` aborts as well. So a command of several hosts runs in a child of the process that was
started, and the parent has the last word. It loads no jax, and passes SIGTERM on; Ctrl-C reaches both.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import IO

from luab_jax.errors import ExitCode

_VARIABLE = "LUAB_JAX_PARENT"
"""Of the environment of a child: the process of its parent."""
_ABORTS = (b"JAX distributed service detected fatal errors", b"Polled an error from coordination service")
"""In the line with which jax begins to say that it aborts."""
_HELD_LINES = 500
_PR_SET_PDEATHSIG = 1
_AGAIN = "Start the same command on all hosts again; it resumes from what was saved"


def is_parent() -> bool:
    """Whether a user started this process, without `environment_of_child`. A child ends with its parent hereafter."""
    parent = os.environ.pop(_VARIABLE, None)
    if parent is None:
        return True
    with contextlib.suppress(OSError, AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it was gone before
        os._exit(ExitCode.STOPPED_RESUMABLE)
    return False


def environment_of_child() -> dict[str, str]:
    """For a process that calls `is_parent` and is not to outlive this one."""
    return os.environ | {_VARIABLE: str(os.getpid())}


def watch(module: str, arguments: Sequence[str]) -> ExitCode:
    """Runs `python -m MODULE ARGUMENTS` in a child, prints what it prints, and says how it ended if it cannot."""
    command = [sys.executable, "-m", module, *arguments]
    with _signals() as pass_on, subprocess.Popen(command, env=environment_of_child(), stderr=subprocess.PIPE) as child:
        pass_on.append(child)
        assert child.stderr is not None
        relay = _Relay(child.stderr)
        code = child.wait()
        relay.join()
    return _verdict(code, relay)


class _Relay(threading.Thread):
    """Prints the lines of a child's stderr, but for what jax says when it aborts, which is held."""

    def __init__(self, stream: IO[bytes]):
        super().__init__(daemon=True, name="relay")
        self._stream = stream
        self.held: list[bytes] = []
        self.host = ""
        """`2 of 4`, as soon as the hosts have met."""
        self.last_error = ""
        self.start()

    def run(self) -> None:
        for line in self._stream:
            if found := re.match(rb"host (\d+ of \d+) is here", line):
                self.host = found[1].decode()
            if line.startswith(b"error: "):
                self.last_error = line.decode(errors="replace").rstrip()
            if self.held or any(words in line for words in _ABORTS):
                self.held = [*self.held, line][:_HELD_LINES]
            else:
                _print(line)


def _print(line: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        sys.stderr.write(line.decode(errors="replace"))
        sys.stderr.flush()


def _verdict(code: int, relay: _Relay) -> ExitCode:
    aborted = code == -signal.SIGABRT and bool(relay.held)
    if not aborted:
        for line in relay.held:
            _print(line)
    if code >= 0:
        return ExitCode(code) if code in list(ExitCode) else ExitCode.FAILED
    number, _, num_hosts = relay.host.partition(" of ")
    if aborted:
        # On the first host, which keeps the store, jax says so only because of another one.
        lost = "another host was" if number == "1" else f"host 1{f' of {num_hosts}' if num_hosts else ''} was"
        return _last(ExitCode.STOPPED_RESUMABLE, relay.last_error or f"error: {lost} lost. {_AGAIN}")
    name = signal.Signals(-code).name
    this = f"the process of host {relay.host}" if relay.host else "the process"
    if code == -signal.SIGKILL:
        why = "SIGKILL, as by the kernel where memory runs out: see dmesg"
        return _last(ExitCode.STOPPED_RESUMABLE, f"error: {this} was killed ({why}). {_AGAIN}")
    if code in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
        return _last(ExitCode.STOPPED_RESUMABLE, f"error: {this} was ended by {name}. {_AGAIN}")
    return _last(ExitCode.FAILED, f"error: {this} crashed ({name}); what it printed is above")


def _last(code: ExitCode, line: str) -> ExitCode:
    print(line, file=sys.stderr, flush=True)
    return code


@contextlib.contextmanager
def _signals() -> Iterator[list[subprocess.Popen[bytes]]]:
    """SIGTERM goes on to the children that are appended; Ctrl-C, which a terminal sends to them too, is theirs."""
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield children
        return
    before = signal.signal(signal.SIGTERM, pass_on), signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield children
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
