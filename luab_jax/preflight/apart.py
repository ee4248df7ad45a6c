"""Compiles in a child process and reports its crash in one line.

The TPU compiler has ended its process by SIGSEGV in one of its own threads, after 5 minutes on one machine and 31 on a
busy one. Python cannot catch that, and all other experiments of a table would be lost with it. The child loads jax and
lowers the step again, which takes seconds where compiling takes minutes. What is cached needs no child.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from etils import epath

from luab_jax.config import Config
from luab_jax.data.worker import Failure
from luab_jax.errors import CompilerError
from luab_jax.io.atomic import write_bytes
from luab_jax.io.console import format_seconds
from luab_jax.preflight.compiler_process import FACTS, FAILURE, Request
from luab_jax.preflight.facts import CUDA_PLUGIN, Facts, program_hash, read_facts, versions, wait_until
from luab_jax.preflight.gpus import parse_gpus

COMMAND = (sys.executable, "-m", "luab_jax.preflight.compiler_process")
_LAST_BYTES = 1 << 20
"""Of what a compiler that crashed printed."""


class CompilerApart:
    """A `Compiler` for one experiment."""

    def __init__(self, config: Config, topology: str, num_classes: int | None, num_examples: int | None):
        self._config, self._topology = config, topology
        self._counts = num_classes, num_examples
        self._kind = "TPU" if parse_gpus(topology) is None else "GPU"

    def __call__(self, lowered: Any, title: str, crashes: epath.Path | None) -> tuple[Facts, bytes | None]:
        """Raises `CompilerError` where the compiler crashes or fails."""
        start = time.monotonic()
        program = program_hash(lowered, self._topology)  # the child lowers anew: absent devices cannot be sent
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as printed:
            request = Request(title, program, self._config, self._topology, *self._counts, folder)
            with _compiler_process(request, printed) as child:
                wait_until(lambda seconds: _has_ended(child, seconds), title)
                code = child.returncode
            found = read_facts(epath.Path(folder) / FACTS)
            if found is not None:
                return found
            failure = Path(folder) / FAILURE
            if failure.is_file():
                raise _error_of(Failure(**json.loads(failure.read_text(encoding="utf-8"))), title, self._kind)
            seconds = time.monotonic() - start
            content = _tail(printed)
        kept = crashes if content else None
        if kept is not None:
            write_bytes(kept, content, make_folder=True)
        when = f"after {format_seconds(seconds)}, compiling {title}"
        raise CompilerError(_crash_message(code, when, content, kept, self._kind))


@contextlib.contextmanager
def _compiler_process(request: Request, printed: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A child, which is killed where this process is interrupted, and ends by itself where it is killed."""
    child = subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=printed,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        process_group=0,  # the terminal's Ctrl-C goes to this process alone
    )
    assert child.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it is gone already; its exit code says why
            child.stdin.write(request.to_line())
            child.stdin.flush()
        yield child
    finally:
        child.kill()
        child.wait()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()


def _has_ended(child: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _error_of(failure: Failure, title: str, kind: str) -> Exception:
    error = failure.error()
    if not isinstance(error, CompilerError):
        return error
    return CompilerError(f"the {kind} compiler failed on {title} ({error}); {_remedy(kind)}")


def _tail(printed: IO[bytes]) -> bytes:
    """Of what the compiler printed: the stack of a crash is among it, for a report of the fault."""
    printed.seek(max(0, printed.seek(0, os.SEEK_END) - _LAST_BYTES))
    return printed.read()


def _crash_message(code: int, when: str, content: bytes, kept: epath.Path | None, kind: str) -> str:
    more = "" if kept is None else f"; what it printed is in {kept}"
    if code == -signal.SIGKILL:
        return (
            f"the {kind} compiler was killed {when} (SIGKILL is what the system sends when memory runs out): run it"
            f" beside fewer programs, or on a machine with more memory{more}"
        )
    if code < 0:
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        return f"the {kind} compiler crashed ({name}) {when}; {_remedy(kind)}{more}"
    last = " ".join(content.decode(errors="replace").strip().splitlines()[-1:])[:300] or "it printed nothing"
    return f"the process of the {kind} compiler ended with exit code {code} {when} ({last}){more}"


def _remedy(kind: str) -> str:
    package = "libtpu" if kind == "TPU" else CUDA_PLUGIN
    version = versions()[package] or "(not installed)"
    remedy = f"this may be a fault of {package} {version}: try another topology, batch or {package}"
    return remedy if kind == "TPU" else f"{remedy}; --what=roofline needs no compiler"
